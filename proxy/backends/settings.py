"""The place of a connection to a server, the settings that all connections of a worker share, and the events that they
report."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Generic, Protocol, TypeVar

from proxy.backends.connect_gate import Gates
from proxy.backends.handshake import Credentials, Greeting, Step
from proxy.engine.entry import Entry
from proxy.engine.sink import Sink
from proxy.metrics import Counters
from proxy.planning.proof import Doubt
from proxy.planning.query_limit import QueryLimit
from proxy.planning.refusals import Refusal
from proxy.planning.retry_rules import Look
from proxy.sharding.topology import Node
from proxy.transport.job_runner import Slices
from proxy.transport.write_batch import Turn

Connection = TypeVar("Connection")
"""The class of the shared connections (``proxy.backends.shared``)."""
_Told = TypeVar("_Told", contravariant=True)

LARGE = -1
"""The ``index`` of connections that only large requests use."""
LONG = -2
"""The ``index`` of connections that only requests use that had very long replies."""
SCRIPTS = -3
"""The ``index`` of the first of the connections that only clients use that call scripts; the others count down from
it."""


class ConnectionState(Enum):
    """The states of a backend connection. ``HELD`` keeps requests while it reconnects, ``FAILING`` refuses them."""

    NEW = "new"
    HELD = "held"
    READY = "ready"
    FAILING = "failing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Timing:
    """The time limits of backends, all in seconds."""

    connect_timeout: float
    request_timeout: float
    retry_deadline: float
    backoff_min: float
    backoff_max: float


@dataclass(frozen=True, slots=True)
class Place:
    """The purpose of a backend connection: the node and its role, and the state that the connection keeps.

    The shard's name is for people and may change: it is not compared.
    """

    shard: str = field(compare=False)
    node: Node
    primary: bool
    protocol: int
    db: int
    index: int
    owner: int = 0
    """The number of the only client that uses the connection, which follows that client's protocol and database after
    the handshake; 0: the connection is shared."""
    user: str = ""
    """The user of the server as which the connection is logged in; empty: the proxy's own."""


class ConnectionOwner(Protocol[_Told]):
    """A client that has connections of its own."""

    async def steps(self, place: Place) -> list[Step]:
        """The commands that the handshake of a new connection to ``place`` adds. Raises ``BackendError``."""

    def pushed(self, backend: _Told, frame: bytes) -> None:
        """Take a push message of a server (RESP3)."""

    def missed(self) -> None:
        """Take notice that a connection is lost."""

    def redirected(self) -> None:
        """Take notice that a request was refused, and will be sent to another server."""


class Holder(Protocol[_Told]):
    """A client that stops reading while a connection's buffer is full."""

    def hold(self, backend: _Told) -> None:
        """Stop reading until ``backend`` calls ``release``."""

    def release(self, backend: _Told) -> None:
        """Read on: ``backend`` takes requests again, or refuses them at once."""


class BackendEvents(Protocol[Connection]):
    """Takes the events of the connections, and decides where the requests on a connection are sent next."""

    def look(self, frame: bytes) -> Look:
        """The flags and slots of the request in ``frame``, by which is decided whether it may be sent twice."""

    def count_error(self, sink: Sink, frame: bytes) -> None:
        """Count an error that answered the request in ``frame``."""

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """The refusal in an error with which ``asked`` answered the request in ``frame``, or the doubt whether it is
        one; None if it is none. ``refused`` is called with the result."""

    def doubt(self, frame: bytes) -> Doubt | None:
        """The doubt whose twin goes ahead of the request in ``frame``; None if the request's own errors can be
        trusted."""

    def refused(self, backend: Connection, entry: Entry, refusal: Refusal | Doubt) -> None:
        """Take ``entry``, which was refused or may have been, and was taken out of the FIFO of ``backend``."""

    def prepare(self, frame: bytes, backend: Connection, now: float) -> None:
        """Send the scripts that the request in ``frame`` needs ahead of it, as it is sent over another connection than
        before."""

    def unprepared(self, backend: Connection) -> None:
        """Take notice that scripts sent ahead over ``backend`` may not have arrived."""

    def wait(self, entry: Entry, place: Place) -> None:
        """Keep ``entry``, which was sent to ``place``, until a server can take it."""

    def elsewhere(self, backend: Connection) -> Connection:
        """The connection for reads that were sent over ``backend``: the same one, or one to another server of its
        shard."""

    def where(self, place: Place, look: Look) -> Connection | None:
        """The connection to a primary to which a request belongs now that was sent to ``place``; None if no shard
        serves its slot."""

    def on_state(self, backend: Connection) -> None:
        """Take notice that ``backend`` became usable or unusable."""

    def on_long(self, backend: Connection) -> bool:
        """Take notice that ``backend`` takes a very long reply, or one whose reader is slow. Returns whether other
        clients use another connection, now or soon."""

    def hint(self, node: Node | None) -> None:
        """Look at the topology, as ``node`` reports a change."""

    def demoted(self, place: Place) -> None:
        """Take notice that the server of ``place``, which is used as a primary, says that it is a replica."""

    def stranger(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with the id ``identity`` may not be used; "" if it may."""

    def client(self, number: int) -> ConnectionOwner[Connection] | None:
        """The client with this number, if it has connections of its own."""

    def keeps_connections(self) -> bool:
        """Whether servers may close connections to save memory, and can be told not to."""


@dataclass(frozen=True, slots=True)
class RoleChecks:
    """What a server has to report about itself before it is used."""

    verify: bool
    """Whether a server must report the role that it is used in: set where roles change."""
    alone: bool
    """Whether only the configuration says which servers are primaries, and a server must not deny it."""
    cluster: bool
    """Whether the servers form a Redis Cluster."""


@dataclass(frozen=True, slots=True)
class BackendSettings(Generic[Connection]):
    """The settings that all connections of a worker to servers share, and the events that they report."""

    turn: Turn
    counters: Counters
    slices: Slices
    timing: Timing
    credentials: Credentials
    others: dict[str, Credentials]
    """The credentials of the servers' users other than the proxy's own, by name."""
    gates: Gates
    connect: Callable[..., Awaitable[None]]
    """Connects a protocol to a host and port, or to a unix socket (port 0); see ``reach``."""
    roles: RoleChecks
    query: QueryLimit
    """The bytes of one connection's requests that the servers keep."""
    max_reply: int
    """The bytes that are kept of one reply that can not be passed on as it arrives."""
    long_reply_connections: int
    """The number of connections to one server that may take long replies at a time."""
    events: BackendEvents[Connection]

    def greeting(
        self,
        place: Place,
        *,
        at_busy: bool = False,
        identify: bool = False,
        shared: bool = False,
        steps: Sequence[Step] = (),
    ) -> Greeting:
        """The handshake of a connection to ``place``; see ``Greeting``."""
        return Greeting(
            place.protocol,
            place.db,
            place.primary,
            self.others[place.user] if place.user else self.credentials,
            verify=self.roles.verify,
            alone=self.roles.alone,
            cluster=self.roles.cluster,
            stranger=partial(self.events.stranger, place.node) if self.roles.cluster else None,
            at_busy=at_busy,
            identify=identify,
            shared=shared and self.events.keeps_connections(),
            steps=steps,
            own=self.credentials if place.user else None,
        )

    def reach(self, node: Node, address: str, protocol: object) -> Awaitable[None]:
        """Connect ``protocol`` to ``node`` at one of its addresses; with TLS the certificate must have the node's
        name."""
        if self.credentials.tls is None:
            return self.connect(address, node.port, protocol)
        return self.connect(address, node.port, protocol, node.host)
