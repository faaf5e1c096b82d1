"""A request that has had a very long reply goes over another connection than everybody's, and changes no order."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from proxy.resp import encode
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import metric
from tests.support.site import shard_tags
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

VALUE = 9 << 20
TAG = shard_tags(2)[0]
BIG, LIST, SMALL = f"{{{TAG}}}big", f"{{{TAG}}}list", f"{{{TAG}}}small"
HALVES = [f"{{{TAG}}}half{number}" for number in range(2)]
ROW = b"r" * 30_000
ROWS = [
    pytest.param(("GET", BIG), ("GET", SMALL), 2, id="GET"),
    pytest.param(("LRANGE", LIST, 0, -1), ("LRANGE", LIST, 0, 1), 3, id="LRANGE"),
    pytest.param(("MGET", *HALVES), ("MGET", HALVES[0] + "none", SMALL), 2, id="MGET"),
    pytest.param(("GETRANGE", BIG, 0, -1), ("GETRANGE", BIG, 0, 3), 3, id="GETRANGE"),
]


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two shards; on the first there are values whose replies are very long."""
    with start_many(2, 0, binary=binary) as running:
        with Wire(running.primaries[0].address) as wire:
            wire.ask("SET", BIG, b"b" * VALUE)
            wire.ask("SET", SMALL, "s")
            for key in HALVES:
                wire.ask("SET", key, b"h" * (VALUE // 2))
            wire.ask("RPUSH", LIST, *[ROW] * (VALUE // len(ROW) + 1))
        yield running


class Monitor:
    """Over which connections the first shard's primary is asked what, while it is there."""

    def __init__(self, shards: LocalShards) -> None:
        self.seen: list[tuple[str, list[str]]] = []
        self._wire = Wire(shards.primaries[0].address)
        self._wire.ask("MONITOR")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def _read(self) -> None:
        try:
            while True:
                head, _, words = self._wire.reply().decode().partition("] ")
                self.seen.append((head.rpartition(" ")[2], [word.strip('"') for word in words.split()]))
        except (OSError, ValueError):
            return

    def over(self, command: tuple[Argument, ...]) -> list[str]:
        """The connections over which it came, each time."""
        wanted = [str(word) for word in command]
        return [source for source, words in list(self.seen) if words == wanted]


@pytest.mark.parametrize(("command", "another", "protocol"), ROWS)
def test_it_has_a_connection_that_only_such_requests_use(
    shards: LocalShards, serve: Serve, command: tuple[Argument, ...], another: tuple[Argument, ...], protocol: int
) -> None:
    proxy = serve("--static", shards.static)
    with (
        Monitor(shards) as monitor,
        Wire(proxy.address, protocol=protocol) as one,
        Wire(proxy.address, protocol=protocol) as two,
    ):
        wanted = one.ask(*command)
        for wire in one, two:
            wire.send(pipeline(command, another, ("SET", SMALL, "s"), another, command))
            replies = wire.replies(5)
            assert (replies[0], replies[4]) == (wanted, wanted)
            assert replies[1] == replies[3]
        assert eventually(lambda: len(monitor.over(command)) == 5 and len(monitor.over(another)) == 4)
        theirs = set(monitor.over(command)[1:])
        assert not theirs & {*monitor.over(another), *monitor.over(("SET", SMALL, "s"))}
        assert metric(proxy, "slotgate_backend_up", connection=f"long/resp{protocol}/db0", shard="shard-1") == 1
    assert metric(proxy, "slotgate_backend_reconnects_total") == 0


def test_a_client_sees_what_it_wrote_before(shards: LocalShards, serve: Serve) -> None:
    """And not what it writes later: in one pipeline, over both connections."""
    proxy = serve("--static", shards.static)
    key = f"{{{TAG}}}written"
    values = [bytes([97 + number]) * VALUE for number in range(2)]
    with Wire(proxy.address) as wire:
        wire.ask("SET", key, values[0])
        assert wire.ask("GET", key) == encode.bulk(values[0])
        for before, after in itertools.pairwise(values):
            wire.send(
                pipeline(
                    ("SETRANGE", key, 0, before),
                    ("GET", key),
                    ("SETRANGE", key, 0, after),
                    ("STRLEN", key),
                    ("GET", key),
                    ("SETRANGE", key, 0, "short"),
                    ("GETRANGE", key, 0, 4),
                    ("GET", key),
                )
            )
            length = encode.integer(VALUE)
            assert wire.reply() == length
            assert wire.reply() == encode.bulk(before)
            assert wire.replies(2) == [length, length]
            assert wire.reply() == encode.bulk(after)
            assert wire.replies(2) == [length, encode.bulk("short")]
            assert wire.reply() == encode.bulk(b"short" + after[5:])
        wire.send(pipeline(("DEL", key), ("GET", key), ("SET", key, "x"), ("GET", key)))
        assert wire.replies(4) == [encode.integer(1), b"$-1\r\n", b"+OK\r\n", encode.bulk("x")]


def test_who_does_not_read_it_leaves_so_many_connections_and_no_more(shards: LocalShards, serve: Serve) -> None:
    tables = "".join(f'[[shards]]\nprimary = "{server.address}"\n' for server in shards.primaries)
    proxy = serve(config=f'[backend]\nlong_reply_connections = 2\n[limits]\noutput_soft = "256kb"\n{tables}')
    wanted = encode.bulk(b"b" * VALUE)
    with ExitStack() as stack:
        other = stack.enter_context(Wire(proxy.address))
        assert other.ask("GET", BIG) == wanted
        slow = [stack.enter_context(Wire(proxy.address)) for _ in range(8)]
        with Monitor(shards) as monitor:
            for wire in slow:
                wire.send(pack("GET", BIG))
            assert eventually(lambda: len(monitor.over(("GET", BIG))) == len(slow))
            assert len(set(monitor.over(("GET", BIG)))) <= 3
            assert other.ask("SET", SMALL, "s") == b"+OK\r\n"
            assert eventually(lambda: len(monitor.over(("SET", SMALL, "s"))) == 1)
            assert not {*monitor.over(("SET", SMALL, "s"))} & {*monitor.over(("GET", BIG))}
        for wire in slow:
            assert wire.reply() == wanted
    assert metric(proxy, "slotgate_uncertain_total") == 0
    assert metric(proxy, "slotgate_backend_reconnects_total") == 0
