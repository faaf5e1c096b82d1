"""The whole client side as a subject: connections, service, backends and their servers, and random luck."""

import asyncio
import random
from random import Random
from typing import Any

import hiredis

from tests.engines import material
from tests.engines.material import bulk
from tests.engines.subject import Steps, Subject
from tests.engines.twins import Engine
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.virtual_loop import VirtualLoop, virtual_loop

_KEYS = (b"a", b"b", b"c", b"foo", b"{a}1", b"k" * 99, b"k" * 120)
_VALUES = (b"", b"1", b"value", b"x" * 99, b"x" * 5_000)
_SMALL = (
    b"-ERR no\r\n", b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$5\r\nhello\r\n", b"*2\r\n$1\r\na\r\n$-1\r\n", b"_\r\n",
    b"+ab\rcd\r\n", b">2\r\n+push\r\n:1\r\n",
)  # fmt: skip


def _frame(*args: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(args), b"".join(map(bulk, args)))


def _said(rng: Random) -> bytes:
    """One thing that a client says."""
    key, value = rng.choice(_KEYS), rng.choice(_VALUES)
    keys = rng.choices(_KEYS, k=rng.choice((1, 2, 3, 6)))
    chance = rng.random()
    if chance < 0.45:
        return rng.choice(
            (_frame(b"GET", key), _frame(b"SET", key, value), _frame(b"incr", key), _frame(b"HSET", key, b"f", value))
        )
    if chance < 0.65:
        name = rng.choice((b"MGET", b"DEL", b"exists", b"UNLINK", b"TOUCH"))
        return (
            _frame(name, *keys)
            if rng.random() < 0.7
            else _frame(b"MSET", *(word for key in keys for word in (key, value)))
        )
    if chance < 0.72:
        return rng.choice(
            (_frame(b"PING"), b"PING\r\n", _frame(b"ECHO", value), _frame(b"DBSIZE"), _frame(b"KEYS", b"*"))
        )
    if chance < 0.80:
        return rng.choice((
            _frame(b"CLIENT", b"REPLY", rng.choice((b"OFF", b"ON", b"ON", b"SKIP"))),
            _frame(b"HELLO", rng.choice((b"2", b"3"))), _frame(b"SELECT", rng.choice((b"0", b"1"))),
            _frame(b"CLIENT", b"SETNAME", b"me"), _frame(b"CLIENT", b"GETNAME"), _frame(b"CLIENT", b"ID"),
            _frame(b"CLIENT", b"LIST"), _frame(b"CLIENT", b"PAUSE", b"50"), _frame(b"RESET"),
            _frame(b"CLIENT", b"PAUSE", b"50", b"WRITE"), _frame(b"CLIENT", b"UNPAUSE"),
            _frame(b"CLIENT", b"KILL", b"ID", b"1"), _frame(b"CLIENT", b"INFO"),
        ))  # fmt: skip
    if chance < 0.84:
        return _frame(b"SET", key, b"v" * rng.choice((20_000, 66_000, 140_000)))
    if chance < 0.985:
        return rng.choice((
            _frame(b"GET"), _frame(b"NoSuch", key), _frame(b"Get", key), _frame(b"RENAME", key, b"c"),
            _frame(b"BLPOP", key, b"0"), _frame(b"MSET", key), _frame(b"SET", *([value] * 12)), b"\r\n", b"*0\r\n",
            b"SET a 'b c'\r\n", _frame(b"WATCH", key), _frame(b"EVAL", b"s", b"1", key), _frame(b"SCAN", b"0"),
            _frame(b"RANDOMKEY"), _frame(b"SCRIPT", b"LOAD", b"s"),
        ))  # fmt: skip
    return material.request(rng)


def _make(rng: Random) -> Steps:
    steps: Steps = [
        (
            "settings",
            rng.choice((1, 3, 16384)),
            rng.choice(("1kb", "8mb")),
            rng.choice(("primary", "primary", "prefer_replica")),
            rng.choice((1, 2)),
            rng.random() < 0.15,
            rng.choice(("0s", "10ms", "1s")),
        ),
        ("luck", rng.randrange(2**32), rng.random() < 0.4),
    ]
    clients = rng.choice((1, 1, 2, 3))
    for _ in range(rng.choice((2, 5, 12, 25))):
        name = rng.randrange(clients)
        chance = rng.random()
        if chance < 0.62:
            data = b"".join(_said(rng) for _ in range(rng.choice((1, 1, 2, 5, 15))))
            for piece in material.pieces(rng, data) if len(data) < 400 or rng.random() < 0.5 else [data]:
                steps.append(("says", name, piece))
        elif chance < 0.85:
            steps.append(("passes", rng.choice((0.0, 0.0, 0.001, 0.01, 0.3))))
        else:
            steps.append(rng.choice((
                ("ends", name), ("leaves", name), ("deaf", name), ("listens", name), ("listens", name),
                ("cut", rng.randrange(3)), ("stall", rng.randrange(3)), ("well", rng.randrange(3)),
                ("shut", rng.randrange(3)), ("drains",) if rng.random() < 0.2 else ("passes", 0.1),
                ("asked",) if rng.random() < 0.3 else ("passes", 0.1),
            )))  # fmt: skip
    return steps


class _Server:
    """A server that answers greetings rightly, and everything else by a luck of its own."""

    def __init__(self, host: str, seed: int, lucky: bool) -> None:
        self.host = host
        self.rng = Random(seed)
        self.lucky = lucky
        self.log: list[bytes] = []
        self.wires: list[MemoryWire] = []
        self.shut = False

    def answer(self, args: list[bytes]) -> bytes:
        match args[0].upper():
            case b"PING":
                return b"+PONG\r\n"
            case b"HELLO":
                return b"%1\r\n+proto\r\n:3\r\n"
            case b"ROLE":
                return b"*5\r\n$5\r\nslave\r\n$1\r\nx\r\n:1\r\n$9\r\nconnected\r\n:1\r\n"
            case b"SELECT" | b"READONLY":
                return b"+OK\r\n"
        chance = self.rng.random()
        match args[0].upper():
            case b"MGET" if chance < 0.95:
                return b"*%d\r\n%b" % (len(args) - 1, b"".join(bulk(key) for key in args[1:]))
            case b"DEL" | b"EXISTS" | b"UNLINK" | b"TOUCH" | b"DBSIZE" if chance < 0.95:
                return b":%d\r\n" % len(args)
            case b"GET" if chance < 0.9:
                return bulk(args[1] * self.rng.choice((1, 1, 1, 90, 2_000)))
        if not self.lucky and chance > 0.995:
            return material.broken_reply(self.rng)
        return self.rng.choice(_SMALL)


class _Connection:
    """The server's end of a wire; ``number`` in the order of connecting."""

    def __init__(self, server: _Server, wire: MemoryWire, number: int, log: list[object]) -> None:
        self.server = server
        self.wire = wire
        self.reader = hiredis.Reader()
        self.got = b""
        wire.peer = self
        server.wires.append(wire)
        log.append(("connected", server.host, number))
        server.log.append(b"connection %d" % number)

    def receive(self, data: bytes) -> None:
        self.got += data
        self.server.log[-1:] = [self.server.log[-1] + data]
        self.reader.feed(data)
        while (args := self.reader.gets()) is not False:
            assert isinstance(args, list)
            self.wire.send(self.server.answer(args))

    def lost(self) -> None:
        if self.wire in self.server.wires:
            self.server.wires.remove(self.wire)
        self.server.log.append(b"lost; ")


class _Network:
    def __init__(self, servers: dict[str, _Server], log: list[object]) -> None:
        self.servers = servers
        self.count = 0
        self.log = log

    async def connect(self, protocol: Any, host: str, port: int) -> MemoryWire:
        server = self.servers[host]
        if server.shut:
            raise ConnectionRefusedError(111, "Connection refused")
        self.count += 1
        wire = MemoryWire(protocol, Pace(server.rng, 0.002, 64 * 1024, 64 * 1024))
        _Connection(server, wire, self.count, self.log)
        protocol.connection_made(wire)
        return wire


class _Client:
    def __init__(self, number: int, connection: Any, rng: Random, log: list[object]) -> None:
        self.number = number
        self.got = b""
        self.log = log
        self.wire = MemoryWire(connection, Pace(rng, 0.001, 100, 0), ("127.0.0.1", number))
        self.wire.peer = self
        connection.connection_made(self.wire)

    def receive(self, data: bytes) -> None:
        self.got += data

    def lost(self) -> None:
        self.log.append(("closed", self.number, virtual_loop().time()))


_TOPOLOGIES: dict[tuple[Engine, bool], Any] = {}


def _topology(engine: Engine, replicas: bool, config: Any) -> Any:
    """Made once: it is the same for all of them."""
    if (engine, replicas) not in _TOPOLOGIES:
        _TOPOLOGIES[engine, replicas] = engine["sharding.topology"].build_topology(config)
    return _TOPOLOGIES[engine, replicas]


def _observe(engine: Engine, steps: Steps) -> object:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_play(engine, steps))


async def _play(engine: Engine, steps: Steps) -> object:
    settings = next((step[1:] for step in steps if step[0] == "settings"), (16384, "8mb", "primary", 1, False, "0s"))
    seed, lucky = next((step[1:] for step in steps if step[0] == "luck"), (0, True))
    most, soft, read_from, connections, reject, own_writes = settings
    random.seed(seed)  # the backoff's jitter
    rng = Random(seed)
    loop = virtual_loop()
    log: list[object] = []
    loop.set_exception_handler(lambda _, context: log.append(repr(context.get("exception"))))
    replicas = read_from != "primary"
    hosts = [f"10.2.{shard}.{node}" for shard in range(3) for node in range(1 + replicas)]
    servers = {host: _Server(host, rng.randrange(2**32), lucky) for host in hosts}
    loop.network = _Network(servers, log)
    config = engine["config"].Config.model_validate(
        {
            "shards": [
                {"primary": f"10.2.{shard}.0:6379", "replicas": [f"10.2.{shard}.1:6379"] if replicas else []}
                for shard in range(3)
            ],
            "read_from": read_from,
            "read_your_writes": own_writes,
            "topology": {"check_roles": False},
            "cross_slot": "reject" if reject else "split",
            "limits": {"max_in_flight": most, "output_soft": soft, "write_timeout": "1s"},
            "backend": {
                "connections_per_node": connections,
                "request_timeout": "1s",
                "connect_timeout": "300ms",
                "retry_deadline": "500ms",
                "backoff_min": "10ms",
                "backoff_max": "50ms",
            },
        }
    )
    service = engine["worker.service"].Service(config, _topology(engine, replicas, config), clock=loop.time)
    await asyncio.sleep(0.05)
    clients: list[_Client] = []
    present: dict[int, _Client] = {}

    def client(number: int) -> _Client:
        """The client of that number; one that is gone has come again."""
        if number not in present or not present[number].wire.open:
            connection = engine["client.connection"].ClientConnection(service)
            present[number] = _Client(len(clients), connection, Random(rng.random()), log)
            clients.append(present[number])
        return present[number]

    for step in steps:
        match step:
            case ("says", number, data):
                client(number).wire.send(data)
            case ("ends", number):
                client(number).wire.end()
            case ("leaves", number):
                client(number).wire.cut()
            case ("deaf", number):
                client(number).wire.outgoing.block("deaf")
            case ("listens", number):
                client(number).wire.outgoing.unblock("deaf")
            case ("drains",):
                for known in service.clients:
                    known.drain()
            case ("asked",):
                for known in service.clients:
                    known.leave()
            case ("cut", number):
                for wire in list(servers[f"10.2.{number}.0"].wires):
                    wire.cut()
            case ("stall", number):
                for wire in servers[f"10.2.{number}.0"].wires:
                    wire.outgoing.block("stalled")
            case ("shut", number):
                servers[f"10.2.{number}.0"].shut = True
            case ("well", number):
                servers[f"10.2.{number}.0"].shut = False
                for wire in servers[f"10.2.{number}.0"].wires:
                    wire.outgoing.unblock("stalled")
            case ("passes", seconds):
                await asyncio.sleep(seconds)
    for known in clients:
        known.wire.outgoing.unblock("deaf")
    await asyncio.sleep(2.0)
    counters = service.counters
    states = [
        (backend.place.shard, backend.state.name, len(backend.inflight), backend.reconnects)
        for backend in service.upstream.pool
    ]
    counted = {
        name: (counter.calls, counter.failed, counter.rejected) for name, counter in sorted(counters.commands.items())
    }
    sums = [
        (name, getattr(counters, name))
        for name in ("accepted", "bytes_in", "crossslots", "retries", "splits", "timeouts", "uncertain", "rejected")
    ]
    windows = [repr(known) for known in service.clients]
    for known in clients:
        known.wire.cut()
    await service.close()
    await asyncio.sleep(0.1)
    return [
        [known.got for known in clients],
        [(server.host, server.log) for server in servers.values()],
        log,
        states,
        windows,
        counted,
        sums,
        counters.bytes_out,
        counters.latency_buckets(),
    ]


SUBJECTS = (Subject("clients", _make, _observe, 250),)
