"""What a connection to a server is for, what all of a worker have in common, and whom they tell what happens."""

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
"""That of connections that only requests use that have had very long replies."""
SCRIPTS = -3
"""That of the first of those that only clients use who call scripts; the others' count down from it."""


class ConnectionState(Enum):
    """Where a backend connection stands. ``HELD`` keeps requests while it reconnects, ``FAILING`` refuses them."""

    NEW = "new"
    HELD = "held"
    READY = "ready"
    FAILING = "failing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a backend may take; all in seconds."""

    connect_timeout: float
    request_timeout: float
    retry_deadline: float
    backoff_min: float
    backoff_max: float


@dataclass(frozen=True, slots=True)
class Place:
    """What a backend connection is for: the node and its role, and the state that the connection is in for good.

    The shard's name is for people, and may change: it is not compared.
    """

    shard: str = field(compare=False)
    node: Node
    primary: bool
    protocol: int
    db: int
    index: int
    owner: int = 0
    """The number of the only client that uses it, and whose protocol and database it follows from those it was greeted
    with; 0: it is shared."""


class ConnectionOwner(Protocol[_Told]):
    """The client that some connections are for alone."""

    async def steps(self, place: Place) -> list[Step]:
        """What a new connection to ``place`` is told beside the usual. Raises ``BackendError``."""

    def pushed(self, backend: _Told, frame: bytes) -> None:
        """A server says something unasked (RESP3)."""

    def missed(self) -> None:
        """A connection is lost."""

    def redirected(self) -> None:
        """A request was refused, and will be sent elsewhere."""


class Holder(Protocol[_Told]):
    """A client that stops reading while a connection takes no more."""

    def hold(self, backend: _Told) -> None:
        """Stop reading until ``backend`` calls ``release``."""

    def release(self, backend: _Told) -> None:
        """``backend`` takes requests again, or refuses them at once."""


class BackendEvents(Protocol[Connection]):
    """Whoever is told what happens on the connections, and says where requests go that were sent over one."""

    def look(self, frame: bytes) -> Look:
        """What the request in ``frame`` is, for the decision whether it may be sent twice."""

    def count_error(self, sink: Sink, frame: bytes) -> None:
        """The request in ``frame`` was answered with an error."""

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """What an error of ``asked`` to the request in ``frame`` refuses, if it does or may; then ``refused`` is
        called."""

    def doubt(self, frame: bytes) -> Doubt | None:
        """What goes ahead of the request in ``frame``, if its own words prove no refusal; None if they do."""

    def refused(self, backend: Connection, entry: Entry, refusal: Refusal | Doubt) -> None:
        """``entry`` was refused, or may have been, and was taken out of the FIFO of ``backend``."""

    def prepare(self, frame: bytes, backend: Connection, now: float) -> None:
        """The request in ``frame`` is about to be sent over a connection that is not the one it was for: have sent
        ahead what it needs there."""

    def unprepared(self, backend: Connection) -> None:
        """Some of what was sent ahead over ``backend`` may not have come there."""

    def wait(self, entry: Entry, place: Place) -> None:
        """Nobody can take ``entry`` now, which was sent to ``place``."""

    def elsewhere(self, backend: Connection) -> Connection:
        """Where reads go now that went over ``backend``: the same one, or another server of its shard."""

    def where(self, place: Place, look: Look) -> Connection | None:
        """Which connection to a primary a request belongs on now that was sent to ``place``; None: nobody serves its
        slot."""

    def on_state(self, backend: Connection) -> None:
        """``backend`` has become usable, or is so no more."""

    def on_long(self, backend: Connection) -> bool:
        """``backend`` takes a reply that is very long, or whose reader is slow, and is not left to it yet: whether it
        is now, or will be soon."""

    def hint(self, node: Node | None) -> None:
        """Something has changed, as ``node`` says: the topology should be looked at."""

    def demoted(self, place: Place) -> None:
        """The server of ``place`` is used as a primary, and says that it is a replica."""

    def stranger(self, node: Node, identity: str) -> str:
        """Why a server of a cluster is not to be used that is reached as ``node`` and has this id; "" if it is."""

    def client(self, number: int) -> ConnectionOwner[Connection] | None:
        """The client of this number, if it has connections of its own."""

    def keeps_connections(self) -> bool:
        """Whether servers may close connections to save memory, and can be told not to."""


@dataclass(frozen=True, slots=True)
class RoleChecks:
    """What a server has to say about itself before it is used."""

    verify: bool
    """Whether it must say that it has the role that it is used in: where roles change."""
    alone: bool
    """Whether only the configuration says who is a primary, and a server must not deny it."""
    cluster: bool
    """Whether the servers are a Redis Cluster's."""


@dataclass(frozen=True, slots=True)
class BackendSettings(Generic[Connection]):
    """What all connections to servers of a worker have in common, and whom they tell what happens to them."""

    turn: Turn
    counters: Counters
    slices: Slices
    timing: Timing
    credentials: Credentials
    gates: Gates
    connect: Callable[..., Awaitable[None]]
    """Connects a protocol to a host and port, or to a unix socket (port 0); see ``reach``."""
    roles: RoleChecks
    query: QueryLimit
    """How much the servers keep of what one connection sends."""
    max_reply: int
    """How many bytes are kept of one reply that can not be passed on as it comes."""
    long_reply_connections: int
    """How many connections to one server may be left to long replies at a time."""
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
        """What is said first on a connection to ``place``; see ``Greeting``."""
        return Greeting(
            place.protocol,
            place.db,
            place.primary,
            self.credentials,
            verify=self.roles.verify,
            alone=self.roles.alone,
            cluster=self.roles.cluster,
            stranger=partial(self.events.stranger, place.node) if self.roles.cluster else None,
            at_busy=at_busy,
            identify=identify,
            shared=shared and self.events.keeps_connections(),
            steps=steps,
        )

    def reach(self, node: Node, address: str, protocol: object) -> Awaitable[None]:
        """Connect ``protocol`` to ``node`` at one of its addresses; over TLS its certificate must have its name."""
        if self.credentials.tls is None:
            return self.connect(address, node.port, protocol)
        return self.connect(address, node.port, protocol, node.host)
