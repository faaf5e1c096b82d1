"""Passwords on both sides, and how much somebody without one may do."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site, commands_seen
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
SECRET = 'p4ss "word" #1'
USERS = f"""
[[users]]
name = "default"
password = 'friend'
[[users]]
name = "app"
password_sha256 = ["{hashlib.sha256(b"swordfish").hexdigest()}", "{hashlib.sha256(b"rosebud").hexdigest()}"]
[[users]]
name = "env"
password_env = "TEST_PASSWORD"
[[users]]
name = "open"
nopass = true
"""
READER = """
[[users]]
name = "reader"
rules = "on >ruled +config|get"
"""


@pytest.fixture(scope="module")
def standing_guarded(standing_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy with users, for all tests of this module."""
    proxy = ProxyProcess(
        tmp_path_factory.mktemp("guarded"),
        "--static",
        standing_site.shards.static,
        config="[limits]\nauth_commands = 0\nauth_bytes = '0b'\nauth_delay_max = '0s'\n" + USERS,
        environment={"TEST_PASSWORD": "from the environment"},
    )
    with proxy.serving():
        yield proxy


@pytest.fixture
def guarded(site: Site, standing_guarded: ProxyProcess) -> ProxyProcess:
    """A proxy with users, its servers empty."""
    return standing_guarded


def test_nothing_without_a_password(site: Site, guarded: ProxyProcess) -> None:
    commands = [("GET", "k"), ("SET", "k", 1), ("MSET", "a", 1, "b", 2), ("DBSIZE",), ("PING",), ("SELECT", 1)]
    commands += [("CLIENT", "ID"), ("CONFIG", "GET", "*"), ("EVAL", "return 1", 0), ("MULTI",), ("COMMAND",), ("INFO",)]
    with Wire(guarded.address) as client:
        client.send(pipeline(*commands))
        assert set(client.replies(len(commands))) == {b"-NOAUTH Authentication required.\r\n"}
        assert client.ask("NOSUCH", "x").startswith(b"-ERR unknown command")
        assert client.ask("HELLO", 3).startswith(b"-NOAUTH HELLO must be called with the client already authenticated")
        assert client.ask("QUIT") == OK
        assert client.closed()
    assert site.shards.primaries[0].ask("DBSIZE") == 0
    assert all("set" not in commands_seen(server) for server in site.shards.primaries)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("friend",), OK),
        (("default", "friend"), OK),
        (("app", "swordfish"), OK),
        (("app", "rosebud"), OK),
        (("env", "from the environment"), OK),
        (("open", "anything"), OK),
        (("app", "friend"), b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        (("swordfish",), b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        (("nobody", "friend"), b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        (("friend\x00",), b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        (("",), b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
    ],
)
def test_auth(guarded: ProxyProcess, words: tuple[str, ...], answer: bytes) -> None:
    with Wire(guarded.address) as client:
        assert client.ask("AUTH", *words) == answer
        allowed = answer == OK
        assert (client.ask("SET", "k", 1) == OK) is allowed
        if allowed:
            user = words[0] if len(words) == 2 else "default"
            assert client.value("ACL", "WHOAMI") == user.encode()
            assert client.ask("AUTH", "app", "wrong").startswith(b"-WRONGPASS ")
            assert client.value("ACL", "WHOAMI") == user.encode()
            assert client.ask("RESET") == b"+RESET\r\n"
            assert client.ask("GET", "k").startswith(b"-NOAUTH ")


def test_hello_with_auth(guarded: ProxyProcess) -> None:
    with Wire(guarded.address) as client:
        assert client.ask("HELLO", 3, "AUTH", "app", "wrong").startswith(b"-WRONGPASS ")
        assert client.ask("GET", "k").startswith(b"-NOAUTH ")
        assert client.ask("HELLO", 3, "AUTH", "app", "rosebud", "SETNAME", "me").startswith(b"%7\r\n")
        assert client.ask("GET", "nothing") == b"_\r\n"
        assert client.value("CLIENT", "GETNAME") == b"me"


def test_a_pipeline_that_authenticates_in_the_middle(guarded: ProxyProcess) -> None:
    with Wire(guarded.address) as client:
        client.send(pipeline(("SET", "k", 1), ("AUTH", "friend"), ("SET", "k", 2), ("MGET", "k", "l"), ("GET", "k")))
        refused, *rest = client.replies(5)
        assert refused.startswith(b"-NOAUTH ")
        assert rest == [OK, OK, b"*2\r\n$1\r\n2\r\n$-1\r\n", b"$1\r\n2\r\n"]


@pytest.fixture(scope="module")
def locked(binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A plain server with the password of the proxy's default user."""
    server = LocalServer(binary, tmp_path_factory.mktemp("locked"), password="friend")
    server.start()
    yield server
    server.kill()


BEFORE_AUTH = {
    "arguments that are still allowed": pack("AUTH", *"123456789"),
    "too many arguments": b"*11\r\n" + b"$1\r\nx\r\n" * 11,
    "an argument that is still allowed": pack("AUTH", "x" * 16384),
    "too long an argument": b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
    "refused, then good": pack("GET", "k") + pack("AUTH", "wrong") + pack("AUTH", "friend") + pack("GET", "k"),
    "more arguments once it has authenticated": pack("AUTH", "friend") + pack("DEL", *"abcdefghijklmnop"),
    "a long argument once it has authenticated": pack("AUTH", "friend") + pack("ECHO", "x" * 20000),
    "HELLO": pack("HELLO") + pack("HELLO", 2) + pack("HELLO", 9),
    "HELLO with a bad password": pack("HELLO", 2, "AUTH", "default", "bad") + pack("HELLO", 2, "SETNAME", "a"),
    "AUTH with the wrong number of words": pack("AUTH") + pack("AUTH", "a", "b", "c"),
    "wrong arity and unknown": pack("GET") + pack("NOSUCH") + pack("CONFIG", "NOSUCH") + pack("CONFIG"),
    "a line": b"GET k\r\nAUTH friend\r\nGET k\r\n",
    "RESET and QUIT": pack("AUTH", "friend") + pack("RESET") + pack("GET", "k") + pack("QUIT"),
}


@pytest.mark.parametrize("name", BEFORE_AUTH)
def test_before_authentication_as_the_server(guarded: ProxyProcess, locked: LocalServer, name: str) -> None:
    if locked.binary.kind == "valkey" and name == "wrong arity and unknown":
        pytest.skip("Valkey asks for the password before it looks at the command, Redis after")
    with Wire(guarded.address) as proxy, Wire(locked.address) as server:
        proxy.send(BEFORE_AUTH[name] + pack("QUIT"))
        server.send(BEFORE_AUTH[name] + pack("QUIT"))
        # Redis 7.0 writes "HELLO AUTH", later ones what the proxy writes.
        assert proxy.rest().replace(b"HELLO <proto> AUTH", b"HELLO AUTH") == server.rest().replace(
            b"HELLO <proto> AUTH", b"HELLO AUTH"
        )


def test_no_secret_is_shown(site: Site, serve: Serve) -> None:
    with start_many(1, 0, binary=site.plain.binary, password=SECRET) as shards:
        proxy = serve(
            "--static",
            shards.static,
            config=f"{USERS}{READER}[backend]\npassword = '{SECRET}'\n[log]\nlevel = 'debug'\n",
            environment={"TEST_PASSWORD": "from the environment"},
        )
        with Wire(proxy.address) as client:
            client.ask("AUTH", "guessed secret")
            client.ask("AUTH", "app", "rosebud")
            client.ask("NOSUCH", "x")
            assert client.ask("SET", "k", 1) == OK
            assert client.ask("CONFIG", "GET", "*").startswith(b"-NOPERM")
            assert client.ask("AUTH", "reader", "ruled") == OK
            for setting in ("*", "requirepass", "masterauth", "REQUIREPASS"):
                reply = client.ask("CONFIG", "GET", setting)
                assert reply.startswith(b"*")
                assert b"p4ss" not in reply
        said = proxy.log + "".join(proxy.http(path)[1] for path in ("/metrics", "/topology", "/readyz"))
        for secret in ("p4ss", "friend", "rosebud", "guessed", "from the environment", "ruled"):
            assert secret not in said


# ---- passwords of the servers


@pytest.fixture(scope="module")
def secret_shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Servers that ask for a password."""
    with start_many(2, 1, binary=binary, password=SECRET) as shards:
        for server in shards.primaries:
            server.ask("ACL", "SETUSER", "proxy", "on", ">another", "~*", "&*", "+@all")
        yield shards


@pytest.mark.parametrize("protocol", [2, 3])
def test_servers_with_a_password(secret_shards: LocalShards, serve: Serve, protocol: int) -> None:
    config = f"[backend]\npassword = '{SECRET}'\n"
    proxy = serve("--static", secret_shards.static, "--read-from", "prefer_replica", config=config)
    with Wire(proxy.address, protocol=protocol) as client:
        assert client.ask("MSET", "a", 1, "b", 2, "c", 3, "d", 4) == OK
        assert client.ask("SELECT", 2) == OK
        assert client.ask("SET", "a", 5) == OK
        assert client.ask("AUTH", "x").startswith(b"-ERR AUTH <password> called without any password configured")


def test_servers_with_a_user(secret_shards: LocalShards, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "backend-password").write_text("another\n")
    primaries = ",".join(server.address for server in secret_shards.primaries)
    config = "[backend]\nusername = 'proxy'\npassword_file = 'backend-password'\n"
    proxy = serve("--static", primaries, config=config)
    for protocol in (2, 3):
        with Wire(proxy.address, protocol=protocol) as client:
            assert client.ask("MSET", "a", 1, "b", 2, "c", 3, "d", 4) == OK
    rows = secret_shards.primaries[0].ask("CLIENT", "LIST")
    assert isinstance(rows, bytes)
    assert b"user=proxy" in rows
