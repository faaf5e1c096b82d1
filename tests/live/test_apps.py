"""Applications that are written for one server, unmodified, over three static shards: each with one co-location rule.

They are installed once, and run all at the same time; what they do is in ``apps/``, what
docs/applications.md says of them is what is configured here.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalShards, find_server, start_many
from tests.live import nodejs
from tests.support.installed import install
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire

pytestmark = [pytest.mark.live, pytest.mark.clients, pytest.mark.timeout(300)]

SOURCES = Path(__file__).parent / "apps"
RECIPES = Path(__file__).parents[2] / "docs" / "applications.md"
RUN_TIMEOUT = 90
RULES = 8
"""In the document, with two for Celery and none for Django and socket.io."""
PYTHON_APPS = ("celery", "rq", "huey", "dramatiq", "arq", "channels", "django")
NODE_APPS = ("bullmq", "socketio")


def recipes() -> str:
    """All rules that the document gives, as one configuration."""
    blocks = re.findall(r"```toml\n(.*?)```", RECIPES.read_text(), re.DOTALL)
    # The keys of the top of the file go ahead of all tables.
    blocks = [block for block in blocks if "undeclared_keys" in block or "[[colocate]]" in block]
    whole = "\n".join(sorted(blocks, key=lambda block: "undeclared_keys" not in block))
    assert len(tomllib.loads(whole)["colocate"]) == RULES
    return whole


@pytest.fixture(scope="session")
def python_apps() -> Path:
    """The interpreter of an environment that has the Python applications."""

    def command(directory: Path) -> list[list[str]]:
        pip = ["bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--only-binary=:all:"]
        return [
            [sys.executable, "-m", "venv", "."],
            [*pip, "-r", str(SOURCES / "requirements.txt")],
            [*pip, "--no-deps", "-r", str(SOURCES / "requirements-alone.txt")],
        ]

    return install("apps", SOURCES / "requirements.txt", command) / "bin" / "python"


@pytest.fixture(scope="session")
def node_apps() -> Path:
    """A directory with the applications of package.json."""
    return nodejs.install("apps-node", SOURCES / "package.json")


class Stand:
    """A proxy before three shards, with the document's rules; the applications that run against it."""

    def __init__(self, shards: LocalShards, proxy: ProxyProcess, directory: Path) -> None:
        self.shards = shards
        self.address = proxy.address
        self._directory = directory
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, command: list[str | Path], directory: Path) -> None:
        """Start an application."""
        host, _, port = self.address.rpartition(":")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        with (self._directory / f"{name}.log").open("w") as log:
            self._running[name] = subprocess.Popen(
                [*command, host, port], cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
            )

    def finish(self, name: str) -> None:
        """Wait until it has done all that it does. Raises AssertionError if it can not."""
        process = self._running[name]
        try:
            code = process.wait(RUN_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        said = (self._directory / f"{name}.log").read_text()
        assert code == 0, said[-3000:]
        assert said.endswith("done\n"), said[-3000:]

    def end(self) -> None:
        """End what still runs."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def shards_of(self, part: str) -> Mapping[str, set[int]]:
        """On which shards there are keys that begin as ``part`` says, by the group that it matches."""
        found: dict[str, set[int]] = defaultdict(set)
        for index, server in enumerate(self.shards.primaries):
            keys = server.ask("KEYS", "*")
            assert isinstance(keys, list)
            for key in keys:
                if match := re.match(part, key.decode()):
                    found[match[0]].add(index)
        return found


@pytest.fixture(scope="module")
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """All applications, running."""
    directory = tmp_path_factory.mktemp("apps")
    with start_many(3, 0, binary=find_server()) as shards:
        proxy = ProxyProcess(directory, "--static", shards.static, config=recipes())
        made = Stand(shards, proxy, directory)
        try:
            proxy.start()
            yield made
        finally:
            made.end()
            proxy.kill()


@pytest.fixture(scope="module")
def started(stand: Stand, python_apps: Path) -> Stand:
    """Those in Python."""
    for name in PYTHON_APPS:
        stand.start(name, [python_apps, SOURCES / f"{name}_app.py"], SOURCES)
    return stand


KEYS = {
    "celery": "celery(?!-task-meta)|unacked|_kombu",
    "rq": "rq:(?!job|results)",
    "huey": r"huey\.",
    "dramatiq": "dramatiq",
    "arq": "arq:(?!result)",
    "channels": "asgi",
    "django": "nothing",
}
"""How the keys of each begin that are still there at the end."""


@pytest.mark.parametrize("name", PYTHON_APPS)
def test_it_works_unmodified_and_stays_on_one_shard(started: Stand, name: str) -> None:
    started.finish(name)
    assert len(set().union(*started.shards_of(KEYS[name]).values())) <= 1


@pytest.mark.parametrize("name", NODE_APPS)
def test_it_works_unmodified(stand: Stand, node_apps: Path, name: str) -> None:
    shutil.copy(SOURCES / f"{name}_app.js", node_apps)
    stand.start(name, [nodejs.node(), f"{name}_app.js"], node_apps)
    stand.finish(name)


def test_queues_of_bullmq_spread(stand: Stand, node_apps: Path) -> None:
    queues = stand.shards_of("bull:queue[0-9]+")
    assert len(queues) == 8
    assert all(len(shards) == 1 for shards in queues.values())
    assert set().union(*queues.values()) == {0, 1, 2}


@pytest.mark.parametrize(
    "keys",
    [
        ("celery", "celery\x06\x163", "unacked", "unacked_index", "_kombu.binding.celery"),
        ("1f-2.reply.celery.pidbox", "1f-2.reply.celery.pidbox\x06\x169"),
        ("rq:queue:high", "rq:queue:low", "rq:job:1"),
        ("bull:mail:wait", "bull:mail:active", "bull:mail:"),
        ("huey.redis.mail", "huey.schedule.mail"),
        ("dramatiq", "dramatiq:default", "dramatiq:__heartbeats__"),
        ("arq:queue", "arq:job:1", "arq:result:1"),
        ("asgispecific.1", "asgi:group:all", "asgi"),
    ],
    ids=lambda keys: keys[0],
)
def test_what_the_rules_are_for(stand: Stand, site: Site, keys: tuple[str, ...]) -> None:
    """Together only with the rules; without them nothing is carried out."""
    with Wire(stand.address) as with_rules, site.client() as without:
        assert with_rules.ask("EVAL", "return #KEYS", len(keys), *keys) == b":%d\r\n" % len(keys)
        assert (
            without.ask("EVAL", "return #KEYS", len(keys), *keys)
            == b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
        )
