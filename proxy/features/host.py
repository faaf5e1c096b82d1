"""What a feature may use of the client that it is for, and of what that client shares with the others of its worker.

A feature names neither the connection of its client nor the composition root: both are met here, as far as needed.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from proxy.backends.dispatch import Dispatcher
from proxy.backends.routes import Routes
from proxy.backends.upstream import Upstream
from proxy.commands.facts import Fact
from proxy.config import Config
from proxy.engine.jobs import Job
from proxy.engine.sink import Sink
from proxy.engine.window import ReplyWindow
from proxy.features.request import PendingReply
from proxy.metrics import Counters
from proxy.planning.exec_block import Queue, Queued
from proxy.planning.inspector import Inspector
from proxy.planning.planner import Planner, Reject
from proxy.planning.query_limit import QueryLimit
from proxy.pubsub.hub import Hub
from proxy.session.cross_worker import Args, Part
from proxy.session.own_command import OwnCommand
from proxy.session.script_cache import Scripts
from proxy.session.session import Session
from proxy.session.tracking_options import Tracking
from proxy.sharding.topology import Node, Topology
from proxy.transport.flow_control import ClientLimits, Flow
from proxy.transport.job_runner import Slices
from proxy.transport.write_batch import Turn


class Siblings(Protocol):
    """The other workers, where there are any."""

    def ask(self, name: str, args: Args, caller: int, then: Callable[[Sequence[Part]], None]) -> None:
        """Have them do their parts of a command about all clients, and later call ``then`` with what they answered."""


class Registry(Protocol):
    """The clients of the worker."""

    def __len__(self) -> int: ...

    @property
    def paused(self) -> bool:
        """Whether a CLIENT PAUSE holds."""

    @property
    def pauses_writes_only(self) -> bool:
        """Whether it holds only what may write."""

    @property
    def pausing(self) -> "Paused":
        """What it holds."""

    @property
    def monitoring(self) -> "Monitors":
        """The clients that have called MONITOR."""

    def get(self, number: int) -> "Host | None":
        """The client with this id."""

    def count_blocked(self, change: int) -> None:
        """One more client waits in a blocking command (1), or one less (-1)."""

    def look_again(self) -> None:
        """Carry out what a pause holds and does not hold any more."""


class WorkerCounts(Protocol):
    """Which worker this is, of how many."""

    @property
    def workers(self) -> int:
        """How many there are."""

    @property
    def index(self) -> int:
        """Which one this is, from 0."""


class Monitors(Protocol):
    """The clients that have called MONITOR."""

    def __contains__(self, client: "Host") -> bool: ...

    def add(self, client: "Host") -> None:
        """``client`` sees all commands from now on."""

    def remove(self, client: "Host") -> None:
        """It does not any more; it need not have."""


class Paused(Protocol):
    """What a CLIENT PAUSE holds."""

    def holds_any(self, queue: Queue) -> bool:
        """Whether one of the queued commands has to wait."""


class KeyTracking(Protocol):
    """What tells a client which of the keys that it read have changed."""

    @property
    def number(self) -> int:
        """The client's id."""

    @property
    def tracking(self) -> Tracking:
        """The options that the client chose."""

    def begin(self, pending: PendingReply, reply: bytes) -> None:
        """Answer ``reply`` when the servers track."""

    def change(self, tracking: Tracking, pending: PendingReply, reply: bytes) -> None:
        """Use other options from now on; answer ``reply`` when the servers have them."""

    def end(self, pending: PendingReply, reply: bytes) -> None:
        """Track no more; answer ``reply`` when the servers know."""

    def follow(self, pending: PendingReply | None = None, reply: bytes = b"") -> None:
        """The session may have another protocol or database; answer ``reply``, if one is due, when the servers do."""

    def before(self, shards: Sequence[int], now: float) -> None:
        """A request to ``shards`` is about to be sent."""

    def taken(self, fact: Fact) -> None:
        """A command of the client is about to be carried out."""

    def passed(self) -> None:
        """It was carried out, and CLIENT CACHING is for none that follows."""

    def missed(self) -> None:
        """The client may have read what no server tells it of."""


class Trackers(Protocol):
    """The tracking clients of the worker."""

    @property
    def most(self) -> int:
        """How many there may be."""

    @property
    def share(self) -> int:
        """How many of one user at one address."""

    def __len__(self) -> int: ...

    def of(self, holder: str) -> int:
        """How many are of one user at one address."""

    def begin(self, client: "Host", wanted: Tracking) -> KeyTracking:
        """``client`` tracks from now on."""

    def end(self, tracker: KeyTracking) -> None:
        """It does not any more."""


class ReplicaLags(Protocol):
    """The watch over the servers."""

    def lags(self) -> Iterator[tuple[str, Node, float]]:
        """Each replica that has answered: its shard, itself, and how far it is behind."""


class Services(Protocol):
    """What the clients of a worker share."""

    @property
    def config(self) -> Config:
        """The configuration."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def turn(self) -> Turn:
        """Its turns, with the clock that deadlines go by."""

    @property
    def slices(self) -> Slices:
        """Carries out long work."""

    @property
    def counters(self) -> Counters:
        """What is counted."""

    @property
    def upstream(self) -> Upstream:
        """The servers."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""

    @property
    def hub(self) -> Hub:
        """The subscriptions at the servers."""

    @property
    def discovery(self) -> ReplicaLags:
        """How far the replicas are behind."""

    @property
    def inspector(self) -> Inspector:
        """Looks at requests, and has the table of commands."""

    @property
    def planner(self) -> Planner:
        """Decides what becomes of commands."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Carries plans out."""

    @property
    def scripts(self) -> Scripts:
        """The scripts that clients have sent."""

    @property
    def query(self) -> QueryLimit:
        """How much the servers keep of what one connection sends."""

    @property
    def limits(self) -> ClientLimits:
        """The bounds of each client."""

    @property
    def siblings(self) -> Siblings | None:
        """The other workers, where there are any."""

    @property
    def shared_counts(self) -> WorkerCounts:
        """Which worker this is."""

    @property
    def clients(self) -> Registry:
        """The clients."""

    @property
    def trackers(self) -> Trackers:
        """The clients that track."""


class ClientState(Protocol):
    """What the client is in the middle of, as far as others than ``proxy.features.state`` need it."""

    @property
    def blocked(self) -> bool:
        """Whether it waits in a blocking command."""

    @property
    def tracker(self) -> KeyTracking | None:
        """What hears which of the keys that it read are changed."""

    def forget_expected(self) -> None:
        """Nothing is expected of its subscriptions any more."""

    def read_untracked(self) -> None:
        """It has read over a connection that is not its own for good."""

    def told_at_exec(self, name: str, args: Sequence[bytes]) -> bytes:
        """The confirmations of the command ``name``, which begins or ends subscriptions, when EXEC is answered."""


class Host(Protocol):
    """The client that a feature is for."""

    output_hard: int
    """How many bytes may wait for it."""
    wrote: int
    """The shards that it wrote to since its last WAIT: bit n is that of the shards n, n + 64 ..."""

    @property
    def number(self) -> int:
        """Its id."""

    @property
    def service(self) -> Services:
        """What it shares with the others."""

    @property
    def session(self) -> Session:
        """What it has told of itself."""

    @property
    def modes(self) -> ClientState | None:
        """What it is in the middle of, if it ever was."""

    @property
    def window(self) -> ReplyWindow:
        """Its replies."""

    @property
    def flow(self) -> Flow:
        """Whether it is read from."""

    @property
    def routes(self) -> Routes:
        """The connections that its requests go over."""

    @property
    def holder(self) -> str:
        """Whose the connections are that it has for itself: the user's, at the address."""

    @property
    def gone(self) -> bool:
        """Whether there is no connection any more."""

    def alone(self) -> bool:
        """Whether nothing that it sent is in flight; if something is, it is not read from until all is answered."""

    def may_call_scripts(self) -> bool:
        """Whether it is on the connections of those who call scripts; False if it must wait for that."""

    def own_command(self, name: str) -> OwnCommand:
        """What carries out the command ``name``, which is one of the proxy's own."""

    def postpone(self) -> None:
        """A CLIENT PAUSE holds what it sent."""

    def say(self, fact: Fact, reply: bytes) -> None:
        """Answer a command at once."""

    def say_later(self, fact: Fact, making: Job[bytes]) -> None:
        """Answer a command with what ``making`` returns, at once or in a while; what follows it waits."""

    def refuse(self, fact: Fact | None, text: str) -> None:
        """Answer a command with an error; nothing is executed."""

    def refuse_for_good(self, fact: Fact | None, text: str) -> None:
        """Refuse a command that is always refused like that, whoever sends it in this mode."""

    def reject(self, fact: Fact, rejected: Reject) -> None:
        """Answer a command with what the planner has against it."""

    def queued(self, item: Queued, slots: frozenset[int], planner: object) -> None:
        """A command was queued; ``planner`` says that its keys are in ``slots``."""

    def called(self, fact: Fact) -> PendingReply:
        """Count a command that is carried out now and answered before any other is: the reply that it waits for."""

    def hold(self, fact: Fact) -> PendingReply:
        """Count a command that is carried out now: the reply that it waits for, which has its place already."""

    def writing(self, shards: Sequence[int], writes: bool, sink: Sink) -> Sink:
        """Where the reply goes to a request to ``shards`` that is sent now, on its way to ``sink``."""

    def for_large(self, frame: bytes) -> Routes | None:
        """The routes for the request in ``frame``; None if it must wait until all that came before it is answered."""

    def adopt_session(self) -> None:
        """Take over what the session's state means for the requests that follow."""

    def drain(self) -> None:
        """Take no more requests; close when what is in flight is answered."""

    def abort(self, reason: str) -> None:
        """Close at once, for a reason that is logged and counted."""
