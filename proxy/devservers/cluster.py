"""A real Redis or Valkey Cluster of child processes, for ``slotgate demo`` and for the tests.

The cluster is created with CLUSTER commands, since the Valkey of the Python package has no valkey-cli.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import hiredis

from proxy.devservers.servers import (
    LOOPBACK,
    START_TIMEOUT,
    LocalServer,
    ServerBinary,
    find_server,
    free_port,
    kept_directory,
    stop_all,
)
from proxy.errors import SlotgateError
from proxy.resp.role import RoleReply
from proxy.sharding.topology import even_ranges

NODE_TIMEOUT: Final = 2.0
_PORT_ATTEMPTS: Final = 50
# Without the setting cluster-port (before Redis 7) the port of the cluster bus is the server's port plus this.
_BUS_OFFSET: Final = 10_000
_POLL: Final = 0.02
_ASK_TIMEOUT: Final = 1.0


class ClusterNode(LocalServer):
    """A server in cluster mode. A restart keeps its knowledge of the cluster, but not its data."""

    bus_port = 0

    def __init__(
        self,
        binary: ServerBinary,
        directory: Path,
        *,
        node_timeout: float = NODE_TIMEOUT,
        password: str = "",
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(binary, directory, password=password, options=options)
        self._node_timeout = node_timeout

    def __repr__(self) -> str:
        return f"<ClusterNode {self.address} {self.binary.kind} {self.binary.version} running={self.running}>"

    @property
    def id(self) -> str:
        """The node's name of 40 hex digits. Raises as ``ask``."""
        return _text(self.ask("CLUSTER", "MYID"))

    def known(self) -> list["SeenNode"]:
        """The nodes that it knows, itself included (CLUSTER NODES). Raises as ``ask``."""
        return [SeenNode.parse(line, self.host) for line in _text(self.ask("CLUSTER", "NODES")).splitlines()]

    def is_primary(self) -> bool:
        """Whether it reports the role of a primary. Raises as ``ask``."""
        role = RoleReply.read(self.ask("ROLE"))
        return role is not None and role.primary

    def state_ok(self) -> bool:
        """Whether it serves requests (``cluster_state:ok``). Raises as ``ask``."""
        return "cluster_state:ok" in _text(self.ask("CLUSTER", "INFO", timeout=_ASK_TIMEOUT))

    def _pick_port(self) -> None:
        for _ in range(_PORT_ATTEMPTS):
            self.port = free_port(self.host)
            self.bus_port = free_port(self.host) if self._names_its_bus else self.port + _BUS_OFFSET
            if self.bus_port != self.port and _is_free(self.bus_port):
                return
        raise SlotgateError(f"no free port of {self.host} has one for the cluster bus {_BUS_OFFSET} above it")

    @property
    def _names_its_bus(self) -> bool:
        return self.binary.kind == "valkey" or self.binary.version_info >= (7,)

    def _configuration(self) -> Iterator[str]:
        yield from super()._configuration()
        yield "cluster-enabled yes"
        yield f'cluster-config-file "{self.port}.nodes.conf"'
        yield f"cluster-node-timeout {round(self._node_timeout * 1000)}"
        if self._names_its_bus:
            yield f"cluster-port {self.bus_port}"


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A line of CLUSTER NODES."""

    id: str
    address: str
    flags: frozenset[str]
    primary: str  # the id of its primary, "" for a primary
    link_up: bool
    slots: tuple[str, ...]  # "0-5460", "7", and migrating slots: "[93->-<id>]", "[93-<-<id>]"

    @classmethod
    def parse(cls, line: str, host: str) -> "SeenNode":
        """Parse a line from the node at ``host``; a node that has met no other does not know its own address."""
        name, address, flags, primary, _sent, _received, _epoch, link, *slots = line.split()
        return cls(
            name,
            (host if address.startswith(":") else "") + address.partition("@")[0],
            frozenset(flags.split(",")) - {"myself"},
            primary.strip("-"),
            link == "connected",
            tuple(slots),
        )

    @property
    def sound(self) -> bool:
        """Whether the handshake with the node is complete and the node is believed to be up."""
        return self.link_up and not self.flags & {"handshake", "noaddr", "fail", "fail?"}


@dataclass(slots=True)
class LocalCluster:
    """A running cluster. ``nodes`` are in the order of their start: first primaries, their replicas, added nodes."""

    binary: ServerBinary
    directory: Path
    node_timeout: float = NODE_TIMEOUT
    password: str = ""
    options: Sequence[str] = ()
    nodes: list[ClusterNode] = field(default_factory=list)

    @property
    def seeds(self) -> str:
        """The addresses of all nodes, for ``slotgate serve --cluster``."""
        return ",".join(node.address for node in self.nodes)

    @property
    def running(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.running]

    def primaries(self) -> list[ClusterNode]:
        """The running nodes that report that they are primaries and have slots, by lowest slot. Raises as ``ask``."""
        found = []
        for node in self.running:
            (slots,) = [seen.slots for seen in node.known() if seen.address == node.address]
            if slots and node.is_primary():
                found.append((int(slots[0].strip("[").partition("-")[0]), node))
        return [node for _, node in sorted(found, key=lambda pair: pair[0])]

    def replicas_of(self, primary: ClusterNode) -> list[ClusterNode]:
        """The running nodes that report that they follow ``primary``. Raises as ``ask``."""
        return [node for node in self.running if _follows(node, primary)]

    def start_node(self) -> ClusterNode:
        """Start a new node, which has no slots and knows no other node."""
        node = ClusterNode(
            self.binary, self.directory, node_timeout=self.node_timeout, password=self.password, options=self.options
        )
        self.nodes.append(node)
        node.start()
        return node

    def add_node(self, primary: ClusterNode | None = None, timeout: float = START_TIMEOUT) -> ClusterNode:
        """Start a new node that all nodes know: a primary without slots, or a synchronised replica of ``primary``.

        Raises SlotgateError if that takes longer than ``timeout`` seconds.
        """
        node = self.start_node()
        self.meet(node)
        self.wait_ok(timeout)
        if primary is not None:
            self.replicate(node, primary, timeout)
            self.wait_ok(timeout)
        return node

    def meet(self, node: ClusterNode) -> None:
        """Make ``node`` and all running nodes known to each other."""
        for other in self.running:
            if other is not node:
                bus = [other.bus_port] if other.bus_port != other.port + _BUS_OFFSET else []
                node.ask("CLUSTER", "MEET", other.host, other.port, *bus)

    def replicate(self, node: ClusterNode, primary: ClusterNode, timeout: float = START_TIMEOUT) -> None:
        """Make ``node`` a replica of ``primary`` as soon as it knows the primary."""

        def done() -> bool:
            node.ask("CLUSTER", "REPLICATE", primary.id)
            return True

        _wait(done, timeout, f"{node.address} does not follow {primary.address}")

    def failover(self, replica: ClusterNode, how: str = "", timeout: float = START_TIMEOUT) -> None:
        """Send CLUSTER FAILOVER to ``replica`` and wait until it is the primary; ``how`` is "", "FORCE" or "TAKEOVER".

        The command is sent again when an attempt has timed out, as an operator would do.
        """
        deadline = time.monotonic() + timeout
        while True:
            replica.ask("CLUSTER", "FAILOVER", *filter(None, [how]))
            with contextlib.suppress(SlotgateError):
                _wait(replica.is_primary, min(6.0, timeout), "")
                return
            if time.monotonic() > deadline:
                raise SlotgateError(f"{replica.address} did not become a primary in {timeout:g} s")

    def wait_ok(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until all running nodes serve requests and have the same view, and every replica follows its primary.

        Raises SlotgateError with what is missing.
        """
        deadline = time.monotonic() + timeout
        while problem := self._problem():
            if time.monotonic() > deadline:
                raise SlotgateError(f"the cluster is not complete after {timeout:g} s: {problem}")
            time.sleep(_POLL)

    def _problem(self) -> str:
        """The reason why the cluster is not complete; "" if it is."""
        nodes = self.running
        wanted = {node.address for node in nodes}
        views = []
        try:
            for node in nodes:
                seen = [other for other in node.known() if other.address in wanted]
                if {other.address for other in seen if other.sound} != wanted:
                    return f"{node.address} does not know all others yet"
                views.append({(other.id, other.flags, other.primary, other.slots) for other in seen})
                if not node.state_ok():
                    return f"{node.address} says cluster_state:fail"
                if not node.is_primary() and not node.link_is_up():
                    return f"{node.address} is not synchronised with its primary"
        except (OSError, hiredis.ReplyError) as error:
            return str(error)
        return "" if all(view == views[0] for view in views) else "the nodes do not agree"


@contextlib.contextmanager
def start_cluster(
    shards: int = 3,
    replicas: int = 1,
    *,
    binary: ServerBinary | None = None,
    node_timeout: float = NODE_TIMEOUT,
    password: str = "",
    options: Sequence[str] = (),
    timeout: float = START_TIMEOUT,
) -> Iterator[LocalCluster]:
    """A cluster of ``shards`` primaries with ``replicas`` synchronised replicas each, which is removed after the block.

    ``nodes`` are the primaries, by their slots, then the replicas of the first primary, of the second, and so on.
    ``options`` are lines of redis.conf for all nodes, also for added ones. Raises SlotgateError if the cluster is not
    complete within ``timeout`` seconds.
    """
    with kept_directory() as directory, contextlib.ExitStack() as stack:
        cluster = LocalCluster(binary or find_server(), directory, node_timeout, password, options)
        stack.callback(stop_all, cluster.nodes)
        primaries = [cluster.start_node() for _ in range(shards)]
        followers = [(cluster.start_node(), primary) for primary in primaries for _ in range(replicas)]
        for epoch, (primary, ranges) in enumerate(zip(primaries, even_ranges(shards), strict=True), start=1):
            # redis-cli does so too: with equal epochs the nodes would first have to agree on new ones.
            primary.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            for first, last in ranges:
                primary.ask("CLUSTER", "ADDSLOTS", *range(first, last + 1))
        for node in cluster.nodes:
            cluster.meet(node)
        for node, primary in followers:
            cluster.replicate(node, primary, timeout)
        cluster.wait_ok(timeout)
        yield cluster


def _follows(node: ClusterNode, primary: ClusterNode) -> bool:
    role = RoleReply.read(node.ask("ROLE"))
    return role is not None and role.source[1:] == (primary.port,)


def _wait(done: Callable[[], bool], timeout: float, problem: str) -> None:
    """Wait until ``done`` returns True; error replies and silent servers count as False. Raises SlotgateError with the
    ``problem``."""
    deadline = time.monotonic() + timeout
    last = ""
    while True:
        try:
            if done():
                return
        except (OSError, hiredis.ReplyError) as error:
            last = f": {error}"
        if time.monotonic() > deadline:
            raise SlotgateError(f"{problem} after {timeout:g} s{last}")
        time.sleep(_POLL)


def _is_free(port: int) -> bool:
    if port > 65535:
        return False
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((LOOPBACK, port))
        return True
    return False


def _text(reply: object) -> str:
    assert isinstance(reply, bytes)
    return reply.decode()
