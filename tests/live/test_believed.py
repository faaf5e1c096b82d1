"""What a script words is data: it redirects nobody, has nothing run twice, and comes back as it is."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from hashlib import sha1

import pytest

from proxy.devservers.cluster import ClusterNode, LocalCluster, start_cluster
from proxy.devservers.servers import LOOPBACK, ServerBinary
from proxy.sharding.slots import key_slot
from tests.support.clusters import move_slot
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Argument, Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

PASSWORD = "the-servers-own"
KEY = "{bar}counter"
SLOT = key_slot(b"bar")
LIBRARY = (
    "#!lua name=words\n"
    "redis.register_function('say', function(keys, args)\n"
    "  redis.call('incr', keys[1])\n"
    "  return redis.error_reply(args[1])\n"
    "end)"
)
RETURNS = "redis.call('incr', KEYS[1]) return redis.error_reply(ARGV[1])"
RAISES = "redis.call('incr', KEYS[1]) error({err = ARGV[1]})"
FLAGGED = "#!lua flags=allow-stale\n" + RETURNS


class Stranger:
    """A listener that nobody has named: what connects to it, and what that says."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._socket = socket.create_server((LOOPBACK, 0))
        self.address = f"{LOOPBACK}:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.heard.append(connection.recv(1000))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Somebody whom only scripts name."""
    found = Stranger()
    yield found
    found.close()


@pytest.fixture(scope="module")
def cluster(binary: ServerBinary) -> Iterator[LocalCluster]:
    """Two primaries that ask for a password."""
    with start_cluster(2, 0, binary=binary, password=PASSWORD) as started:
        for node in started.nodes:
            assert node.ask("FUNCTION", "LOAD", LIBRARY) == b"words"
        yield started


@pytest.fixture(scope="module")
def standing(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before them."""
    environment = {"SLOTGATE_BACKEND__PASSWORD": PASSWORD}
    directory = tmp_path_factory.mktemp("believed")
    with ProxyProcess(directory, "--cluster", cluster.nodes[0].address, environment=environment).serving() as proxy:
        yield proxy


@pytest.fixture
def proxy(standing: ProxyProcess) -> ProxyProcess:
    """The same, its counter removed."""
    with Wire(standing.address) as client:
        client.ask("DEL", KEY)
    return standing


def words(stranger: str, known: str) -> dict[str, str]:
    """What a script may say, by a name."""
    return {
        "MOVED to a stranger": f"MOVED {SLOT} {stranger}",
        "MOVED of another slot": f"MOVED {(SLOT + 1) % 16384} {stranger}",
        "MOVED to a known node": f"MOVED {SLOT} {known}",
        "MOVED by what is no port": f"MOVED {SLOT} {LOOPBACK}:\N{SUPERSCRIPT TWO}",
        "MOVED to many digits": f"MOVED {'9' * 5000} {LOOPBACK}:{'9' * 5000}",
        "ASK to a stranger": f"ASK {SLOT} {stranger}",
        "ASK to a known node": f"ASK {SLOT} {known}",
        "why EXEC failed": f"EXECABORT Transaction discarded because of: MOVED {SLOT} {stranger}",
        "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
        "nobody": "CLUSTERDOWN Hash slot not served",
        "LOADING": "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "READONLY": "READONLY You can't write against a read only replica.",
        "NOSCRIPT": "NOSCRIPT No matching script. Please use EVAL.",
        "NOSCRIPT in Valkey's words": "NOSCRIPT No matching script.",
    }


WORDS = list(words("", ""))


def owner_of(cluster: LocalCluster, key: str) -> ClusterNode:
    """The node that serves the key."""
    for node in cluster.nodes:
        with Wire(node.address) as direct:
            direct.ask("AUTH", PASSWORD)
            if direct.ask("TYPE", key).startswith(b"+"):
                return node
    raise AssertionError(f"nobody serves {key}")


Ask = Callable[[Wire, str], bytes]


def by_digest(body: str) -> Ask:
    def ask(client: Wire, said: str) -> bytes:
        assert client.ask("SCRIPT", "LOAD", body)[:1] == b"$"
        return client.ask("EVALSHA", sha1(body.encode()).hexdigest(), 1, KEY, said)

    return ask


def tracking(client: Wire, said: str) -> bytes:
    """Over a connection of the client's own."""
    assert client.ask("CLIENT", "TRACKING", "ON", "OPTIN") == b"+OK\r\n"
    return client.ask("EVAL", RETURNS, 1, KEY, said)


WAYS: dict[str, Ask] = {
    "EVAL": lambda client, said: client.ask("EVAL", RETURNS, 1, KEY, said),
    "with two keys": lambda client, said: client.ask("EVAL", RETURNS, 2, KEY, "{bar}2", said),
    "flagged": lambda client, said: client.ask("EVAL", FLAGGED, 1, KEY, said),
    "raised": lambda client, said: client.ask("EVAL", RAISES, 1, KEY, said),
    "EVALSHA": by_digest(RETURNS),
    "EVALSHA flagged": by_digest(FLAGGED),
    "FCALL": lambda client, said: client.ask("FCALL", "say", 1, KEY, said),
    "tracking": tracking,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WORDS)
def test_it_is_passed_on_and_has_run_once(
    cluster: LocalCluster, proxy: ProxyProcess, stranger: Stranger, way: str, name: str
) -> None:
    """The reply is the server's own, byte for byte; a stranger that a script names hears nothing."""
    owner = owner_of(cluster, KEY)
    (other,) = [node for node in cluster.nodes if node is not owner]
    said = words(stranger.address, other.address)[name]
    with Wire(owner.address) as direct, Wire(proxy.address, protocol=3 if way == "tracking" else 2) as client:
        direct.ask("AUTH", PASSWORD)
        expected = (WAYS["EVAL"] if way == "tracking" else WAYS[way])(direct, said)
        assert direct.ask("DEL", KEY) == b":1\r\n"
        assert WAYS[way](client, said) == expected
        assert direct.ask("GET", KEY) == b"$1\r\n1\r\n"
        # Nobody else is led astray either, nor by a look at the map that this might have set off.
        with Wire(proxy.address) as innocent:
            innocent.send(pipeline(*[("SET", f"{{bar}}{number}", number) for number in range(20)]))
            assert innocent.replies(20) == [b"+OK\r\n"] * 20
    assert not stranger.heard


@pytest.mark.parametrize("watched", [False, True], ids=["plain", "watched"])
@pytest.mark.parametrize("name", WORDS)
def test_inside_a_transaction(
    cluster: LocalCluster, proxy: ProxyProcess, stranger: Stranger, name: str, watched: bool
) -> None:
    said = words(stranger.address, cluster.nodes[1].address)[name]
    begin: list[tuple[Argument, ...]] = [("WATCH", KEY)] if watched else []
    block = [*begin, ("MULTI",), ("INCR", KEY), ("EVAL", RETURNS, 1, KEY, said), ("FCALL", "say", 1, KEY, said)]
    with Wire(proxy.address) as client:
        client.send(pipeline(*block, ("EXEC",)))
        result = client.replies(len(block) + 1)[-1]
        assert result.startswith(b"*3\r\n:1\r\n-"), result
        assert client.ask("GET", KEY) == b"$1\r\n3\r\n"
    assert not stranger.heard


def test_many_of_them_leave_nothing_behind(proxy: ProxyProcess, stranger: Stranger) -> None:
    """No connection, no series of metrics, no look at the cluster that a stranger hears of; and order holds."""
    count = 200
    with Wire(proxy.address) as client, Wire(proxy.address) as innocent:
        requests: list[tuple[Argument, ...]] = []
        for number in range(count):
            requests.append(("EVAL", RETURNS, 1, KEY, f"MOVED {SLOT} {stranger.address}"))
            requests.append(("INCR", KEY))
            requests.append(("EVAL", RETURNS, 1, KEY, f"MOVED {SLOT} {LOOPBACK}:{number + 1}"))
        client.send(pipeline(*requests))
        innocent.send(pipeline(*[("INCR", "{bar}n")] * count))
        replies = client.replies(len(requests))
        assert replies[1::3] == [b":%d\r\n" % (3 * number + 2) for number in range(count)]
        assert all(reply.startswith(b"-MOVED") for reply in (*replies[::3], *replies[2::3]))
        assert innocent.replies(count)[-1] == b":%d\r\n" % count
        client.ask("DEL", "{bar}n")
    assert not stranger.heard
    nodes = set(re.findall(r'address="([^"]+)"', proxy.http("/metrics")[1]))
    assert stranger.address not in nodes
    assert len(nodes) <= 2


@pytest.mark.parametrize("name", [name for name in WORDS if "to" not in name])
def test_before_servers_that_are_no_cluster(site: Site, name: str) -> None:
    said = words("", "")[name]
    with site.client() as client, site.direct() as direct:
        assert direct.ask("EVAL", RETURNS, 1, KEY, said) == client.ask("EVAL", RETURNS, 1, KEY, said)
        client.send(pack("EVALSHA", sha1(RETURNS.encode()).hexdigest(), 1, KEY, said))
        assert client.reply()[:1] == b"-"
        assert client.ask("GET", KEY) == b"$1\r\n2\r\n"


class TestWhatIsTheServersOwn:
    def test_a_slot_that_moves_under_scripts(self, cluster: LocalCluster, proxy: ProxyProcess) -> None:
        """Key by key, there and back: scripts, functions and transactions of them go on, and add up."""
        slot = key_slot(b"moving")
        body = "return redis.call('incrby', KEYS[1], 1)"
        two = "redis.call('incr', KEYS[2]) return redis.call('incr', KEYS[1])"
        stop = threading.Event()
        counts = dict.fromkeys(("EVAL", "flagged", "EVALSHA", "FCALL"), 0)
        problems: list[object] = []

        def load(name: str, *request: Argument) -> None:
            with Wire(proxy.address) as client:
                while not stop.is_set():
                    reply = client.ask(*request)
                    counts[name] += 1
                    if reply != b":%d\r\n" % counts[name]:
                        problems.append((name, counts[name], reply))
                        break

        with Wire(proxy.address) as client:
            client.ask("SCRIPT", "LOAD", two)
            for number in range(60):
                client.ask("SET", f"{{moving}}{number}", number)
        adds = "redis.register_function('add', function(keys) return redis.call('incr', keys[1]) end)"
        for node in cluster.nodes:
            node.ask("FUNCTION", "LOAD", "REPLACE", "#!lua name=adds\n" + adds)
        threads = [
            threading.Thread(target=load, args=each)
            for each in (
                ("EVAL", "EVAL", body, 1, "{moving}eval"),
                ("flagged", "EVAL", "#!lua\n" + body, 1, "{moving}flagged"),
                ("EVALSHA", "EVALSHA", sha1(two.encode()).hexdigest(), 2, "{moving}sha", "{moving}sha2"),
                ("FCALL", "FCALL", "add", 1, "{moving}fcall"),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            owner = owner_of(cluster, "{moving}")
            for times in range(40):
                if times >= 4 and min(counts.values()) > 5:
                    break
                target = next(node for node in cluster.nodes if node is not owner)
                move_slot(slot, owner, target, "AUTH", PASSWORD)
                owner = target
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert not problems
        assert min(counts.values()) > 5

    def test_client_caching_is_for_the_script_and_not_for_its_twin(
        self, cluster: LocalCluster, proxy: ProxyProcess
    ) -> None:
        """While slots move a twin goes ahead of each script, but never between CLIENT CACHING and what that is for."""
        reads = "return redis.call('get', KEYS[1])"
        with Wire(proxy.address, protocol=3) as client, Wire(proxy.address) as other:

            def reply() -> bytes:
                """The next that is not what a new map pushes."""
                while (found := client.reply()) == b">2\r\n$10\r\ninvalidate\r\n_\r\n":
                    pass
                return found

            assert client.ask("CLIENT", "TRACKING", "ON", "OPTIN") == b"+OK\r\n"
            for turn in range(3):
                owner = owner_of(cluster, "{gone}")
                move_slot(
                    key_slot(b"gone"),
                    owner,
                    next(node for node in cluster.nodes if node is not owner),
                    "AUTH",
                    PASSWORD,
                )
                assert other.ask("GET", "{gone}") == b"$-1\r\n"
                key = f"{{bar}}cached{turn}"
                client.send(pipeline(("CLIENT", "CACHING", "YES"), ("EVAL", reads, 1, key)))
                assert [reply(), reply()] == [b"+OK\r\n", b"_\r\n"]
                assert other.ask("SET", key, "v") == b"+OK\r\n"
                assert decode(reply()) == [b"invalidate", [key.encode()]]

    def test_a_cluster_that_is_down_for_a_while(self, cluster: LocalCluster, proxy: ProxyProcess) -> None:
        """A node that lost its slot says so; scripts wait until it has it again, and are executed once."""
        slot = key_slot(b"gap")
        owner = owner_of(cluster, "gap")
        with Wire(proxy.address) as client:
            assert client.ask("EVAL", "return redis.call('incr', KEYS[1])", 1, "gap") == b":1\r\n"
            owner.ask("CLUSTER", "DELSLOTS", slot)
            client.send(pipeline(*[("EVAL", "return redis.call('incr', KEYS[1])", 1, "gap")] * 3))
            assert client.silent(0.3)
            owner.ask("CLUSTER", "ADDSLOTS", slot)
            assert client.replies(3) == [b":2\r\n", b":3\r\n", b":4\r\n"]
        assert eventually(lambda: owner.state_ok())

    def test_a_script_that_a_server_lost(self, site: Site) -> None:
        """NOSCRIPT of the server: loaded and run, once."""
        body = "return redis.call('incr', KEYS[1])"
        digest = sha1(body.encode()).hexdigest()
        with site.client() as client:
            assert client.ask("EVAL", body, 1, "k") == b":1\r\n"
            for server in site.shards.primaries:
                server.ask("SCRIPT", "FLUSH")
            client.send(pipeline(*[("EVALSHA", digest, 1, "k")] * 5))
            assert client.replies(5) == [b":%d\r\n" % number for number in range(2, 7)]
