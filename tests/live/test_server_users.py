"""Users of the proxy whose commands reach the servers as other users of the servers, or by another read policy."""

import re
from collections.abc import Iterator

import pytest

from proxy.devservers.cluster import start_cluster
from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from proxy.sharding.slots import key_slot
from tests.support.clusters import half_moved, move_slot
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
USERS = """
[[users]]
name = "default"
nopass = true
[[users]]
name = "a"
password = "a"
backend_user = "at-a"
backend_password = "secret-of-a"
[[users]]
name = "also-a"
password = "also-a"
backend_user = "at-a"
backend_password = "secret-of-a"
[[users]]
name = "b"
password = "b"
backend_user = "at-b"
backend_password = "secret-of-b"
[[users]]
name = "reader"
password = "reader"
read_from = "replica"
"""


def set_users(server: LocalServer) -> None:
    for name in "ab":
        rules = ["reset", "on", "+@all", "-@dangerous", "+role", "+info", "+client"]
        server.ask("ACL", "SETUSER", f"at-{name}", *rules, f">secret-of-{name}", f"~{{*}}{name}:*")


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    with start_many(2, 1, binary=binary) as started:
        for server in started.servers:
            set_users(server)
        yield started


@pytest.fixture
def proxy(shards: LocalShards, serve: Serve) -> ProxyProcess:
    return serve("--static", shards.static, config=USERS)


def logged_in(proxy: ProxyProcess, user: str) -> Wire:
    client = Wire(proxy.address)
    assert client.ask("AUTH", user, user) == OK
    return client


def users_of_connections(shards: LocalShards) -> set[str]:
    """The users as which somebody is connected to the primaries."""
    lists = (str(server.ask("CLIENT", "LIST")) for server in shards.primaries)
    return {user for text in lists for user in re.findall(r"\buser=(\S+)", text)}


SCRIPT = "return redis.call('GET', KEYS[1])"
TAGS = "{1}", "{2}", "{3}", "{4}"
"""Hash tags of both shards."""


def test_each_user_has_the_rights_that_it_has_at_the_servers(shards: LocalShards, proxy: ProxyProcess) -> None:
    """The proxy's own rules allow all of it: it is the servers who deny."""
    with logged_in(proxy, "a") as a, logged_in(proxy, "b") as b, Wire(proxy.address) as default:
        for tag in TAGS:
            for client, own, other in ((a, "a", "b"), (b, "b", "a")):
                mine, theirs = f"{tag}{own}:k", f"{tag}{other}:k"
                assert client.ask("SET", mine, own) == OK
                assert client.ask("SET", theirs, own).startswith(b"-NOPERM")
                assert client.ask("GET", theirs).startswith(b"-NOPERM")
                assert (
                    client.ask("EVAL", "return redis.call('GET', KEYS[1])", 1, mine) == b"$1\r\n%b\r\n" % own.encode()
                )
                assert client.ask("EVAL", "return redis.call('GET', KEYS[1])", 1, theirs).startswith(b"-")
                assert client.ask("GETSET", mine, own) == b"$1\r\n%b\r\n" % own.encode()
            assert default.ask("GET", f"{tag}a:k") == b"$1\r\na\r\n"
        assert a.ask("MSET", *(part for tag in TAGS for part in (f"{tag}a:m", "1"))) == OK
        assert a.ask("MSET", "{1}a:m", 2, "{2}b:m", 2).startswith(b"-UNCERTAIN partial: NOPERM")
        assert a.ask("MGET", *(f"{tag}a:m" for tag in TAGS[2:])) == b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n"
        assert a.ask("SET", "{1}a:large", "x" * 3_000_000) == OK  # over a connection for large requests
        assert b.ask("SET", "{1}a:large", "x" * 3_000_000).startswith(b"-NOPERM")
    assert {"at-a", "at-b", "default"} <= users_of_connections(shards)


def test_on_connections_of_ones_own(shards: LocalShards, proxy: ProxyProcess) -> None:
    """WATCH, blocking commands and tracking, too, go to the servers as the user."""
    with logged_in(proxy, "a") as a, logged_in(proxy, "b") as b:
        for client, own, other in ((a, "a", "b"), (b, "b", "a")):
            client.send(pipeline(("WATCH", f"{{1}}{own}:w"), ("MULTI",), ("SET", f"{{1}}{own}:w", own), ("EXEC",)))
            assert client.replies(4) == [OK, OK, b"+QUEUED\r\n", b"*1\r\n+OK\r\n"]
            assert client.ask("WATCH", f"{{1}}{other}:w").startswith(b"-NOPERM")
            client.send(pipeline(("MULTI",), ("SET", f"{{1}}{own}:w", 1), ("SET", f"{{1}}{other}:w", 1), ("EXEC",)))
            assert client.replies(4)[3].startswith((b"-EXECABORT", b"-NOPERM"))
            assert client.ask("BLPOP", f"{{2}}{other}:l", 1).startswith(b"-NOPERM")
            client.send(pack("BLPOP", f"{{2}}{own}:l", 0))
            with logged_in(proxy, own) as pusher:
                assert eventually(lambda: b"blocked_clients:1" in pusher.ask("INFO", "clients"))
                assert pusher.ask("RPUSH", f"{{2}}{own}:l", "x") == b":1\r\n"
            assert client.reply().endswith(b"$1\r\nx\r\n")
        with Wire(proxy.address, protocol=3) as tracker:
            assert tracker.ask("AUTH", "a", "a") == OK
            assert tracker.ask("CLIENT", "TRACKING", "ON") == OK
            assert tracker.ask("GET", "{1}a:k") in (b"$1\r\na\r\n", b"_\r\n")
            assert tracker.ask("GET", "{1}b:k").startswith(b"-NOPERM")
            assert a.ask("SET", "{1}a:k", "a") == OK
            assert tracker.reply().startswith(b">2\r\n$10\r\ninvalidate")


def test_a_client_that_logs_in_as_another_user(shards: LocalShards, proxy: ProxyProcess) -> None:
    """What it sent before is carried out before, as the user that it was then; its watch is void."""
    with Wire(proxy.address) as client:
        for login in (("AUTH",), ("HELLO", 2, "AUTH")):
            count = 50
            for _ in range(10):
                requests: list[tuple[str | int, ...]] = []
                for user in ("a", "b"):
                    requests += [(*login, user, user)]
                    requests += [("INCR", f"{TAGS[n % 4]}{user}:n") for n in range(count)]
                    requests += [("INCR", f"{{1}}{'ab'.replace(user, '')}:n")]
                client.send(pipeline(*requests))
                replies = client.replies(len(requests))
                for at in (0, count + 2):
                    assert replies[at].startswith((b"+OK", b"*14"))
                    assert all(reply.startswith(b":") for reply in replies[at + 1 : at + 1 + count])
                    assert replies[at + 1 + count].startswith(b"-NOPERM")
        client.ask("AUTH", "a", "a")
        assert client.ask("WATCH", "{1}a:w") == OK
        assert client.ask("AUTH", "b", "b") == OK
        client.send(pipeline(("MULTI",), ("SET", "{1}b:w", "new"), ("EXEC",)))
        assert client.replies(3)[2] == b"*-1\r\n"
        assert client.ask("RESET") == b"+RESET\r\n"
        assert client.ask("GET", "{1}b:w") != b"$3\r\nnew\r\n"


@pytest.mark.parametrize("written", [0, 1, 4])
def test_wait_needs_no_right_that_the_client_does_not_use(proxy: ProxyProcess, written: int) -> None:
    """A replicated command without effect (SWAPDB) goes ahead of WAIT, and these users may not run it."""
    with logged_in(proxy, "a") as client:
        for tag in TAGS[:written]:
            assert client.ask("SET", f"{tag}a:1", "v") == OK
        assert client.ask("WAIT", 1, 5000) == b":1\r\n"
        assert client.ask("GET", "{1}b:1").startswith(b"-NOPERM"), "the client has its user as before"


def test_users_that_share_a_user_share_connections(shards: LocalShards, proxy: ProxyProcess) -> None:
    with logged_in(proxy, "a") as a, logged_in(proxy, "also-a") as also:
        assert a.ask("SET", "{1}a:s", 1) == OK
        before = [str(server.ask("CLIENT", "LIST")).count("user=at-a") for server in shards.primaries]
        assert also.ask("GET", "{1}a:s") == b"$1\r\n1\r\n"
        assert [str(server.ask("CLIENT", "LIST")).count("user=at-a") for server in shards.primaries] == before


def test_a_password_that_the_servers_refuse(shards: LocalShards, serve: Serve) -> None:
    """It is the trouble of that user alone, and said."""
    config = USERS.replace('backend_password = "secret-of-b"', 'backend_password = "wr0ng-one"')
    proxy = serve("--static", shards.static, config=config + '[backend]\nretry_deadline = "300ms"\n')
    with logged_in(proxy, "a") as a, logged_in(proxy, "b") as b:
        assert b.ask("SET", "{1}b:k", 1).startswith(b"-SHARDDOWN")
        assert a.ask("SET", "{1}a:k", 1) == OK
    assert "refuses the proxy's AUTH" in proxy.log
    assert "wr0ng-one" not in proxy.log
    assert proxy.http("/readyz")[0] == 200


def test_a_user_reads_from_where_it_says(shards: LocalShards, proxy: ProxyProcess) -> None:
    def gets(server: LocalServer) -> int:
        found = re.search(r"cmdstat_get:calls=(\d+)", str(server.ask("INFO", "commandstats")))
        return int(found[1]) if found else 0

    with Wire(proxy.address) as default, logged_in(proxy, "reader") as reader:
        assert default.ask("SET", "{1}r", "v") == OK
        assert eventually(lambda: reader.ask("GET", "{1}r") == b"$1\r\nv\r\n")
        at_replicas = sum(gets(server) for group in shards.replicas for server in group)
        at_primaries = sum(gets(server) for server in shards.primaries)
        for _ in range(20):
            assert reader.ask("GET", "{1}r") == b"$1\r\nv\r\n"
        assert sum(gets(server) for group in shards.replicas for server in group) == at_replicas + 20
        for _ in range(20):
            assert default.ask("GET", "{1}r") == b"$1\r\nv\r\n"
        assert sum(gets(server) for server in shards.primaries) == at_primaries + 20


def test_redirections_lead_to_the_same_user(binary: ServerBinary, serve: Serve) -> None:
    with start_cluster(2, 0, binary=binary) as cluster:
        for node in cluster.nodes:
            set_users(node)
        proxy = serve("--cluster", cluster.seeds, config=USERS)
        with logged_in(proxy, "a") as a, logged_in(proxy, "b") as b:
            assert a.ask("MSET", "{t}a:1", "x", "{t}a:2", "y") == OK
            with half_moved(cluster, "{t}a:1"):
                assert a.ask("GET", "{t}a:1") == b"$1\r\nx\r\n"
                assert a.ask("MGET", "{t}a:1", "{t}a:2") == b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n"
                assert b.ask("GET", "{t}a:1").startswith(b"-NOPERM")
                a.send(pipeline(("MULTI",), ("SET", "{t}a:3", 1), ("SET", "{t}b:3", 1), ("EXEC",)))
                assert b"NOPERM" in b"".join(a.replies(4))
            source, target = cluster.primaries()
            slot = key_slot(b"{t}a:4")
            assert a.ask("SET", "{t}a:4", "z") == OK
            if not source.ask("CLUSTER", "COUNTKEYSINSLOT", slot):
                source, target = target, source
            move_slot(slot, source, target)
            assert a.ask("GET", "{t}a:4") == b"$1\r\nz\r\n"
            assert b.ask("GET", "{t}a:4").startswith(b"-NOPERM")
            assert a.ask("BLPOP", "{t}b:l", 1).startswith(b"-NOPERM")
