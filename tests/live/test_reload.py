"""SIGHUP: the configuration is read again, and what needs no restart holds from then on. No connection is dropped."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.processes import children, eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.wire import Wire, decode, pipeline
from tests.support.worker_clients import one_of_each

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
DEFAULT = '[[users]]\nname = "default"\nnopass = true\n'
BOSS = '[[users]]\nname = "boss"\npassword = "of-boss"\nadmin = true\n'
APP = '[[users]]\nname = "app"\npassword = "{}"\n{}'


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    with start_many(2, 0, binary=binary) as started:
        yield started


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def proxy(shards: LocalShards, serve: Serve, request: pytest.FixtureRequest) -> ProxyProcess:
    return serve("--static", shards.static, "--workers", str(request.param), config=DEFAULT)


def test_users(proxy: ProxyProcess) -> None:
    """New ones, other passwords and rules, and those that are gone: for clients that are connected too."""
    with Wire(proxy.address) as bystander, Wire(proxy.address) as client, Wire(proxy.address) as other:
        assert client.ask("AUTH", "app", "one").startswith(b"-WRONGPASS")
        proxy.reload(DEFAULT + APP.format("one", ""))
        assert eventually(lambda: client.ask("AUTH", "app", "one") == OK)
        assert eventually(lambda: other.ask("AUTH", "app", "one") == OK)
        assert client.ask("SET", "k", "v") == OK
        proxy.reload(DEFAULT + APP.format("two", 'rules = "+@all ~other:*"'))
        assert eventually(lambda: client.ask("GET", "k").startswith(b"-NOPERM"))
        assert eventually(lambda: other.ask("GET", "k").startswith(b"-NOPERM"))
        assert client.ask("SET", "other:k", "v") == OK
        with Wire(proxy.address) as late:
            assert late.ask("AUTH", "app", "one").startswith(b"-WRONGPASS")
            assert late.ask("AUTH", "app", "two") == OK
        proxy.reload(DEFAULT)
        assert client.closed()
        assert other.closed()
        assert bystander.ask("GET", "k") == b"$1\r\nv\r\n"
    assert "configuration changed key=users holds='at once'" in proxy.log


def test_users_that_were_changed_by_an_admin_stay(shards: LocalShards, serve: Serve) -> None:
    """Until the configuration itself has other users: SIGHUP is also sent to have the audit log opened again."""
    for workers in (1, 2):
        proxy = serve("--static", shards.static, "--workers", str(workers), config=DEFAULT + BOSS)
        with Wire(proxy.address) as boss, Wire(proxy.address) as client:
            assert boss.ask("AUTH", "boss", "of-boss") == OK
            assert boss.ask("ACL", "SETUSER", "made", "on", ">by-hand", "+@all", "~*") == OK
            proxy.reload(DEFAULT + BOSS + '[log]\nlevel = "debug"\n')
            for _ in range(8):
                with Wire(proxy.address) as other:
                    assert other.ask("AUTH", "made", "by-hand") == OK
            proxy.reload(DEFAULT + BOSS + APP.format("one", ""))
            assert eventually(lambda client=client: client.ask("AUTH", "app", "one") == OK)  # type: ignore[misc]
            assert client.ask("AUTH", "made", "by-hand").startswith(b"-WRONGPASS")


def test_an_aclfile(shards: LocalShards, serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text("user default on nopass +@all ~* &*\n")
    config = f'aclfile = "{file}"\n'
    proxy = serve("--static", shards.static, config=config)
    with Wire(proxy.address) as client:
        file.write_text("user default on nopass +@all ~* &*\nuser late on >in-the-file +@all ~* &*\n")
        proxy.reload(config)
        assert "configuration changed key=users holds='at once'" in proxy.log
        assert eventually(lambda: client.ask("AUTH", "late", "in-the-file") == OK)
        file.write_text("user default on nopass +nosuch\n")
        proxy.reload(config)
        assert "configuration not reloaded" in proxy.log
        assert client.ask("ACL", "WHOAMI") == b"$4\r\nlate\r\n"


def test_limits_of_users(proxy: ProxyProcess) -> None:
    proxy.reload(DEFAULT + APP.format("one", ""))
    with Wire(proxy.address) as client:
        assert eventually(lambda: client.ask("AUTH", "app", "one") == OK)
        client.send(pipeline(*[("PING",)] * 200))
        assert set(client.replies(200)) == {b"+PONG\r\n"}
        proxy.reload(DEFAULT + APP.format("one", 'max_command_rate = 20\non_limit = "refuse"\n'))

        def limited() -> bool:
            client.send(pipeline(*[("PING",)] * 200))
            return any(b"over its limit of 20 commands/s" in reply for reply in client.replies(200))

        assert eventually(limited)
        proxy.reload(DEFAULT + APP.format("one", "max_clients = 1\n"))
        assert eventually(lambda: not limited())

        def turned_away() -> bool:
            with Wire(proxy.address) as second:
                return second.ask("AUTH", "app", "one").startswith(b"-ERR max number of clients reached for user")

        # Each worker counts its own clients.
        assert eventually(turned_away)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_log_and_what_needs_a_restart(shards: LocalShards, serve: Serve, workers: int) -> None:
    quiet = DEFAULT + '[log]\nlevel = "error"\n'
    proxy = serve("--static", shards.static, "--workers", str(workers), config=quiet)
    with Wire(proxy.address) as client:
        assert client.ask("AUTH", "x", "y").startswith(b"-WRONGPASS")
        assert "login failed" not in proxy.log
        proxy.reload(f'drain_timeout = "3s"\ncross_slot = "reject"\n{DEFAULT}[log]\nformat = "json"\n')
        assert "configuration changed key=log.level holds='at once'" in proxy.log
        assert "configuration changed key=drain_timeout holds='at once'" in proxy.log
        for key in ("cross_slot", "log.format"):
            assert f"WARNING configuration changed key={key} holds='after a restart'" in proxy.log
        assert "configuration reloaded changed=4" in proxy.log
        assert client.ask("MSET", "a", 1, "b", 2) == OK  # as before

        def said() -> bool:
            client.ask("AUTH", "x", "y")
            return "login failed" in proxy.log

        assert eventually(said)


NOT_RIGHT = (
    ("listen = [", "problem="),
    (DEFAULT + "drain_timeuot = 3\n", "drain_timeuot"),
    (DEFAULT + APP.format("one", 'rules = "+nosuch"'), "key=users[1].rules"),
    (DEFAULT + "[limits]\nmax_clients = 0\n", "key=limits.max_clients"),
)


def test_a_file_that_is_not_right_changes_nothing(proxy: ProxyProcess) -> None:
    proxy.reload(DEFAULT + APP.format("kept", ""))
    with Wire(proxy.address) as client:
        assert eventually(lambda: client.ask("AUTH", "app", "kept") == OK)
        assert metric(proxy, "slotgate_config_last_reload_successful") == 1
        when = metric(proxy, "slotgate_config_last_reload_timestamp_seconds")
        assert abs(when - time.time()) < 120
        for text, said in NOT_RIGHT:
            proxy.reload(text)
            assert "configuration not reloaded, nothing is changed" in proxy.log
            assert said in proxy.log
            assert metric(proxy, "slotgate_config_last_reload_successful") == 0
            assert metric(proxy, "slotgate_config_last_reload_timestamp_seconds") == when
            assert client.ask("GET", "k") != b""
            with Wire(proxy.address) as late:
                assert late.ask("AUTH", "app", "kept") == OK
        proxy.reload(DEFAULT)
        assert metric(proxy, "slotgate_config_last_reload_successful") == 1
        assert client.closed()


@pytest.mark.parametrize("workers", [1, 2])
def test_as_a_command(shards: LocalShards, serve: Serve, workers: int) -> None:
    proxy = serve("--static", shards.static, "--workers", str(workers), config=DEFAULT + BOSS)
    with Wire(proxy.address) as boss, Wire(proxy.address) as client:
        assert client.ask("SLOTGATE", "RELOAD").startswith(b"-NOPERM")
        assert boss.ask("AUTH", "boss", "of-boss") == OK
        assert boss.value("SLOTGATE", "RELOAD") == []
        assert boss.ask("SLOTGATE", "RELOAD", "NOW") == b"-ERR syntax error\r\n"
        proxy.file.write_text(f'cross_slot = "reject"\n{DEFAULT}{BOSS}{APP.format("one", "")}')
        wanted = [b"cross_slot: after a restart", b"users: at once"]
        for _ in range(2):
            assert boss.value("SLOTGATE", "RELOAD", "DRYRUN") == wanted
        assert client.ask("AUTH", "app", "one").startswith(b"-WRONGPASS")
        boss.send(pipeline(("SLOTGATE", "RELOAD"), ("PING",)))
        assert [decode(reply) for reply in boss.replies(2)] == [wanted, b"PONG"]
        assert eventually(lambda: client.ask("AUTH", "app", "one") == OK)
        # What needs a restart is said until there was one.
        assert boss.value("SLOTGATE", "RELOAD") == wanted[:1]
        proxy.file.write_text("[[users]]\nname = 3\n")
        refused = boss.ask("SLOTGATE", "RELOAD")
        assert refused.startswith(b"-ERR the configuration is not reloaded, nothing is changed: users[0].name: ")
        assert boss.ask("PING") == b"+PONG\r\n"


def test_the_password_of_the_servers(serve: Serve, binary: ServerBinary) -> None:
    """It is changed at the servers, then here, and then the old one is taken away: no client sees an error."""
    backend = '[backend]\nusername = "proxy"\npassword = "{}"\n'
    with start_many(2, 0, binary=binary) as shards:
        for server in shards.primaries:
            server.ask("ACL", "SETUSER", "proxy", "on", ">first", "~*", "&*", "+@all")
        proxy = serve("--static", shards.static, config=DEFAULT + backend.format("first"))
        errors: list[bytes] = []
        stop = threading.Event()

        def load() -> None:
            with Wire(proxy.address) as client:
                for number in itertools.count():
                    if stop.is_set():
                        return
                    reply = client.ask("SET", f"k{number % 100}", number)
                    if reply != OK:
                        errors.append(reply)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for server in shards.primaries:
                server.ask("ACL", "SETUSER", "proxy", ">second")
            proxy.reload(DEFAULT + backend.format("second"))
            for server in shards.primaries:
                server.ask("ACL", "SETUSER", "proxy", "<first")
                server.ask("CLIENT", "KILL", "USER", "proxy")
            time.sleep(1)
        finally:
            stop.set()
            thread.join()
        assert set(errors) <= {reply for reply in errors if reply.startswith(b"-UNCERTAIN")}, errors[:3]
        assert "key=backend.password holds='for new connections'" in proxy.log
        with Wire(proxy.address) as client:
            assert client.ask("DBSIZE") == b":100\r\n"


def test_a_worker_that_starts_later_has_it_too(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, "--workers", "2", config=DEFAULT)
    proxy.reload(DEFAULT + APP.format("one", ""))
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(proxy.pid)}
    os.kill(next(pid for pid, name in names.items() if b"slotgate-worker-1" in name), signal.SIGKILL)
    assert eventually(lambda: metric(proxy, "slotgate_worker_restarts_total") == 1)
    assert eventually(lambda: proxy.http("/readyz")[0] == 200)
    with ExitStack() as stack:
        for client in one_of_each(proxy.address, stack):
            assert client.ask("AUTH", "app", "one") == OK


def test_a_worker_that_starts_meanwhile_has_it_too(shards: LocalShards, serve: Serve) -> None:
    """It was told the configuration of before, and can not take another one yet. (The end looks for tracebacks.)"""
    proxy = serve("--static", shards.static, "--workers", "2", config=DEFAULT)
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(proxy.pid)}
    for index in range(2):
        os.kill(next(pid for pid, name in names.items() if b"slotgate-worker-%d" % index in name), signal.SIGKILL)
    for number in range(3):
        time.sleep(0.1)
        proxy.reload(DEFAULT + APP.format(f"number-{number}", ""))
    assert eventually(lambda: proxy.http("/readyz?all")[0] == 200, 20)
    with ExitStack() as stack:
        for client in one_of_each(proxy.address, stack):
            assert eventually(lambda client=client: client.ask("AUTH", "app", "number-2") == OK)  # type: ignore[misc]
            assert client.ask("AUTH", "app", "number-1").startswith(b"-WRONGPASS")


def test_a_user_of_the_servers_that_is_gone(serve: Serve, binary: ServerBinary) -> None:
    """Its connections are there for a while, and are lost. (The end looks for tracebacks.)"""
    with start_many(1, 0, binary=binary) as shards:
        (server,) = shards.primaries
        server.ask("ACL", "SETUSER", "at", "on", ">of-at", "~*", "&*", "+@all")
        at = APP.format("one", 'backend_user = "at"\nbackend_password = "of-at"\n')
        proxy = serve("--static", shards.static, config=DEFAULT + at)
        with Wire(proxy.address) as client, Wire(proxy.address) as bystander:
            assert client.ask("AUTH", "app", "one") == OK
            assert client.ask("SET", "k", "v") == OK
            proxy.reload(DEFAULT)
            assert client.closed()
            for _ in range(3):
                assert isinstance(server.ask("CLIENT", "KILL", "USER", "at"), int)
                time.sleep(0.3)
            assert bystander.ask("GET", "k") == b"$1\r\nv\r\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_is_watched(shards: LocalShards, serve: Serve, tmp_path: Path, workers: int) -> None:
    """Also as Kubernetes replaces it: the name leads to another file."""
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
    head = "watch_config = true\n"
    one, two = tmp_path / "1" / "slotgate.toml", tmp_path / "2" / "slotgate.toml"
    one.write_text(head + DEFAULT)
    two.write_text(head + DEFAULT + APP.format("one", ""))
    proxy = serve("--static", shards.static, "--workers", str(workers), config=head + DEFAULT)
    with Wire(proxy.address) as client:
        for target in (one, two):
            link = tmp_path / "link"
            link.symlink_to(target)
            link.replace(proxy.file)
            assert eventually(lambda: proxy.log.count("configuration reloaded") > (target is two), 20)  # noqa: B023
        assert eventually(lambda: client.ask("AUTH", "app", "one") == OK)


@pytest.mark.parametrize("workers", [1, 2])
def test_limits_of_clients(shards: LocalShards, serve: Serve, workers: int) -> None:
    """Those that were off are on for clients that are connected, too, and off again."""
    proxy = serve("--static", shards.static, "--workers", str(workers), config=DEFAULT)
    with Wire(proxy.address) as idle, Wire(proxy.address) as busy:
        assert busy.ask("SUBSCRIBE", "a")[:2] == b"*3"
        proxy.reload(DEFAULT + '[limits]\nidle_timeout = "1s"\nmax_subscriptions_per_client = 1\n')
        assert busy.ask("SUBSCRIBE", "b").startswith(b"-ERR ")
        assert idle.closed()
        proxy.reload(DEFAULT)
        with Wire(proxy.address) as other:
            assert other.silent(2)
        assert busy.ask("SUBSCRIBE", "b")[:2] == b"*3"
        proxy.reload(DEFAULT + "[limits]\nmax_connection_rate = 2\n")

        def answer(client: Wire) -> bytes:
            with suppress(ConnectionError):
                client.send(b"PING\r\n")
                return client.reply()
            return b""

        def too_many() -> bool:
            with ExitStack() as stack:
                clients = [stack.enter_context(Wire(proxy.address)) for _ in range(30)]
                return any(b"too many new connections" in answer(client) for client in clients)

        assert eventually(too_many)
