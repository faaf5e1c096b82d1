"""What a backend connection is for, and what it shares with the others of its worker."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Protocol

from proxy.backends.connect_gate import Gates
from proxy.backends.handshake import Credentials, Greeting, Step
from proxy.engine.entry import Entry
from proxy.engine.sink import OnError
from proxy.metrics import Counters
from proxy.planning.proof import Doubt
from proxy.planning.query_limit import QueryLimit
from proxy.planning.refusals import Refusal
from proxy.planning.retry_rules import Look
from proxy.sharding.topology import Node
from proxy.transport.job_runner import Slices
from proxy.transport.write_batch import Turn

if TYPE_CHECKING:
    from proxy.backends.shared import Backend


LARGE = -1
"""The ``index`` of connections that only large requests use."""
LONG = -2
"""That of connections that only requests use that have had very long replies."""
SCRIPTS = -3
"""That of the first of those that only clients use who call scripts; the others' count down from it."""


class State(Enum):
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


class Owner(Protocol):
    """The client that some connections are for alone."""

    async def steps(self, place: Place) -> "list[Step]":
        """What a new connection to ``place`` is told beside the usual. Raises ``BackendError``."""

    def pushed(self, backend: "Backend", frame: bytes) -> None:
        """A server says something unasked (RESP3)."""

    def missed(self) -> None:
        """A connection is lost."""

    def redirected(self) -> None:
        """A request was refused, and will be sent elsewhere."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all backend connections of a worker share."""

    turn: Turn
    counters: Counters
    timing: Timing
    credentials: Credentials
    gates: Gates
    connect: Callable[..., Awaitable[None]]
    """Connects a protocol to a host and port, or to a unix socket (port 0); see ``reach``."""
    look: Callable[[bytes], Look]
    """What the request in a frame is, for the decision whether it may be sent twice."""
    on_error: OnError
    refusal: Callable[[bytes, Node, bytes], Refusal | Doubt | None]
    """What an error of a node to the request in a frame refuses, if it does or may; then ``refused`` is called."""
    doubt: Callable[[bytes], Doubt | None]
    """What goes ahead of the request in a frame, if its own words prove no refusal; None if they do."""
    prepare: Callable[[bytes, "Backend", float], None]
    """Called with a request that is about to be sent over a connection that is not the one it was for: has sent ahead
    what it needs there."""
    unprepared: Callable[["Backend"], None]
    """Called when some of what was sent ahead over a connection may not have come there."""
    refused: Callable[["Backend", Entry, Refusal | Doubt], None]
    """Called with a request that was refused, or may have been, and was taken out of the FIFO."""
    wait: Callable[[Entry, Place], None]
    """Called with a request that nobody can take now, and with where it was."""
    hint: Callable[[Node | None], None]
    """Something has changed: the topology should be looked at."""
    on_state: Callable[["Backend"], None]
    """Called whenever a connection becomes usable or stops being so."""
    on_long: Callable[["Backend"], bool]
    """Called while a connection takes a reply that is very long, or whose reader is slow, and is not left to it yet:
    whether it is now, or will be soon."""
    elsewhere: Callable[["Backend"], "Backend"]
    """Where reads go now that went over a connection: the same one, or another server of its shard."""
    where: Callable[[Place, Look], "Backend | None"]
    """Which connection to a primary a request belongs on now that was sent as this place says; None: nobody serves its
    slot."""
    demoted: Callable[[Place], None]
    """Called with where a server is used as a primary that says that it is a replica."""
    verify: bool
    """Whether a server must say that it has the role that it is used in: where roles change."""
    alone: bool
    """Whether only the configuration says who is a primary, and a server must not deny it."""
    cluster: bool
    """Whether the servers are a Redis Cluster's."""
    stranger: Callable[[Node, str], str]
    """Why a server of a cluster is not to be used that is reached as this node and has this id; "" if it is."""
    owner: Callable[[int], Owner | None]
    """The client of this number, if it has connections of its own."""
    slices: Slices
    query: QueryLimit
    """How much the servers keep of what one connection sends."""
    evicts: Callable[[], bool]
    """Whether servers may close connections to save memory, and can be told not to."""
    max_reply: int
    """How many bytes are kept of one reply that can not be passed on as it comes."""
    long_reply_connections: int
    """How many connections to one server may be left to long replies at a time."""

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
            verify=self.verify,
            alone=self.alone,
            cluster=self.cluster,
            stranger=partial(self.stranger, place.node) if self.cluster else None,
            at_busy=at_busy,
            identify=identify,
            shared=shared and self.evicts(),
            steps=steps,
        )

    def reach(self, node: Node, address: str, protocol: object) -> Awaitable[None]:
        """Connect ``protocol`` to ``node`` at one of its addresses; over TLS its certificate must have its name."""
        if self.credentials.tls is None:
            return self.connect(address, node.port, protocol)
        return self.connect(address, node.port, protocol, node.host)


class Holder(Protocol):
    """A client that stops reading while a backend takes no more."""

    def hold(self, backend: "Backend") -> None:
        """Stop reading until ``backend`` calls ``release``."""

    def release(self, backend: "Backend") -> None:
        """``backend`` takes requests again, or refuses them at once."""
