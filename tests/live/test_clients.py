"""Real clients of other languages, each through the same session at a plain server and through the proxy.

The sessions (``clients``, ``node``) make a connection, pipelines, transactions, watched keys, scripts, blocking
commands and subscriptions, and print what the library made of each: that is what has to be the same.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.live.nodejs import node
from tests.support.binaries import path_outside_environment
from tests.support.site import Site

pytestmark = [pytest.mark.live, pytest.mark.clients]

SESSIONS = Path(__file__).parent / "clients"
RUN_TIMEOUT = 60
_PHP = "no php with phpredis here (Debian, Ubuntu: apt-get install php-cli php-redis)"
_RUBY = "no ruby with redis-rb here (Debian, Ubuntu: apt-get install ruby ruby-redis)"


def run(command: Sequence[str | Path], address: str, *arguments: str) -> list[str]:
    """The lines that a session prints; asserts that it ends well."""
    host, _, port = address.rpartition(":")
    ended = subprocess.run(
        [*command, host, port, *arguments], capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False
    )
    assert ended.returncode == 0, ended.stdout[-1000:] + ended.stderr
    return ended.stdout.splitlines()


def same(site: Site, *command: str | Path, arguments: Sequence[str] = ()) -> None:
    """Compare the session at the plain server with that through the proxy."""
    expected = run(command, site.plain.address, *arguments)
    found = run(command, site.proxy.address, *arguments)
    assert len(expected) > 10
    different = [f"server: {left}\nproxy:  {right}" for left, right in zip_longest(expected, found) if left != right]
    assert not different, "\n".join(different)


def having(program: str, check: Sequence[str], missing: str) -> str:
    """A program of the system that the check succeeds with, or a skipped test."""
    found = shutil.which(program, path=path_outside_environment())
    if found is None or subprocess.run([found, *check], capture_output=True, timeout=20, check=False).returncode:
        pytest.skip(missing)
    return found


def test_phpredis(site: Site) -> None:
    php = having("php", ["-r", "exit((int) !(extension_loaded('redis') && extension_loaded('pcntl')));"], _PHP)
    same(site, php, SESSIONS / "session.php")


def test_redis_rb(site: Site) -> None:
    same(site, having("ruby", ["-e", "require 'redis'"], _RUBY), SESSIONS / "session.rb")


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("session", ["session.py", "session_asyncio.py"])
def test_redis_py(site: Site, session: str, protocol: str) -> None:
    same(site, sys.executable, SESSIONS / session, arguments=[protocol])


@pytest.mark.parametrize("session", ["session_node_redis.js", "session_ioredis.js"])
def test_node(site: Site, installed: Path, session: str) -> None:
    same(site, node(), installed / session)
