"""What real sentinels replied, and sentinels that say what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hiredis

from proxy.sharding.topology import Node


def flat(text: str) -> list[bytes]:
    """``"ip=127.0.0.1 runid= flags=slave"`` as the flat list of names and values that a sentinel sends."""
    return [part.encode() for pair in text.split() for part in pair.split("=", 1)]


# Redis 7.0.15 and Valkey 9.1.2 send the same fields; those of no interest here are shortened away.
MASTER = flat(
    "name=alpha ip=127.0.0.1 port=45395 runid=61a470d4cd9156ab2be7edf468d69119c0953863 flags=master "
    "link-pending-commands=0 link-refcount=1 last-ok-ping-reply=916 down-after-milliseconds=1000 info-refresh=3983 "
    "role-reported=master role-reported-time=4003 config-epoch=0 num-slaves=2 num-other-sentinels=2 quorum=2 "
    "failover-timeout=10000 parallel-syncs=1"
)
PROMOTING = flat(
    "name=alpha ip=127.0.0.1 port=45395 runid=61a470d4cd9156ab2be7edf468d69119c0953863 "
    "flags=master,failover_in_progress,force_failover role-reported=master config-epoch=0 num-slaves=2 "
    "num-other-sentinels=2 quorum=2 failover-state=wait_promotion"
)
PROMOTED = flat(
    "name=alpha ip=127.0.0.1 port=45395 runid=61a470d4cd9156ab2be7edf468d69119c0953863 "
    "flags=master,failover_in_progress,force_failover role-reported=master config-epoch=1 num-slaves=2 "
    "num-other-sentinels=2 quorum=2 failover-state=reconf_slaves"
)
GOOD_REPLICA = flat(
    "name=127.0.0.1:53925 ip=127.0.0.1 port=53925 runid=b2ad17af48e14616a301104696f34fe21df74b68 flags=slave "
    "info-refresh=3936 role-reported=slave role-reported-time=3989 master-link-down-time=0 master-link-status=ok "
    "master-host=127.0.0.1 master-port=45395 slave-priority=100 slave-repl-offset=0 replica-announced=1"
)
SECOND_REPLICA = flat(
    "name=127.0.0.1:37993 ip=127.0.0.1 port=37993 runid=685a36d58ab4f59d644526651d42b54358363838 flags=slave "
    "role-reported=slave master-link-status=err master-host=127.0.0.1 master-port=45395 slave-repl-offset=0"
)
DEAD_REPLICA = flat(
    "name=127.0.0.1:59667 ip=127.0.0.1 port=59667 runid= flags=s_down,slave,disconnected link-pending-commands=3 "
    "last-ok-ping-reply=4754 s-down-time=3703 info-refresh=0 role-reported=slave role-reported-time=4754 "
    "master-link-down-time=0 master-link-status=err master-host=? master-port=0 slave-priority=100 slave-repl-offset=0"
)
NEW_REPLICA = flat(
    "name=127.0.0.1:48435 ip=127.0.0.1 port=48435 runid= flags=slave info-refresh=0 role-reported=slave "
    "role-reported-time=3 master-link-status=err master-host=? master-port=0 slave-repl-offset=0"
)
DEMOTED_PRIMARY = flat(
    "name=127.0.0.1:45396 ip=127.0.0.1 port=45396 runid=61a470d4cd9156ab2be7edf468d69119c0953864 flags=slave "
    "role-reported=master role-reported-time=812 master-link-status=err master-host=? master-port=0"
)
PEER = flat(
    "name=58ac3ea0f8076dc48b900e54663cf838fcf53f7e ip=127.0.0.1 port=51327 "
    "runid=58ac3ea0f8076dc48b900e54663cf838fcf53f7e flags=sentinel last-hello-message=1962 voted-leader=?"
)
MYID = b"64e82d87d50de356283dc86cdd20dee4e583785e"
NO_SUCH_MASTER = hiredis.ReplyError("ERR No such master with that name")


NOWHERE = Node("127.0.0.1", 0)


@dataclass(slots=True)
class Watched:
    """A master, as a ``FakeSentinel`` tells of it."""

    node: Node
    epoch: int = 0
    step: str = ""
    replicas: Sequence[Node] = ()
    run_id: str = ""


@dataclass(slots=True)
class FakeSentinel:
    """A sentinel that says what it is told to; ``peers`` are those it names."""

    id: str
    masters: dict[str, Watched] = field(default_factory=dict)
    peers: Mapping[str, Node] = field(default_factory=dict)
    password: str = ""
    old: bool = False
    """Before Redis 5: it knows SENTINEL SLAVES only, and no MYID."""
    plain: bool = False
    """It is a server and no sentinel."""
    silent: bool = False
    """It takes what is sent, and says nothing."""
    asked: int = 0
    node: Node = NOWHERE
    """Where it listens, while it does."""
    _server: asyncio.Server | None = None
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)
    _listeners: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def listeners(self) -> int:
        """How many are subscribed."""
        return len(self._listeners)

    async def start(self) -> None:
        """Listen where it did before, or at a port of the system's choice."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.node.port)
        self.node = Node("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Go away, as a process that is killed."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._clients):
            writer.transport.abort()
        # The tasks that serve them end now.
        await asyncio.sleep(0.01)

    def publish(self, channel: str, message: str) -> None:
        """Tell all who listen."""
        for writer in self._listeners:
            writer.write(_encode([b"pmessage", b"*", channel.encode(), message.encode()]))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        self._clients.add(writer)
        known = not self.password
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (words := parser.gets()) is not False:
                    assert isinstance(words, list)
                    args = [word.decode() for word in words]
                    if self.silent:
                        continue
                    if args[0] == "AUTH":
                        known = args[-1] == self.password
                        writer.write(b"+OK\r\n" if known else b"-WRONGPASS invalid username-password pair\r\n")
                    elif not known:
                        writer.write(b"-NOAUTH Authentication required.\r\n")
                    else:
                        writer.write(self._answer(args, writer))
        except ConnectionError:
            pass
        finally:
            self._clients.discard(writer)
            self._listeners.discard(writer)
            writer.close()

    def _answer(self, args: Sequence[str], writer: asyncio.StreamWriter) -> bytes:
        match [args[0], *args[1:]]:
            case ["PSUBSCRIBE", "*"]:
                self._listeners.add(writer)
                return _encode([b"psubscribe", b"*", 1])
            case ["PING"]:
                return _encode([b"pong", b""])
            case ["SENTINEL", *_] if self.plain:
                return b"-ERR unknown command 'SENTINEL', with args beginning with: 'MYID' \r\n"
            case ["SENTINEL", "MYID"] if not self.old:
                self.asked += 1
                return _encode(self.id.encode())
            case ["SENTINEL", "MASTER", name] if name in self.masters:
                return _encode(self._master(name))
            case ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]:
                watched = self.masters.get(name)
                return _encode([watched.node.host, watched.node.port] if watched else None)
            case ["SENTINEL", word, name] if name in self.masters and word == ("SLAVES" if self.old else "REPLICAS"):
                return _encode([_replica(node, self.masters[name].node) for node in self.masters[name].replicas])
            case ["SENTINEL", "SENTINELS", name] if name in self.masters:
                return _encode([_peer(identity, node) for identity, node in self.peers.items()])
            case ["SENTINEL", "MYID" | "REPLICAS", *_] if self.old:
                return f"-ERR Unknown sentinel subcommand '{args[1]}'\r\n".encode()
            case ["SENTINEL", *_]:
                return b"-ERR No such master with that name\r\n"
        raise AssertionError(args)

    def _master(self, name: str) -> list[bytes]:
        watched = self.masters[name]
        flags = "master,failover_in_progress" if watched.step else "master"
        step = f" failover-state={watched.step}" if watched.step else ""
        step += f" runid={watched.run_id}"
        return flat(
            f"name={name} ip={watched.node.host} port={watched.node.port} flags={flags} config-epoch={watched.epoch}"
            f" num-other-sentinels={len(self.peers)}{step}"
        )


def _replica(node: Node, primary: Node) -> list[bytes]:
    return flat(
        f"name={node} ip={node.host} port={node.port} flags=slave role-reported=slave master-link-status=ok "
        f"master-host={primary.host} master-port={primary.port}"
    )


def _peer(identity: str, node: Node) -> list[bytes]:
    return flat(f"name={identity} ip={node.host} port={node.port} runid={identity} flags=sentinel")


def _encode(value: object) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_encode, value))
    if isinstance(value, bytes | str):
        raw = value.encode() if isinstance(value, str) else value
        return b"$%d\r\n%b\r\n" % (len(raw), raw)
    return b"*-1\r\n" if value is None else _encode(str(value))


@asynccontextmanager
async def running(*sentinels: FakeSentinel) -> AsyncIterator[None]:
    """All of them listen, and name each other."""
    for each in sentinels:
        await each.start()
    for each in sentinels:
        each.peers = {other.id: other.node for other in sentinels if other is not each}
    try:
        yield
    finally:
        for each in sentinels:
            await each.stop()
