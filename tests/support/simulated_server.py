"""A tiny simulated Redis: real RESP, a few commands, and a record of every write that it executes."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from random import Random

import hiredis

from proxy.resp import encode
from tests.support.memory_wire import MemoryWire, Pace

Database = dict[bytes, bytes]
_NOT_AN_INTEGER = encode.error("ERR value is not an integer or out of range")


def token(value: bytes) -> bytes:
    """The part of a written value that makes it unique, up to the first semicolon; padding follows."""
    return value.partition(b";")[0]


class SimulatedServer:
    """One node. ``refusing``, ``deaf``, ``stalled``, ``slow`` and ``loading`` are its faults."""

    def __init__(self, host: str, port: int, rng: Random, pace: Pace) -> None:
        self.address = (host, port)
        self.executed: Counter[bytes] = Counter()
        """How often each write was executed, by its token."""
        self.databases: defaultdict[int, Database] = defaultdict(dict)
        self.connections: dict[ServerConnection, None] = {}
        self.refusing = False
        self.deaf = False
        """Whether the node accepts no connection and sends nothing (as in a network that drops packets)."""
        self.slow = 0.0
        """The seconds that each command takes."""
        self.loading = False
        self.primary = True
        self.pace = pace
        self.rng = rng
        self._stalled = False

    @property
    def stalled(self) -> bool:
        """Whether the node reads and answers nothing (SIGSTOP)."""
        return self._stalled

    def stall(self) -> None:
        """Stop reading and answering."""
        self._stalled = True
        for connection in self.connections:
            connection.wire.outgoing.block("stalled")

    def go_on(self) -> None:
        """End all faults."""
        self._stalled = self.refusing = self.deaf = self.loading = False
        self.slow = 0.0
        for connection in list(self.connections):
            connection.wire.outgoing.unblock("stalled")
            connection.arm()

    def crash(self) -> None:
        """Lose every connection, and refuse new ones."""
        self.refusing = True
        self.cut()

    def cut(self) -> None:
        """Lose every connection."""
        for connection in list(self.connections):
            connection.wire.cut()

    def accept(self, wire: MemoryWire) -> None:
        """Accept a connection."""
        ServerConnection(self, wire)

    def replicate(self, primary: "SimulatedServer") -> None:
        """Become a replica of ``primary``, without any lag."""
        self.primary = False
        self.databases = primary.databases


class ServerConnection:
    """The far end of a backend connection."""

    def __init__(self, server: SimulatedServer, wire: MemoryWire) -> None:
        self.server = server
        self.wire = wire
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._todo: deque[list[bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._database = server.databases[0]
        self._protocol = 2
        self._queue: list[list[bytes]] | None = None
        self._dirty = False
        self._watched: list[tuple[Database, bytes, bytes | None]] = []
        wire.peer = self
        server.connections[self] = None
        if server.stalled:
            wire.outgoing.block("stalled")

    def receive(self, data: bytes) -> None:
        """Take requests; they are executed a little later."""
        self._reader.feed(data)
        while (args := self._reader.gets()) is not False:
            assert isinstance(args, list)
            self._todo.append(args)
        self.arm()

    def hurry(self) -> None:
        """Execute all waiting requests at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wire.send(b"".join(self._execute(args) for args in self._todo))
        self._todo.clear()

    def lost(self) -> None:
        """End the connection: a part of the requests that arrived is executed, but not answered."""
        self.server.connections.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self.server.pace.part(len(self._todo))):
            self._execute(self._todo.popleft())

    def arm(self) -> None:
        """Schedule the execution of the next requests."""
        if self._timer is None and self._todo and not self.server.stalled:
            self._timer = self._loop.call_later(self.server.slow + self.server.pace.delay(), self._work)

    def _work(self) -> None:
        self._timer = None
        if self.server.stalled:
            return
        count = 1 if self.server.slow else self.server.pace.slice(len(self._todo))
        self.wire.send(b"".join(self._execute(self._todo.popleft()) for _ in range(count)))
        self.arm()

    def _execute(self, args: list[bytes]) -> bytes:
        name = args[0].upper()
        queue = self._queue
        if name == b"MULTI":
            self._queue, self._dirty = [], False
            return encode.OK
        if name == b"EXEC" and queue is not None:
            return self._end(queue)
        refusal = self._refusal(name, args)
        if refusal is not None:
            self._dirty = True
            return refusal
        if queue is not None:
            queue.append(args)
            return b"+QUEUED\r\n"
        return self._run(name, args)

    def _refusal(self, name: bytes, args: list[bytes]) -> bytes | None:
        """The error that is answered instead of executing or queueing ``args``; None if there is none."""
        if self.server.loading:
            return encode.error("LOADING Redis is loading the dataset in memory")
        return None if name in _COMMANDS else encode.error(f"ERR unknown command '{name.decode()}'")

    def _run(self, name: bytes, args: list[bytes]) -> bytes:
        return _COMMANDS[name](self, args)

    def _end(self, queue: list[list[bytes]]) -> bytes:
        """Carry out EXEC."""
        self._queue = None
        watched, self._watched = self._watched, []
        if self._dirty:
            return encode.error("EXECABORT Transaction discarded because of previous errors.")
        for args in queue:
            refusal = self._refusal(args[0].upper(), args)
            if refusal is not None:
                return self._refuse_end(refusal)
        if any(database.get(key) != value for database, key, value in watched):
            return b"_\r\n" if self._protocol >= 3 else b"*-1\r\n"
        return encode.array([self._run(args[0].upper(), args) for args in queue])

    def _refuse_end(self, refusal: bytes) -> bytes:
        return b"-EXECABORT Transaction discarded because of: " + refusal[1:]

    # ---- commands

    def _hello(self, args: list[bytes]) -> bytes:
        self._protocol = int(args[1])
        return encode.mapping({encode.bulk("proto"): encode.integer(self._protocol)}, self._protocol)

    def _select(self, args: list[bytes]) -> bytes:
        self._database = self.server.databases[int(args[1])]
        return encode.OK

    def _ping(self, args: list[bytes]) -> bytes:
        return encode.PONG

    def _role(self, args: list[bytes]) -> bytes:
        if self.server.primary:
            return encode.array((encode.bulk("master"), encode.integer(1), encode.array(())))
        return encode.array((encode.bulk("slave"), encode.bulk("x"), encode.integer(1), encode.bulk("connected")))

    def _watch(self, args: list[bytes]) -> bytes:
        self._watched += [(self._database, key, self._database.get(key)) for key in args[1:]]
        return encode.OK

    def _unwatch(self, args: list[bytes]) -> bytes:
        self._watched.clear()
        return encode.OK

    def _client(self, args: list[bytes]) -> bytes:
        if args[1] == b"ID":
            return encode.integer(1)
        number = next(db for db, database in self.server.databases.items() if database is self._database)
        return encode.bulk(f"id=1 flags=N db={number} multi=-1 watch={len(self._watched)} resp={self._protocol}\n")

    def _value(self, key: bytes) -> bytes:
        value = self._database.get(key)
        return encode.null(self._protocol) if value is None else encode.bulk(value)

    def _get(self, args: list[bytes]) -> bytes:
        return self._value(args[1])

    def _mget(self, args: list[bytes]) -> bytes:
        return encode.array(self._value(key) for key in args[1:])

    def _set(self, args: list[bytes]) -> bytes:
        for key, value in zip(args[1::2], args[2::2], strict=True):
            self._database[key] = value
            self.server.executed[token(value)] += 1
        return encode.OK

    def _append(self, args: list[bytes]) -> bytes:
        value = self._database[args[1]] = self._database.get(args[1], b"") + args[2]
        self.server.executed[token(args[2])] += 1
        return encode.integer(len(value))

    def _incr(self, args: list[bytes]) -> bytes:
        value = self._database.get(args[1], b"0")
        if not value.isdigit():
            return _NOT_AN_INTEGER
        self._database[args[1]] = b"%d" % (int(value) + 1)
        return encode.integer(int(value) + 1)

    def _del(self, args: list[bytes]) -> bytes:
        return encode.integer(sum(self._database.pop(key, None) is not None for key in args[1:]))

    def _exists(self, args: list[bytes]) -> bytes:
        return encode.integer(sum(key in self._database for key in args[1:]))

    def _dbsize(self, args: list[bytes]) -> bytes:
        return encode.integer(len(self._database))


_COMMANDS: dict[bytes, Callable[[ServerConnection, list[bytes]], bytes]] = {
    b"HELLO": ServerConnection._hello,
    b"SELECT": ServerConnection._select,
    b"PING": ServerConnection._ping,
    b"ROLE": ServerConnection._role,
    b"CLIENT": ServerConnection._client,
    b"WATCH": ServerConnection._watch,
    b"UNWATCH": ServerConnection._unwatch,
    b"GET": ServerConnection._get,
    b"MGET": ServerConnection._mget,
    b"SET": ServerConnection._set,
    b"MSET": ServerConnection._set,
    b"APPEND": ServerConnection._append,
    b"INCR": ServerConnection._incr,
    b"DEL": ServerConnection._del,
    b"EXISTS": ServerConnection._exists,
    b"DBSIZE": ServerConnection._dbsize,
}


class SimulatedNetwork:
    """Connects the proxy to the servers."""

    def __init__(self, servers: Sequence[SimulatedServer]) -> None:
        self._servers = {server.address: server for server in servers}

    async def connect(self, protocol: asyncio.Protocol, host: str, port: int) -> MemoryWire:
        """Connect to the server at ``host`` and ``port``, whose faults decide the outcome."""
        server = self._servers[host, port]
        await asyncio.sleep(server.pace.delay())
        if server.deaf:
            await asyncio.get_running_loop().create_future()
        if server.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        wire = MemoryWire(protocol, server.pace)
        server.accept(wire)
        protocol.connection_made(wire)
        return wire
