"""``[[listeners]]``: what holds for the clients of one address and not for those of another."""

import contextlib
import re
from collections.abc import Iterator

import pytest
import redis

from proxy.devservers.servers import LOOPBACK, free_port, start_many
from tests.live.test_connection_limits import PONG, REJECTED
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.site import Site
from tests.support.wire import Wire

pytestmark = pytest.mark.live

WRONG = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
NOAUTH = b"-NOAUTH Authentication required.\r\n"
USERS = """
[[users]]
name = "default"
nopass = true

[[users]]
name = "reports"
password = "of-reports"

[[users]]
name = "operator"
password = "of-operator"
admin = true
"""


class Doors:
    """Three addresses of a proxy: ``plain``, ``cluster`` and ``reports``."""

    def __init__(self, directory: str) -> None:
        self.plain = f"{LOOPBACK}:{free_port()}"
        self.cluster = f"{LOOPBACK}:{free_port()}"
        self.reports = f"unix:{directory}/reports"

    @property
    def config(self) -> str:
        return (
            f'listen = "{self.plain}"\n'
            f'[[listeners]]\naddress = "{self.cluster}"\npresent_as = "cluster"\n'
            f'[[listeners]]\naddress = "{self.reports}"\nusers = ["reports"]\nmax_clients = 2\n{USERS}'
        )


@pytest.fixture
def doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors(str(tmp_path_factory.mktemp("d")))


@pytest.fixture(params=[1, 2])
def proxy(request: pytest.FixtureRequest, site: Site, serve: Serve, doors: Doors) -> ProxyProcess:
    static = ("--static", site.shards.static, "--workers", str(request.param))
    return serve(*static, config=doors.config, listen=doors.plain, listeners=True)


def test_who_may_log_in(proxy: ProxyProcess, doors: Doors) -> None:
    with Wire(doors.plain) as client:
        assert client.ask("PING") == PONG
        assert client.ask("AUTH", "operator", "of-operator") == b"+OK\r\n"
        assert client.ask("AUTH", "reports", "of-reports") == b"+OK\r\n"
    with Wire(doors.reports) as client:
        assert client.ask("PING") == NOAUTH
        for login in (
            "AUTH operator of-operator",
            "AUTH anything",
            "AUTH default anything",
            "AUTH nobody x",
            "HELLO 3 AUTH operator of-operator",
            "HELLO 3 AUTH default x",
        ):
            assert client.ask(*login.split()) == WRONG
        assert client.ask("AUTH", "reports", "of-reports") == b"+OK\r\n"
        assert client.ask("ACL", "WHOAMI") == b"$7\r\nreports\r\n"
        assert client.ask("AUTH", "operator", "of-operator") == WRONG
        assert client.ask("ACL", "WHOAMI") == b"$7\r\nreports\r\n"
        assert client.ask("RESET") == b"+RESET\r\n"
        assert client.ask("PING") == NOAUTH
    assert eventually(lambda: "reason='user of other listeners'" in proxy.log)


def test_a_listener_is_full(proxy: ProxyProcess, doors: Doors) -> None:
    refused = b"-ERR max number of clients reached for the listener %b (its max_clients = 2)\r\n"
    with contextlib.ExitStack() as stack:
        inside = [stack.enter_context(Wire(doors.reports)) for _ in range(2)]
        assert [client.ask("PING") for client in inside] == [NOAUTH] * 2
        for _ in range(3):
            with Wire(doors.reports) as client:
                assert client.reply() == refused % doors.reports.encode()
                assert client.closed()
        assert metric(proxy, REJECTED, reason="listener limit") == 3
        others = [stack.enter_context(Wire(address)) for address in (doors.plain, doors.cluster) for _ in range(5)]
        assert all(client.ask("PING") == PONG for client in others)
        inside[0].close()

        def let_in() -> bool:
            with Wire(doors.reports) as client, contextlib.suppress(ConnectionError):
                return client.ask("PING") == NOAUTH
            return False

        assert eventually(let_in)


def test_one_server_here_and_a_cluster_there(proxy: ProxyProcess, doors: Doors) -> None:
    port = int(doors.cluster.rpartition(":")[2])
    with redis.RedisCluster(host=LOOPBACK, port=port, decode_responses=True) as client:
        assert [(node.host, node.port) for node in client.get_primaries()] == [(LOOPBACK, port)]
        assert client.set("k", "v")
        assert client.info("cluster")["cluster_enabled"] == 1
        assert client.info("server")["redis_mode"] == "cluster"
    with Wire(doors.plain) as one, Wire(doors.cluster) as other:
        assert one.ask("GET", "k") == other.ask("GET", "k") == b"$1\r\nv\r\n"
        assert b"cluster_enabled:0" in one.ask("INFO", "cluster")
        assert b"redis_mode:standalone" in one.ask("INFO", "server")
        assert b"standalone" in one.ask("HELLO", "3")
        assert b"cluster" in other.ask("HELLO", "3")
        assert one.ask("AUTH", "operator", "of-operator") == b"+OK\r\n"
        assert one.ask("CONFIG", "GET", "maxclients") == b"%1\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n"
        for command in "CLUSTER SLOTS", "CLUSTER INFO", "READONLY", "ASKING", "CLUSTER COUNTKEYSINSLOT 1":
            assert one.ask(*command.split()) == b"-ERR This instance has cluster support disabled\r\n", command
            assert not other.ask(*command.split()).startswith(b"-ERR This instance"), command
        for client, wanted in (one, b"cluster_enabled:0"), (other, b"cluster_enabled:1"):
            assert client.ask("MULTI") == b"+OK\r\n"
            assert client.ask("GET", "k") == b"+QUEUED\r\n"
            assert client.ask("EXEC") == b"*1\r\n$1\r\nv\r\n"
            assert wanted in client.ask("INFO")


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProxyProcess, Doors, str]]:
    """A proxy before a shard with a replica, of which one listener reads."""
    directory = tmp_path_factory.mktemp("reading")
    doors = Doors(str(directory))
    config = (
        f'[[listeners]]\naddress = "{doors.plain}"\n[[listeners]]\naddress = "{doors.reports}"\nread_from = "replica"\n'
    )
    with start_many(1, 1) as servers:
        proxy = ProxyProcess(directory, "--static", servers.static, config=config, listen=doors.plain, listeners=True)
        with proxy.serving():
            yield proxy, doors, str(servers.replicas[0][0].address)


@pytest.mark.parametrize("named", [False, True])
def test_where_reads_go(reading: tuple[ProxyProcess, Doors, str], named: bool) -> None:
    _, doors, replica = reading
    with Wire(doors.plain) as writer, Wire(doors.reports) as reader, Wire(replica) as server:
        if named:
            assert reader.ask("CLIENT", "SETNAME", "reader") == b"+OK\r\n"
        assert writer.ask("SET", "k", "v") == b"+OK\r\n"
        assert eventually(lambda: reader.ask("GET", "k") == b"$1\r\nv\r\n")
        before = gets(server)
        for _ in range(20):
            assert writer.ask("GET", "k") == b"$1\r\nv\r\n"
        assert gets(server) == before
        for _ in range(20):
            assert reader.ask("GET", "k") == b"$1\r\nv\r\n"
        assert gets(server) == before + 20


def gets(server: Wire) -> int:
    """The GETs that a server has carried out."""
    found = re.search(rb"cmdstat_get:calls=(\d+)", server.ask("INFO", "commandstats"))
    return int(found[1]) if found else 0


def test_the_command_line_takes_the_place_of_both(site: Site, serve: Serve, doors: Doors) -> None:
    proxy = serve("--static", site.shards.static, config=doors.config)
    with Wire(proxy.address) as client:
        assert client.ask("PING") == PONG
    with pytest.raises(ConnectionRefusedError), Wire(doors.plain):
        pass
