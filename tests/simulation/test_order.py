"""Whatever is pipelined, however it is cut and however late each shard answers: the replies are those of one server."""

import asyncio
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.client.connection import ClientConnection
from proxy.config import Config
from proxy.resp import encode
from proxy.sharding.topology import build_topology
from proxy.worker.service import Service
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.simulated_server import SimulatedNetwork, SimulatedServer
from tests.support.virtual_loop import run, virtual_loop

_KEYS = [b"a", b"b", b"c", b"d", b"{a}1", b"{b}2", b"e", b"long-" + b"k" * 120]
_KEY = st.sampled_from(_KEYS)
_SOME = st.lists(_KEY, min_size=1, max_size=5, unique=True)
_VALUE = st.sampled_from([b"", b"1", b"value", b"\r\n$-1\r\n", b"x" * 98, b"x" * 5000])
_WORD = st.integers(0, 10**6).map(lambda number: b"w%d" % number)


def _named(name: bytes, *parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(*parts).map(lambda args: [name, *args])


_REQUEST = st.one_of(
    _named(b"SET", _KEY, _VALUE),
    _named(b"GET", _KEY),
    _named(b"GET", _KEY),
    _named(b"APPEND", _KEY, _VALUE),
    _named(b"INCR", _KEY),
    _named(b"ECHO", _WORD),
    _named(b"PING", _WORD),
    _named(b"NonSense", _WORD),
    st.tuples(st.sampled_from([b"MGET", b"DEL", b"EXISTS"]), _SOME).map(lambda pair: [pair[0], *pair[1]]),
    st.lists(st.tuples(_KEY, _VALUE), min_size=1, max_size=4, unique_by=lambda pair: pair[0]).map(
        lambda pairs: [b"MSET", *(part for pair in pairs for part in pair)]
    ),
)


class _OneServer:
    """What one Redis server would answer, one request after another."""

    def __init__(self) -> None:
        self._data: dict[bytes, bytes] = {}

    def answer(self, args: list[bytes]) -> bytes:
        data = self._data
        match args:
            case [b"SET" | b"MSET", *pairs]:
                data.update(zip(pairs[::2], pairs[1::2], strict=True))
                return encode.OK
            case [b"GET", key]:
                return self._value(key)
            case [b"MGET", *keys]:
                return encode.array(map(self._value, keys))
            case [b"APPEND", key, value]:
                data[key] = data.get(key, b"") + value
                return encode.integer(len(data[key]))
            case [b"INCR", key] if data.get(key, b"0").isdigit():
                data[key] = b"%d" % (int(data.get(key, b"0")) + 1)
                return encode.integer(int(data[key]))
            case [b"INCR", _]:
                return encode.error("ERR value is not an integer or out of range")
            case [b"DEL", *keys]:
                return encode.integer(sum(data.pop(key, None) is not None for key in keys))
            case [b"EXISTS", *keys]:
                return encode.integer(sum(key in data for key in keys))
            case [b"ECHO" | b"PING", word]:
                return encode.bulk(word)
            case [name, word]:
                words = word.decode()
                return encode.error(f"ERR unknown command '{name.decode()}', with args beginning with: '{words}' ")
        raise AssertionError(args)

    def _value(self, key: bytes) -> bytes:
        value = self._data.get(key)
        return encode.null(2) if value is None else encode.bulk(value)


class _Listener:
    def __init__(self) -> None:
        self.got = b""

    def receive(self, data: bytes) -> None:
        self.got += data

    def lost(self) -> None:
        raise AssertionError(f"closed after {self.got[-200:]!r}")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(_REQUEST, max_size=120),
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=8),
    delays=st.lists(st.sampled_from([0.0, 0.0001, 0.01, 0.3]), min_size=1, max_size=5),
    most=st.sampled_from([1, 3, 16384]),
    seed=st.integers(0, 2**32),
)
def test_as_one_server(requests: list[list[bytes]], cuts: list[int], delays: list[float], most: int, seed: int) -> None:
    """``cuts``: sizes of the pieces that the client sends, in turn. ``delays``: how slow each shard is, in seconds."""
    server = _OneServer()
    expected = b"".join(map(server.answer, requests))
    got = run(_ask(requests, cuts, delays, most, Random(seed)))
    assert got == expected


async def _ask(requests: list[list[bytes]], cuts: list[int], delays: list[float], most: int, rng: Random) -> bytes:
    loop = virtual_loop()
    servers = [SimulatedServer(f"10.2.0.{n}", 6379, rng, Pace(rng, delay)) for n, delay in enumerate(delays)]
    loop.network = SimulatedNetwork(servers)
    config = Config.model_validate(
        {
            "shards": [{"primary": f"10.2.0.{n}:6379"} for n in range(len(delays))],
            "backend": {"request_timeout": "1h", "connect_timeout": "1h", "retry_deadline": "1h"},
            "limits": {"max_in_flight": most},
        }
    )
    service = Service(config, build_topology(config), clock=loop.time)
    connection = ClientConnection(service)
    wire = MemoryWire(connection, Pace(rng, smooth=True), ("127.0.0.1", 1))
    listener = wire.peer = _Listener()
    connection.connection_made(wire)
    stream = b"".join(map(encode.request, requests))
    turn = 0
    while stream:
        size = cuts[turn % len(cuts)]
        wire.send(stream[:size])
        stream = stream[size:]
        turn += 1
        await asyncio.sleep(0.001)
    for _ in range(len(requests) + 10):
        await asyncio.sleep(1.0)
        if not connection.window.pending:
            break
    await asyncio.sleep(1.0)
    wire.peer = _Gone()
    await service.close()
    return listener.got


class _Gone(_Listener):
    def lost(self) -> None:
        """The test is over."""
