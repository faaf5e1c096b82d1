"""Transactions over real servers: nothing lost, nothing torn, nothing done twice, and watched keys really watched."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1

import pytest
import redis

from proxy.devservers.cluster import ClusterNode, LocalCluster, start_cluster
from proxy.devservers.servers import LOOPBACK, ServerBinary
from proxy.sharding.slots import key_slot
from tests.support.clusters import move_slot
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.site import Site, commands_seen
from tests.support.wire import Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

OK, QUEUED, NULL = b"+OK\r\n", b"+QUEUED\r\n", b"*-1\r\n"
CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
EXECABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def together(count: int, work: Callable[[int], None]) -> None:
    """Have ``count`` threads work at once. Raises what the first that failed raised."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def increase(client: Wire, key: str, times: int) -> int:
    """Add 1 to ``key`` so often, by WATCH and EXEC in as few writes as can be; how often somebody else was faster."""
    lost = 0
    while times:
        client.send(pipeline(("WATCH", key), ("GET", key)))
        watched, value = client.replies(2)
        assert watched == OK, watched
        assert value[:1] == b"$", value
        number = int(decode(value) or 0)  # type: ignore[call-overload]  # bytes or None
        client.send(pipeline(("MULTI",), ("SET", key, number + 1), ("GET", key), ("EXEC",)))
        *_, result = client.replies(4)
        if result == NULL:
            lost += 1
        else:
            text = str(number + 1)
            assert result == f"*2\r\n+OK\r\n${len(text)}\r\n{text}\r\n".encode(), result
            times -= 1
    return lost


def test_no_update_of_a_counter_is_lost(site: Site) -> None:
    """20 clients, one counter; each update is based on what was read."""
    times = 25 if site.plain.binary.kind == "redis" else 10
    lost: list[int] = []

    def work(number: int) -> None:
        with site.client() as client:
            lost.append(increase(client, "counter", times))

    together(20, work)
    with site.client() as client:
        assert client.value("GET", "counter") == str(20 * times).encode()
    assert sum(lost) > 0, "the clients were never in each other's way"


def test_a_read_does_not_overtake_its_watch(site: Site) -> None:
    """In one write: what GET answers is what the keys were when they were watched, so a later change is seen."""
    rounds = 200
    wrong: list[tuple[bytes, bytes]] = []
    stop = threading.Event()

    def writer() -> None:
        with site.client() as client:
            number = 0
            while not stop.is_set():
                number += 1
                client.ask("SET", "k", number)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        with site.client() as client:
            for _ in range(rounds):
                client.send(pipeline(("WATCH", "k"), ("GET", "k"), ("MULTI",), ("GET", "k"), ("EXEC",)))
                _, before, *_, result = client.replies(5)
                if result not in (NULL, b"*1\r\n" + before):
                    wrong.append((before, result))
    finally:
        stop.set()
        thread.join()
    assert not wrong


@pytest.mark.parametrize("protocol", [2, 3])
def test_keys_in_several_slots(site: Site, protocol: int) -> None:
    first, second, _ = site.tags()
    with site.client(protocol) as client:
        client.send(pipeline(("MULTI",), ("SET", first, 1), ("SET", second, 1), ("EXEC",), ("EXISTS", first, second)))
        assert client.replies(5) == [OK, QUEUED, QUEUED, CROSSSLOT, b":0\r\n"]
        client.send(pipeline(("MULTI",), ("MSET", first, 1, second, 1), ("EXEC",)))
        assert client.replies(3) == [OK, CROSSSLOT, EXECABORT]
        assert client.ask("WATCH", first, second) == CROSSSLOT
        assert client.ask("WATCH", first) == OK
        assert client.ask("WATCH", second) == CROSSSLOT
        client.send(pipeline(("MULTI",), ("SET", second, 1), ("EXEC",), ("GET", second)))
        assert client.replies(4)[:3] == [OK, QUEUED, CROSSSLOT]
        client.send(pipeline(("MULTI",), ("SET", second, 1), ("EXEC",)))
        assert client.replies(3) == [OK, QUEUED, b"*1\r\n+OK\r\n"]


def test_what_a_refused_transaction_was_to_subscribe_to_is_forgotten(site: Site) -> None:
    first, second, _ = site.tags()
    with site.client(3) as client:
        client.send(pipeline(("MULTI",), ("SUBSCRIBE", "a"), ("SET", first, 1), ("SET", second, 1), ("EXEC",)))
        assert client.replies(5)[-1] == CROSSSLOT
        client.send(pipeline(("MULTI",), ("SUBSCRIBE", "b"), ("EXEC",)))
        assert client.replies(3)[-1] == b"*1\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n"


def test_nothing_is_watched_after_a_transaction(site: Site) -> None:
    with site.client() as client:
        client.send(pipeline(("WATCH", "k"), ("MULTI",), ("CLIENT", "INFO"), ("EXEC",), ("CLIENT", "INFO")))
        *_, inside, after = client.replies(5)
        # Redis 7.0 does not show it.
        assert b" watch=0 " in inside or b" watch=" not in inside
        assert b" watch=0 " in after or b" watch=" not in after


def test_what_is_for_all_shards_is_refused_when_it_is_queued(site: Site) -> None:
    with site.client() as client:
        for line in ("DBSIZE", "KEYS *", "SCAN 0", "FLUSHALL", "RANDOMKEY", "INFO", "SCRIPT LOAD x"):
            assert client.ask("MULTI") == OK
            reply = client.ask(*line.split())
            assert b"is for all shards, and a transaction is executed by one" in reply, reply
            assert client.ask("EXEC") == EXECABORT


def test_one_shard_has_no_slots_and_no_other_shards(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.plain.address)
    with Wire(proxy.address) as client:
        client.send(
            pipeline(("MULTI",), ("SET", "a", 1), ("SET", "b", 2), ("DBSIZE",), ("CONFIG", "GET", "requirepass"))
        )
        client.send(pipeline(("INFO", "server"), ("SCAN", 0), ("EXEC",)))
        *queued, result = client.replies(8)
        assert queued == [OK, *[QUEUED] * 6]
        found = decode(result)
        assert isinstance(found, list)
        *values, info, scan = found
        assert values == [b"OK", b"OK", 2, [b"requirepass", b""]]
        assert b"executable:slotgate" in info
        assert sorted(scan[1]) == [b"a", b"b"]
        assert client.ask("WATCH", "a", "b") == OK


def test_the_queue_is_bounded(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.plain.address, config='[limits]\nmax_request_size = "4kb"\nmax_bulk = "2kb"\n')
    with Wire(proxy.address) as client:
        client.send(pipeline(("MULTI",), *[("SET", "k", "v" * 1500)] * 3, ("SET", "k", 1), ("EXEC",), ("EXISTS", "k")))
        replies = client.replies(7)
        assert replies[:3] == [OK, QUEUED, QUEUED]
        assert replies[3].startswith(
            b"-ERR the transaction takes more than 4096 bytes of memory (limits.max_request_size)"
        )
        assert replies[4:] == [QUEUED, EXECABORT, b":0\r\n"]


def test_order_across_transactions_and_what_stands_between_them(site: Site) -> None:
    """Thousands of commands in one write, in transactions and not, on keys of all shards."""
    commands: list[tuple[str | int, ...]] = []
    expected: list[bytes] = []
    for number in range(300):
        for tag in site.tags():
            key = f"{{{tag}}}k"
            commands += [("SET", key, number), ("MULTI",), ("APPEND", key, "x"), ("GET", key), ("EXEC",), ("GET", key)]
            value = f"{number}x"
            bulk = f"${len(value)}\r\n{value}\r\n".encode()
            expected += [OK, OK, QUEUED, QUEUED, b"*2\r\n:%d\r\n%b" % (len(value), bulk), bulk]
    with site.client() as client:
        writer = threading.Thread(target=client.send, args=(pipeline(*commands),))
        writer.start()
        assert client.replies(len(expected)) == expected
        writer.join()


def test_large_transactions(site: Site) -> None:
    """Many commands, and large ones, beside others that must not be mixed up with them."""
    tag = site.tags()[0]
    value = "v" * 100_000

    def work(number: int) -> None:
        key = f"{{{tag}}}{number}"
        with site.client() as client:
            for _ in range(3):
                many = [("SET", key, value), *[("INCR", f"{key}n")] * 500, ("GET", key)]
                client.send(pipeline(("MULTI",), *many, ("EXEC",), ("GET", key), ("DEL", f"{key}n")))
                *queued, result, got, gone = client.replies(len(many) + 4)
                assert set(queued[1:]) == {QUEUED}
                values = decode(result)
                assert isinstance(values, list)
                assert values[1:-1] == list(range(1, 501))
                assert values[-1] == decode(got) == value.encode()
                assert gone == b":1\r\n"

    together(4, work)


def test_very_many_scripts_of_one_transaction(site: Site) -> None:
    """What they need is looked for in slices: what follows waits, and keeps its turn."""
    key = site.tags()[0]
    evals = [("EVAL", f"return redis.call('incr', KEYS[1]) + {number}", 1, key) for number in range(3000)]
    digest = sha1(b"return redis.call('get', KEYS[1])").hexdigest()
    with site.client() as client:
        client.ask("SCRIPT", "LOAD", "return redis.call('get', KEYS[1])")
        client.send(pipeline(("MULTI",), *evals, ("EVALSHA", digest, 1, key), ("EXEC",), ("INCR", key), ("PING",)))
        *queued, result, behind, pong = client.replies(len(evals) + 5)
        assert set(queued[1:]) == {QUEUED}
        assert decode(result) == [*range(1, 6001, 2), b"3000"]
        assert (behind, pong) == (b":3001\r\n", b"+PONG\r\n")


def test_a_client_that_goes_away_leaves_nothing_behind(site: Site) -> None:
    """Neither a transaction on a shared connection nor a watch on one of its own."""
    key = site.tags()[0]
    for request in (
        pipeline(("MULTI",), ("SET", key, 1)),
        pipeline(("WATCH", key), ("GET", key), ("MULTI",), ("SET", key, 1)),
    ):
        with site.client() as client:
            client.send(request)
            client.replies(2)
    with site.client() as client:
        assert client.ask("SET", key, 2) == OK
        client.send(pipeline(("MULTI",), ("GET", key), ("EXEC",)))
        assert client.replies(3) == [OK, QUEUED, b"*1\r\n$1\r\n2\r\n"]
    server = site.shards.primaries[0]
    assert eventually(lambda: b"watch=" not in _clients(server.address) or b"watch=1" not in _clients(server.address))
    assert commands_seen(server).get("exec") == 1


def _clients(address: str) -> bytes:
    with Wire(address) as wire:
        return wire.ask("CLIENT", "LIST")


def test_a_queue_is_shown(site: Site) -> None:
    with site.client() as client, site.client() as other:
        number = client.value("CLIENT", "ID")
        assert client.ask("WATCH", "k") == OK
        client.send(pipeline(("MULTI",), ("GET", "k"), ("GET", "k")))
        client.replies(3)
        line = other.value("CLIENT", "LIST", "ID", str(number))
        assert isinstance(line, bytes)
        assert b" flags=x " in line
        assert b" multi=2 watch=1 " in line or (b" multi=2 " in line and b" watch=" not in line)
        client.ask("EXEC")
        line = other.value("CLIENT", "LIST", "ID", str(number))
        assert isinstance(line, bytes)
        assert b" flags=N " in line
        assert b" multi=-1 watch=0 " in line or (b" multi=-1 " in line and b" watch=" not in line)


@pytest.mark.parametrize("mode", ["WRITE", "ALL"])
def test_a_pause_holds_exec(site: Site, mode: str) -> None:
    with site.client() as client, site.client() as reader, site.client() as other:
        client.send(pipeline(("MULTI",), ("SET", "k", 1)))
        assert client.replies(2) == [OK, QUEUED]
        reader.send(pipeline(("MULTI",), ("GET", "k")))
        assert reader.replies(2) == [OK, QUEUED]
        assert other.ask("CLIENT", "PAUSE", 60000, mode) == OK
        client.send(pack("EXEC"))
        reader.send(pack("EXEC"))
        if mode == "WRITE":
            assert reader.reply() == b"*1\r\n$-1\r\n"
        else:
            assert reader.silent()
        assert client.silent()
        assert other.ask("CLIENT", "UNPAUSE") == OK
        assert client.reply() == b"*1\r\n+OK\r\n"


def test_replies_that_are_not_wanted(site: Site) -> None:
    """CLIENT REPLY, of a transaction as of anything else."""
    conversations = [
        [("CLIENT", "REPLY", "OFF"), ("MULTI",), ("SET", "k", 1), ("EXEC",), ("CLIENT", "REPLY", "ON"), ("GET", "k")],
        [("CLIENT", "REPLY", "SKIP"), ("MULTI",), ("SET", "k", 2), ("GET", "k"), ("EXEC",), ("GET", "k")],
        [("WATCH", "k"), ("CLIENT", "REPLY", "OFF"), ("MULTI",), ("SET", "k", 3), ("EXEC",), ("CLIENT", "REPLY", "ON")],
    ]
    if site.plain.binary.kind == "redis":  # Valkey does not queue CLIENT REPLY
        conversations += [
            [("MULTI",), ("CLIENT", "REPLY", "OFF"), ("SET", "k", 4), ("EXEC",), ("CLIENT", "REPLY", "ON")],
            [("MULTI",), ("GET", "k"), ("CLIENT", "REPLY", "SKIP"), ("GET", "k"), ("EXEC",), ("GET", "k")],
            [("CLIENT", "REPLY", "OFF"), ("MULTI",), ("CLIENT", "REPLY", "ON"), ("GET", "k"), ("EXEC",)],
        ]
    for commands in conversations:
        heard = []
        for connect in (site.direct, site.client):
            with connect() as client:
                client.send(pipeline(*commands, ("ECHO", "end")))
                said = b""
                while not said.endswith(b"end\r\n"):
                    said += client.socket.recv(65536)
                heard.append(said)
        assert heard[0] == heard[1], commands


@pytest.mark.parametrize("line", ["MULTI", "WATCH k", "SHUTDOWN", "SYNC"])
def test_what_redis_refuses_inside_a_transaction(site: Site, line: str) -> None:
    """Valkey words it otherwise, and discards the transaction where Redis 7.0 does not."""
    if site.plain.binary.kind != "redis":
        pytest.skip("the reference is Redis 7.0")
    commands = [("MULTI",), tuple(line.split()), ("SET", "k", 1), ("EXEC",), ("GET", "k")]
    heard = []
    for connect in (site.direct, site.client):
        with connect() as client:
            client.send(pipeline(*commands))
            heard.append(client.replies(len(commands)))
    assert heard[0] == heard[1]


def test_a_lost_connection_breaks_a_watch(site: Site) -> None:
    key = site.tags()[1]
    with site.client() as client, Wire(site.shards.primaries[1].address) as server:
        assert client.ask("WATCH", key) == OK
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert client.ask("GET", key) == b"$-1\r\n"  # waits until the proxy has connected again
        client.send(pipeline(("MULTI",), ("SET", key, 1), ("EXEC",)))
        assert client.replies(3) == [OK, QUEUED, NULL]
        assert eventually(lambda: client.ask("WATCH", key) == OK)
        client.send(pipeline(("MULTI",), ("SET", key, 2), ("EXEC",)))
        assert client.replies(3) == [OK, QUEUED, b"*1\r\n+OK\r\n"]


def test_what_a_tracking_client_reads_where_it_watches(site: Site) -> None:
    """No server tells of changes to it, so it must not be kept: everything is invalidated."""
    key = site.tags()[0]
    with site.client(3) as client:
        assert client.ask("CLIENT", "TRACKING", "ON") == OK
        assert client.ask("WATCH", key) == OK
        client.send(pipeline(("MULTI",), ("GET", key), ("EXEC",)))
        *queued, result, push = client.replies(4)
        assert (queued, result) == ([OK, QUEUED], b"*1\r\n_\r\n")
        assert push == b">2\r\n$10\r\ninvalidate\r\n_\r\n"
        client.send(pipeline(("MULTI",), ("GET", key), ("EXEC",)))
        assert client.replies(3) == [OK, QUEUED, b"*1\r\n_\r\n"]
        assert client.silent()


@pytest.mark.clients
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(site: Site, protocol: int) -> None:
    port = int(site.proxy.address.rpartition(":")[2])
    with redis.Redis(host=LOOPBACK, port=port, protocol=protocol, decode_responses=True) as client:
        with client.pipeline(transaction=True) as pipe:
            pipe.set("{u}a", 1).incr("{u}a").hset("{u}h", "f", "v").hgetall("{u}h")
            assert pipe.execute() == [True, 2, 1, {"f": "v"}]
            pipe.set("{u}a", "x").incr("{u}a").get("{u}a")
            first, second, third = pipe.execute(raise_on_error=False)
            assert (first, third) == (True, "x")
            assert isinstance(second, redis.ResponseError)
            pipe.set("a", 1).set("b", 2).set("c", 3)
            with pytest.raises(redis.ResponseError, match="same slot"):
                pipe.execute()
        client.set("counter", 0)

        def add(number: int) -> None:
            def change(pipe: "redis.client.Pipeline") -> None:
                value = int(pipe.get("counter"))  # type: ignore[arg-type]  # in immediate mode it is the value
                pipe.multi()
                pipe.set("counter", value + 1)

            for _ in range(10):
                client.transaction(change, "counter")

        together(8, add)
        assert client.get("counter") == "80"
        with client.pipeline() as pipe:
            pipe.watch("counter")
            client.set("counter", 1)
            pipe.multi()
            pipe.set("counter", 2)
            with pytest.raises(redis.WatchError):
                pipe.execute()


# ---- slots that move


@pytest.fixture(scope="module")
def cluster(binary: ServerBinary) -> Iterator[LocalCluster]:
    """Three primaries."""
    with start_cluster(3, 0, binary=binary, node_timeout=1.0) as cluster:
        yield cluster


def test_transactions_on_a_slot_that_moves(cluster: LocalCluster, serve: Serve) -> None:
    """Plain ones and watching ones go on, without one error, and add up."""
    proxy = serve("--cluster", cluster.nodes[0].address)
    slot = key_slot(b"{m}")
    stop = threading.Event()
    counts = [0, 0, 0, 0]

    def plain(number: int) -> None:
        with Wire(proxy.address) as client:
            while not stop.is_set():
                client.send(pipeline(("MULTI",), ("INCR", "{m}a"), ("INCR", "{m}b"), ("EXEC",)))
                *queued, result = client.replies(4)
                assert queued == [OK, QUEUED, QUEUED]
                values = decode(result)
                assert isinstance(values, list), values
                assert values[0] == values[1]
                counts[number] += 1

    def watching(number: int) -> None:
        with Wire(proxy.address) as client:
            while not stop.is_set():
                increase(client, "{m}c", 1)
                counts[number] += 1

    def work(number: int) -> None:
        if number < 2:
            plain(number)
        elif number < 4:
            watching(number)
        else:
            try:
                owner = _owner(cluster, slot)
                for _ in range(6):
                    target = next(node for node in cluster.nodes if node is not owner)
                    move_slot(slot, owner, target)
                    owner = target
            finally:
                stop.set()

    with Wire(proxy.address) as client:
        for key in ("{m}a", "{m}b", "{m}c", *(f"{{m}}{number}" for number in range(50))):
            client.ask("SET", key, 0)
    together(5, work)
    assert min(counts) > 0
    with Wire(proxy.address) as client:
        assert decode(client.ask("MGET", "{m}a", "{m}b", "{m}c")) == [
            str(count).encode() for count in (counts[0] + counts[1], counts[0] + counts[1], counts[2] + counts[3])
        ]


def _owner(cluster: LocalCluster, slot: int) -> ClusterNode:
    (owner,) = [node for node in cluster.nodes if node.ask("CLUSTER", "COUNTKEYSINSLOT", slot)]
    return owner
