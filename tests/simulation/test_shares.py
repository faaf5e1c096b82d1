"""Clients that have had their share of a turn: what they sent is carried out later, in order, whatever happens then."""

import asyncio
from collections.abc import Callable

import hiredis
import pytest

from proxy.resp import encode
from proxy.transport.flow_control import Stop
from proxy.transport.write_batch import BYTES, LOOK, OWN, SHARE_LOOKS
from tests.simulation.playbook import Stage, Step, answers, hears, known, passes, play, says, sees
from tests.support.memory_wire import MemoryWire

PING = encode.request(("PING",))
SHARE = LOOK * SHARE_LOOKS // OWN
"""So many requests that the proxy answers itself are a share where time stands still."""
MANY = 3 * SHARE
"""More than one."""


def floods(name: str, data: bytes, then: Callable[[Stage], None] = lambda stage: None) -> Step:
    """A client sends bytes, all of which the proxy has at once; ``then`` happens before anything else does."""

    async def step(stage: Stage) -> None:
        connection = stage.client(name).connection
        connection.data_received(data)
        assert connection.flow.reasons & Stop.TURN
        then(stage)

    return step


def drain(stage: Stage) -> None:
    for client in stage.service.clients:
        client.drain()


def pings(name: str, least: int, most: int, *last: str) -> Step:
    """A client has heard so many PONG, and ``last`` behind them."""

    async def step(stage: Stage) -> None:
        client = stage.client(name)
        heard, client.heard = client.heard, []
        assert heard[len(heard) - len(last) :] == list(last)
        count = len(heard) - len(last)
        assert heard[:count] == ["PONG"] * count
        assert least <= count <= most

    return step


ECHO = encode.request(("ECHO", "PONG"))
"""A command that a pause holds, with the answer of PING."""

CASES: dict[str, tuple[Step, ...]] = {
    "all is carried out, in order": (
        floods("a", PING * MANY + encode.request(("ECHO", "end"))), pings("a", MANY, MANY, "end"), known(1),
    ),
    "inline requests, and one that is cut": (
        floods("a", b"PING\r\n" * MANY + PING[:6]), pings("a", MANY, MANY), says("b", "PING"), hears("b", "PONG"),
        # The rest of it.
        floods("a", PING[6:] + PING * MANY), pings("a", MANY + 1, MANY + 1),
    ),
    "who asks for the end gets it behind all answers": (
        floods("a", PING * MANY + encode.request(("QUIT",)) + PING), pings("a", MANY, MANY, "OK", "closed"), known(0),
    ),
    "who sends no more is answered, then closed": (
        floods("a", PING * MANY, lambda stage: stage.client("a").wire.end()), pings("a", MANY, MANY, "closed"),
        known(0),
    ),
    "who is gone is forgotten": (
        floods("a", PING * MANY, lambda stage: stage.client("a").wire.cut()), pings("a", 0, MANY - 1, "closed"),
        known(0), says("b", "PING"), hears("b", "PONG"),
    ),
    "who is closed is forgotten": (
        floods("a", PING * MANY, lambda stage: stage.client("a").connection.close()), pings("a", 0, 0, "closed"),
        known(0), says("b", "PING"), hears("b", "PONG"),
    ),
    "a proxy that ends answers what it has begun": (
        floods("a", PING * MANY, drain), pings("a", 1, SHARE + LOOK, "closed"), known(0),
    ),
    "nonsense behind much is met in its turn": (
        floods("a", PING * MANY + b"*1\r\nx"),
        pings("a", MANY, MANY, "-ERR Protocol error: expected '$', got 'x'", "closed"),
    ),
    "a pause holds what is left": (
        floods("a", ECHO * MANY, lambda stage: stage.service.clients.pause(1.0, False)),
        pings("a", 1, SHARE + LOOK), passes(1.1), pings("a", MANY - SHARE - LOOK, MANY - 1),
    ),
    "what a server answers keeps its place": (
        floods("a", PING * MANY + encode.request(("GET", "k")) + PING * MANY), sees("GET k"), pings("a", MANY, MANY),
        answers(b"$1\r\n1\r\n"), hears("a", "1", *["PONG"] * MANY),
    ),
    "no requests at all": (floods("a", b"\r\n*0\r\n" * MANY + PING), hears("a", "PONG")),
    "a transaction": (
        floods("a", encode.request(("MULTI",)) + PING * MANY + encode.request(("DISCARD",))),
        hears("a", "OK", *["QUEUED"] * MANY, "OK"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in CASES.items()])
def test_what_is_left_for_later(steps: tuple[Step, ...]) -> None:
    play(steps)


def test_a_client_that_asks_little_need_not_wait_for_those_that_ask_much() -> None:
    order: list[str] = []

    def listens(stage: Stage, name: str) -> None:
        client = stage.client(name)
        receive = client.receive

        def noting(data: bytes) -> None:
            order.append(name)
            receive(data)

        client.receive = noting  # type: ignore[method-assign]

    async def step(stage: Stage) -> None:
        for name in ("a", "b", "c", "innocent"):
            listens(stage, name)
        for name in ("a", "b", "c"):
            stage.client(name).connection.data_received(PING * MANY)
        stage.client("innocent").connection.data_received(PING)
        await asyncio.sleep(0.001)
        assert [len(stage.client(name).heard) for name in ("a", "b", "c", "innocent")] == [MANY, MANY, MANY, 1]
        assert order.index("innocent") < 12
        # They take turns.
        assert sorted(order[-3:]) == ["a", "b", "c"]

    play([step])


class Ready:
    """A server that answers every request at once, by OK."""

    def __init__(self, wire: MemoryWire) -> None:
        self.seen: list[bytes] = []
        self._wire = wire
        self._reader = hiredis.Reader()

    def receive(self, data: bytes) -> None:
        self._reader.feed(data)
        while (args := self._reader.gets()) is not False:
            assert isinstance(args, list)
            self.seen.append(args[2])
            self._wire.send(b"+OK\r\n")

    def lost(self) -> None: ...


@pytest.mark.parametrize("size", [10, 1000, 5000])
def test_the_fast_lane_has_shares_too(size: int) -> None:
    """By number, and by bytes where requests are large; all reach the server in order."""
    sets = [encode.request(("SET", "k", b"%d" % number)) for number in range(60_000)]
    count = 3 * LOOK * SHARE_LOOKS // max(1, size // BYTES)
    values = [b"%d" % number + b"x" * size for number in range(count)]

    async def step(stage: Stage) -> None:
        assert stage.connection is not None
        server = stage.connection.wire.peer = Ready(stage.connection.wire)
        client = stage.client("a")
        # Until so many may be in flight.
        client.connection.data_received(b"".join(sets))
        await asyncio.sleep(0.01)
        assert client.heard == ["OK"] * len(sets)
        assert client.connection.most >= 2 * LOOK * SHARE_LOOKS
        client.connection.data_received(b"".join(encode.request(("SET", "k", value)) for value in values))
        assert client.connection.flow.reasons & Stop.TURN
        await asyncio.sleep(0.01)
        assert client.heard == ["OK"] * (len(sets) + count)
        assert server.seen[len(sets) :] == values

    play([step])


@pytest.mark.parametrize(("size", "most"), [(10, 16384), (10_000, 838), (1_000_000, 16)])
def test_how_many_are_in_flight_depends_on_their_replies(size: int, most: int) -> None:
    """So many that ``output_soft`` has room for the replies, and few before it is known how large they are."""
    reply = encode.bulk(b"x" * (size - len(b"%d" % size) - 5))

    async def step(stage: Stage) -> None:
        assert stage.connection is not None
        client = stage.client("a")
        asked = 60_000 if size == 10 else 2000
        client.connection.data_received(encode.request(("GET", "k")) * asked)
        await asyncio.sleep(0.001)
        in_flight = len(stage.seen)
        assert in_flight == 512
        largest = 0
        for number in range(20):
            stage.seen.clear()
            stage.connection.wire.send(reply * min(in_flight, 300))
            await asyncio.sleep(0.05)
            in_flight += len(stage.seen) - min(in_flight, 300)
            if number > 1:
                largest = max(largest, in_flight)
        assert largest <= most
        assert client.connection.most <= most

    play([step], limits={"output_hard": "10gb", "output_memory": "10gb"})
