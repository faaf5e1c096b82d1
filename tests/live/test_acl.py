"""Users and their rules, through a proxy with several workers: what is allowed, how it changes, and what is noted."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from proxy.devservers.servers import LocalShards, find_server, start_many
from proxy.session.passwords import Scrypt
from tests.live.differential.compare import differences
from tests.support.fixtures import Serve
from tests.support.processes import children, eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.site import Site
from tests.support.wire import Wire, decode, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
SLOW = str(Scrypt.of(b"people's", n=2**14))
RULES = (
    "on >r ~app:* %R~shared:* &events:* +@read +@write +@transaction +@pubsub +@scripting +ping -@dangerous (~t:* +get)"
)
USERS = f"""
[limits]
auth_delay_max = "0s"  # the tests fail to log in more often than is allowed without a delay

[[users]]
name = "default"
nopass = true
admin = true
[[users]]
name = "app"
password = "a"
[[users]]
name = "other"
password = "o"
[[users]]
name = "ruled"
rules = "{RULES}"
[[users]]
name = "slow"
password_hash = "{SLOW}"
"""


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """Two shards without replicas."""
    with start_many(2, 0, binary=find_server()) as running:
        yield running


@pytest.fixture
def proxy(shards: LocalShards, serve: Serve) -> ProxyProcess:
    """One worker, with users."""
    return serve("--static", shards.static, config=USERS)


@pytest.fixture
def pair(shards: LocalShards, serve: Serve) -> ProxyProcess:
    """Two workers, with users."""
    return serve("--static", shards.static, "--workers", "2", config=USERS)


def login(proxy: ProxyProcess, user: str, password: str, protocol: int = 2) -> Wire:
    client = Wire(proxy.address)
    answer = client.ask("HELLO", protocol, "AUTH", user, password)
    assert not answer.startswith(b"-"), answer
    return client


def test_what_rules_allow(proxy: ProxyProcess) -> None:
    with login(proxy, "ruled", "r") as client, Wire(proxy.address) as admin:
        assert admin.ask("SET", "shared:1", "s") == OK
        assert client.ask("SET", "app:1", "1") == OK
        assert client.ask("GET", "app:1") == b"$1\r\n1\r\n"
        assert client.ask("GET", "shared:1") == b"$1\r\ns\r\n"
        assert client.ask("GET", "t:1") == b"$-1\r\n"
        assert client.ask("MSET", "app:1", "1", "app:2", "2") == OK
        assert client.ask("EVAL", "return KEYS[1]", "1", "app:1") == b"$5\r\napp:1\r\n"
        no_key = b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"
        for command in (
            ("SET", "shared:1", "x"),
            ("SET", "t:1", "x"),
            ("GET", "secret"),
            ("MGET", "app:1", "secret"),
            ("MSET", "app:1", "1", "secret", "2"),
            ("DEL", *(f"app:{number}" for number in range(3000)), "secret"),
            ("EVAL", "return KEYS[1]", "1", "secret"),
            ("BLPOP", "secret", "0"),
            ("WATCH", "secret"),
        ):
            assert client.ask(*command) == no_key, command[:3]
        assert client.ask("GETDEL", "shared:1") == no_key
        assert client.ask("FLUSHDB").startswith(b"-NOPERM this user has no permissions to run the 'flushdb' command")
        assert client.ask("CLIENT", "LIST").startswith(b"-NOPERM this user has no permissions to run the 'client|list'")
        assert client.ask("SUBSCRIBE", "other") == (
            b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
        )
        assert client.ask("SUBSCRIBE", "events:1").startswith(b"*3\r\n$9\r\nsubscribe")
        assert admin.ask("GET", "shared:1") == b"$1\r\ns\r\n"


def test_transactions(proxy: ProxyProcess) -> None:
    with login(proxy, "ruled", "r") as client, Wire(proxy.address) as admin:
        assert client.ask("MULTI") == OK
        assert client.ask("SET", "app:1", "1") == QUEUED
        assert client.ask("SET", "secret", "1").startswith(b"-NOPERM")
        assert client.ask("EXEC").startswith(b"-EXECABORT")
        client.ask("MULTI")
        assert client.ask("SET", "{app:1}", "1").startswith(b"-NOPERM")
        client.ask("DISCARD")
        client.ask("MULTI")
        for command in (("SET", "app:1", "2"), ("PING",), ("GET", "app:1"), ("INCR", "app:1")):
            assert client.ask(*command) == QUEUED
        assert admin.ask("ACL", "SETUSER", "ruled", "-incr", "-ping") == OK
        denied = b"reason: no permission to execute the command or subcommand\r\n"
        begin = (
            b"-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This "
        )
        no = begin + b"command is no longer allowed for the following " + denied
        assert client.ask("EXEC") == b"*4\r\n" + OK + no + b"$1\r\n2\r\n" + no
        assert admin.ask("GET", "app:1") == b"$1\r\n2\r\n"


def test_what_another_client_queued_is_not_queued_again(proxy: ProxyProcess) -> None:
    """The own fast path repeats a request byte for byte, whoever sent it first."""
    with Wire(proxy.address) as admin, login(proxy, "app", "a") as app:
        for _ in range(3):
            admin.send(pipeline(("MULTI",), ("ACL", "USERS"), ("ACL", "LIST"), ("ACL", "LIST"), ("DISCARD",)))
            assert admin.replies(5) == [OK, QUEUED, QUEUED, QUEUED, OK]
            app.send(pipeline(("MULTI",), ("ACL", "USERS"), ("ACL", "LIST"), ("ACL", "LIST"), ("EXEC",)))
            found = app.replies(5)
            assert [reply[:7] for reply in found] == [OK, b"-NOPERM", b"-NOPERM", b"-NOPERM", b"-EXECAB"]
        admin.send(pipeline(("ACL", "LIST"), ("ACL", "LIST")))
        assert all(reply.startswith(b"*") for reply in admin.replies(2))
        app.send(pipeline(("ACL", "LIST"), ("ACL", "LIST")))
        assert all(reply.startswith(b"-NOPERM") for reply in app.replies(2))


def test_who_becomes_another_user_has_its_rules(proxy: ProxyProcess) -> None:
    """In one pipeline too, where the fast paths are at work."""
    with Wire(proxy.address) as client:
        client.send(
            pipeline(
                ("SET", "secret", "1"),
                ("AUTH", "ruled", "r"),
                ("GET", "secret"),
                ("PING",),
                ("AUTH", "app", "a"),
                ("GET", "secret"),
                ("FLUSHALL",),
                ("RESET",),
                ("ACL", "WHOAMI"),
                ("DEL", "secret"),
            )
        )
        found = [reply[:7] for reply in client.replies(10)]
        assert found[:5] == [OK, OK, b"-NOPERM", b"+PONG\r\n", OK]
        assert found[5:] == [b"$1\r\n1\r\n", b"-NOPERM", b"+RESET\r", b"$7\r\ndef", b":1\r\n"]


def test_users_without_rules(proxy: ProxyProcess) -> None:
    with login(proxy, "app", "a") as app, login(proxy, "other", "o") as other, Wire(proxy.address) as admin:
        shown = decode(app.ask("CLIENT", "LIST"))
        assert isinstance(shown, bytes)
        assert [line for line in shown.splitlines() if b"user=app" not in line] == []
        assert len(shown.splitlines()) == 1
        everybody = decode(admin.ask("CLIENT", "LIST"))
        assert isinstance(everybody, bytes)
        assert len(everybody.splitlines()) == 3
        for command in (
            *(("CLIENT", "KILL", "ID", "1"), ("CLIENT", "PAUSE", "100"), ("CLIENT", "UNPAUSE")),
            *(
                ("CLIENT", "UNBLOCK", "1"),
                ("FLUSHALL",),
                ("SCRIPT", "FLUSH"),
                ("FUNCTION", "FLUSH"),
                ("SWAPDB", "0", "1"),
            ),
            *(("SLOWLOG", "RESET"), ("LATENCY", "RESET"), ("CONFIG", "GET", "*"), ("MONITOR",), ("SLOTGATE", "NODES")),
            *(("ACL", "LIST"), ("ACL", "SETUSER", "app", "+@all"), ("ACL", "LOG"), ("DEBUG", "SLEEP", "0")),
        ):
            assert app.ask(*command).startswith(b"-NOPERM this user has no permissions to run the"), command
        for command in (
            *(("INFO",), ("KEYS", "*"), ("ROLE",), ("FLUSHDB",), ("SCAN", "0"), ("SORT", "none"), ("ACL", "WHOAMI")),
            *(("EVAL", "return 1", "0"), ("CLIENT", "INFO"), ("MODULE", "LIST"), ("DBSIZE",), ("PUBLISH", "c", "m")),
        ):
            assert not app.ask(*command).startswith(b"-"), command
        assert other.ask("PING") == b"+PONG\r\n"


def test_changes_reach_all_workers_and_those_that_start_later(pair: ProxyProcess) -> None:
    clients = [login(pair, "ruled", "r") for _ in range(12)]
    listeners = [login(pair, "ruled", "r") for _ in range(6)]
    try:
        for listener in listeners:
            listener.ask("SUBSCRIBE", "events:1")
        with Wire(pair.address) as admin:
            assert admin.ask("ACL", "SETUSER", "ruled", "-get", "+client|id") == OK
            assert all(client.ask("GET", "app:1").startswith(b"-NOPERM") for client in clients)
            assert admin.ask("ACL", "SETUSER", "new", "on", ">n", "~*", "+get") == OK
            for _ in range(8):
                login(pair, "new", "n").close()
            assert admin.ask("ACL", "SETUSER", "ruled", "resetchannels", "&other") == OK
            assert all(listener.closed() for listener in listeners)
            assert all(not client.ask("CLIENT", "ID").startswith(b"-") for client in clients)
            assert admin.ask("ACL", "DELUSER", "ruled", "nobody") == b":1\r\n"
            assert all(client.closed() for client in clients)
        victim = children(pair.pid)[0]
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: victim not in children(pair.pid) and pair.http("/readyz")[0] == 200)
        for _ in range(12):
            with Wire(pair.address) as client:
                assert client.ask("AUTH", "ruled", "r") == WRONGPASS
                assert client.ask("AUTH", "new", "n") == OK
    finally:
        for client in (*clients, *listeners):
            client.close()


def test_who_deletes_itself_is_answered(proxy: ProxyProcess) -> None:
    with Wire(proxy.address) as admin:
        admin.ask("ACL", "SETUSER", "boss", "on", ">b", "~*", "&*", "+@all")
    with login(proxy, "boss", "b") as boss:
        assert boss.ask("ACL", "DELUSER", "boss") == b":1\r\n"
        assert boss.closed()


def test_the_log(pair: ProxyProcess) -> None:
    with Wire(pair.address) as admin:
        for _ in range(8):
            with Wire(pair.address) as guesser:
                assert guesser.ask("AUTH", "nobody", "guess") == WRONGPASS
        with login(pair, "ruled", "r") as client:
            client.ask("GET", "secret")
            client.ask("MULTI")
            client.ask("GET", "secret")
        entries = decode(admin.ask("ACL", "LOG"))
        assert isinstance(entries, list)
        found = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in entries]
        assert {(entry[b"reason"], entry[b"context"], entry[b"object"], entry[b"username"]) for entry in found} == {
            (b"auth", b"toplevel", b"AUTH", b"nobody"),
            (b"key", b"toplevel", b"secret", b"ruled"),
            (b"key", b"multi", b"secret", b"ruled"),
        }
        assert sum(entry[b"count"] for entry in found if entry[b"reason"] == b"auth") == 8
        assert all(re.search(rb"^id=\d+ addr=127.0.0.1:\d+ .* user=", entry[b"client-info"]) for entry in found)
        assert len(decode(admin.ask("ACL", "LOG", "1"))) == 1  # type: ignore[arg-type]
        assert admin.ask("ACL", "LOG", "RESET") == OK
        assert admin.ask("ACL", "LOG") == b"*0\r\n"
        assert eventually(lambda: metric(pair, "slotgate_auth_failures_total", reason="unknown user") == 8)
        assert metric(pair, "slotgate_acl_denied_total", reason="key") == 2
    assert re.search(r"login failed user='nobody' address=127.0.0.1:\d+ reason='unknown user'", pair.log)
    assert "guess" not in pair.log


def test_an_aclfile(shards: LocalShards, serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\nuser file on >f ~* +get\n")
    file.chmod(0o640)
    proxy = serve("--static", shards.static, "--workers", "2", config=f'aclfile = "{file}"\n')
    with Wire(proxy.address) as admin:
        login(proxy, "file", "f").close()
        assert admin.ask("ACL", "SETUSER", "more", "on", ">m", "+ping") == OK
        assert admin.ask("ACL", "SAVE") == OK
        assert file.stat().st_mode & 0o777 == 0o640
        assert [line.split()[1] for line in file.read_text().splitlines()] == ["default", "file", "more"]
        assert os.listdir(tmp_path).count("users.acl") == 1
        before = admin.ask("ACL", "LIST")
        file.write_text(file.read_text() + "user broken +nosuch\n")
        assert admin.ask("ACL", "LOAD").decode() == (
            f"-ERR {file}:4: Error in applying operation '+nosuch': Unknown command or category name in ACL. WARNING: "
            "ACL errors detected, no change to the previously active ACL rules was performed\r\n"
        )
        assert admin.ask("ACL", "LIST") == before
        with login(proxy, "more", "m") as gone:
            file.write_text("user default on nopass ~* &* +@all\nuser file on >g ~* +get\n")
            assert admin.ask("ACL", "LOAD") == OK
            assert gone.closed()
        for _ in range(8):
            with Wire(proxy.address) as client:
                assert client.ask("AUTH", "file", "f") == WRONGPASS
                assert client.ask("AUTH", "file", "g") == OK
        file.unlink()
        assert admin.ask("ACL", "LOAD").decode() == (
            f"-ERR Error loading ACLs, opening file '{file}': No such file or directory\r\n"
        )


def test_without_an_aclfile(proxy: ProxyProcess) -> None:
    with Wire(proxy.address) as admin:
        for name in ("LOAD", "SAVE"):
            assert admin.ask("ACL", name).startswith(b"-ERR This Redis instance is not configured to use an ACL file.")


def test_passwords_of_people(proxy: ProxyProcess) -> None:
    """They are verified aside, once for each; who guesses can not tell who exists."""
    with Wire(proxy.address) as client:
        assert client.ask("AUTH", "slow", "wrong") == WRONGPASS
        client.send(pipeline(("AUTH", "slow", "people's"), ("ACL", "WHOAMI"), ("GET", "k"), ("FLUSHALL",)))
        found = client.replies(4)
        assert found[:3] == [OK, b"$4\r\nslow\r\n", b"$-1\r\n"]
        assert found[3].startswith(b"-NOPERM")
        assert client.ask("HELLO", "3", "AUTH", "slow", "people's", "SETNAME", "x").startswith(b"%7")

    def taken(user: str, password: str) -> float:
        with Wire(proxy.address) as client:
            client.ask("PING")
            before = time.perf_counter()
            client.ask("AUTH", user, password)
            return time.perf_counter() - before

    rounds = [[taken(*who) for who in (("slow", "no"), ("app", "no"), ("nobody", "no"))] for _ in range(9)]
    slow, app, nobody = (median(times) for times in zip(*rounds, strict=True))
    assert 0.4 < app / slow < 2.5
    assert 0.4 < nobody / slow < 2.5
    assert median([taken("slow", "people's") for _ in range(9)]) < slow / 4, "remembered"


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
def test_answers_are_the_servers(site: Site, protocol: int, serve: Serve) -> None:
    """The same ACL commands to a server and to the proxy."""
    config = '[[users]]\nname = "default"\nnopass = true\nadmin = true\n'
    proxy = serve("--static", site.shards.static, config=config)
    commands = [
        ("ACL", "DELUSER", "u", "v"),
        ("ACL", "SETUSER", "u"),
        ("ACL", "SETUSER", "u", "on", ">p", "~a:*", "%R~b:*", "&c:*", "+@hash", "(~d +get)"),
        ("ACL", "SETUSER", "u", "+nosuch"),
        ("ACL", "SETUSER", "u", "(+get"),
        ("ACL", "SETUSER", "u v", "on"),
        ("ACL", "SETUSER"),
        ("ACL", "USERS"),
        ("ACL", "WHOAMI"),
        ("ACL", "GETUSER", "nobody"),
        ("ACL", "GETUSER"),
        ("ACL", "DRYRUN", "u", "hget", "a:1", "f"),
        ("ACL", "DRYRUN", "u", "hget", "x", "f"),
        ("ACL", "DRYRUN", "u", "flushall"),
        ("ACL", "DRYRUN", "u", "hget"),
        ("ACL", "DRYRUN", "u", "nosuch"),
        ("ACL", "DRYRUN", "u", "config", "nosuch"),
        ("ACL", "DRYRUN", "nobody", "get", "k"),
        ("ACL", "DELUSER", "default"),
        ("ACL", "DELUSER"),
        ("ACL", "GENPASS", "0"),
        ("ACL", "GENPASS", "4097"),
        ("ACL", "GENPASS", "x"),
        ("ACL", "GENPASS", "1", "2"),
        ("ACL", "LOG", "x"),
        ("ACL", "LOG", "1", "2"),
        ("ACL", "LOG", "RESET"),
        ("ACL", "LOG"),
        ("ACL", "CAT", "nosuch"),
        ("ACL", "CAT"),
        ("ACL", "NOSUCH"),
        ("ACL",),
        ("ACL", "HELP"),
        ("ACL", "LOAD"),
        ("ACL", "SAVE"),
        ("AUTH", "u", "wrong"),
        ("AUTH", "u", "p"),
        ("HGET", "x", "f"),
        ("HGET", "a:1", "f"),
        ("HSET", "b:1", "f", "1"),
        ("SUBSCRIBE", "c:1"),
        ("ACL", "WHOAMI"),
        ("RESET",),
        ("ACL", "DELUSER", "u", "v", "u"),
    ]
    if site.plain.binary.kind == "valkey":
        # It does not call itself Redis there.
        commands = [command for command in commands if command not in (("ACL", "LOAD"), ("ACL", "SAVE"))]
    with site.direct(protocol) as server, Wire(proxy.address, protocol=protocol) as client:
        packed = [[word.encode() for word in command] for command in commands]
        expected = [server.ask(*args) for args in packed]
        found = [client.ask(*args) for args in packed]
    different = differences(site.plain.binary.kind, packed, expected, found)
    assert not different, "\n".join(different)
