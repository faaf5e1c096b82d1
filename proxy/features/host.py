"""Protocols of what a feature may use of its client, and of what that client shares with the others of its worker.

Features know neither the client's connection nor the composition root: these Protocols stand for both.
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
    """The other workers of the server."""

    def ask(self, name: str, args: Args, caller: int, then: Callable[[Sequence[Part]], None]) -> None:
        """Have the other workers run their parts of a command about all clients; ``then`` is called later with their
        replies."""


class Registry(Protocol):
    """The clients of the worker."""

    def __len__(self) -> int: ...

    @property
    def limited(self) -> bool:
        """Whether any user or address has limits."""

    @property
    def paused(self) -> bool:
        """Whether a CLIENT PAUSE is in effect."""

    @property
    def pauses_writes_only(self) -> bool:
        """Whether the pause holds only commands that may write."""

    @property
    def pausing(self) -> "Paused":
        """Decides which commands the pause holds."""

    @property
    def monitoring(self) -> "Monitors":
        """The clients that have called MONITOR."""

    def get(self, number: int) -> "Host | None":
        """The client with the id ``number``."""

    def count_blocked(self, change: int) -> None:
        """Count one more client that waits in a blocking command (1), or one less (-1)."""

    def look_again(self) -> None:
        """Carry out the held commands that the pause does not hold any more."""


class WorkerCounts(Protocol):
    """The index and the number of the workers."""

    @property
    def workers(self) -> int:
        """The number of workers."""

    @property
    def index(self) -> int:
        """The index of this worker, from 0."""


class Monitors(Protocol):
    """The clients that have called MONITOR."""

    def __contains__(self, client: "Host") -> bool: ...

    def add(self, client: "Host") -> None:
        """Show all commands to ``client`` from now on."""

    def remove(self, client: "Host") -> None:
        """Show no more commands to ``client``, if it has called MONITOR."""


class Paused(Protocol):
    """Decides which commands a CLIENT PAUSE holds."""

    def holds_any(self, queue: Queue) -> bool:
        """Whether one of the queued commands has to wait."""


class KeyTracking(Protocol):
    """The tracking of one client: invalidates the keys that the client has read."""

    @property
    def number(self) -> int:
        """The client's id."""

    @property
    def tracking(self) -> Tracking:
        """The options that the client chose."""

    def begin(self, pending: PendingReply, reply: bytes) -> None:
        """Start tracking; answer ``reply`` when the servers track."""

    def change(self, tracking: Tracking, pending: PendingReply, reply: bytes) -> None:
        """Use the options ``tracking``; answer ``reply`` when the servers have them."""

    def end(self, pending: PendingReply, reply: bytes) -> None:
        """Stop tracking; answer ``reply`` when the servers have stopped."""

    def follow(self, pending: PendingReply | None = None, reply: bytes = b"") -> None:
        """Adopt the session's protocol and database; answer ``reply``, if one is due, when the servers have them."""

    def before(self, shards: Sequence[int], now: float) -> None:
        """Take notice that a request to ``shards`` is about to be sent."""

    def taken(self, fact: Fact) -> None:
        """Take notice that a command of the client is about to be carried out."""

    def passed(self) -> None:
        """Take notice that a command was carried out, so that CLIENT CACHING does not apply to the next one."""

    def missed(self) -> None:
        """Invalidate everything: the client may have read keys that no server tracks."""


class Trackers(Protocol):
    """The tracking clients of the worker."""

    @property
    def most(self) -> int:
        """The largest number of tracking clients."""

    @property
    def share(self) -> int:
        """The largest number of tracking clients of one user at one address."""

    def __len__(self) -> int: ...

    def of(self, holder: str) -> int:
        """The number of tracking clients of one user at one address."""

    def begin(self, client: "Host", wanted: Tracking) -> KeyTracking:
        """Start tracking for ``client``."""

    def end(self, tracker: KeyTracking) -> None:
        """Stop the tracking of a client."""


class ReplicaLags(Protocol):
    """The lags of the replicas."""

    def lags(self) -> Iterator[tuple[str, Node, float]]:
        """Each replica that has answered: the name of its shard, the node, and its lag in seconds."""


class Services(Protocol):
    """The objects that the clients of a worker share."""

    @property
    def config(self) -> Config:
        """The configuration."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def turn(self) -> Turn:
        """The turns of the loop, with the clock of the deadlines."""

    @property
    def slices(self) -> Slices:
        """Runs long jobs in slices."""

    @property
    def counters(self) -> Counters:
        """The worker's counters."""

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
        """Knows how far the replicas are behind."""

    @property
    def inspector(self) -> Inspector:
        """Inspects requests, and has the table of commands."""

    @property
    def planner(self) -> Planner:
        """Decides how commands are carried out."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Carries out plans."""

    @property
    def scripts(self) -> Scripts:
        """The scripts that clients have sent."""

    @property
    def query(self) -> QueryLimit:
        """The bytes of one connection's requests that the servers keep."""

    @property
    def limits(self) -> ClientLimits:
        """The limits of each client."""

    @property
    def siblings(self) -> Siblings | None:
        """The other workers; None if there are none."""

    @property
    def shared_counts(self) -> WorkerCounts:
        """The index and the number of the workers."""

    @property
    def clients(self) -> Registry:
        """The clients of the worker."""

    @property
    def trackers(self) -> Trackers:
        """The clients that track."""


class ClientState(Protocol):
    """The part of a client's state that other modules than ``proxy.features.state`` need."""

    @property
    def blocked(self) -> bool:
        """Whether the client waits in a blocking command."""

    @property
    def tracker(self) -> KeyTracking | None:
        """The client's tracking, or None."""

    def forget_expected(self) -> None:
        """Forget which subscriptions queued commands will begin or end."""

    def read_untracked(self) -> None:
        """Take notice that the client has read over a connection on which nothing is tracked."""

    def told_at_exec(self, name: str, args: Sequence[bytes]) -> bytes:
        """Return the confirmations of the command ``name``, which begins or ends subscriptions, when EXEC is
        answered."""


class Host(Protocol):
    """The client that a feature is for."""

    output_hard: int
    """The limit in bytes of the replies that may wait for the client."""
    wrote: int
    """The shards that the client wrote to since its last WAIT: bit n stands for the shards n, n + 64 ..."""

    @property
    def number(self) -> int:
        """The id of the client."""

    @property
    def service(self) -> Services:
        """The objects that all clients of the worker share."""

    @property
    def session(self) -> Session:
        """The session's state: user, protocol, database, name ..."""

    @property
    def modes(self) -> ClientState | None:
        """The state of the client's features, if it has used one."""

    @property
    def window(self) -> ReplyWindow:
        """The replies to the client."""

    @property
    def flow(self) -> Flow:
        """Decides whether the client is read from."""

    @property
    def routes(self) -> Routes:
        """The connections that the client's requests use."""

    @property
    def holder(self) -> str:
        """The owner of the client's dedicated connections: its user, at its address."""

    @property
    def gone(self) -> bool:
        """Whether the client's connection is closed."""

    def alone(self) -> bool:
        """Whether no request of the client is in flight; if one is, nothing is read from the client until all are
        answered."""

    def may_call_scripts(self) -> bool:
        """Whether the client uses the connections of clients that call scripts; False if it must wait for that."""

    def own_command(self, name: str) -> OwnCommand:
        """The row of the command ``name``, which is one of the proxy's own."""

    def postpone(self) -> None:
        """Stop reading, as a CLIENT PAUSE holds the request."""

    def say(self, fact: Fact, reply: bytes) -> None:
        """Answer a command at once."""

    def say_later(self, fact: Fact, making: Job[bytes]) -> None:
        """Answer a command with the result of the job ``making``, at once or later; the next requests wait."""

    def refuse(self, fact: Fact | None, text: str) -> None:
        """Answer a command that is not carried out with an error."""

    def refuse_for_good(self, fact: Fact | None, text: str) -> None:
        """Refuse a command that every client in this mode is refused."""

    def reject(self, fact: Fact, rejected: Reject) -> None:
        """Answer a command with the planner's reason against it."""

    def queued(self, item: Queued, slots: frozenset[int], planner: object) -> None:
        """Take notice of a queued command; ``planner`` says that its keys are in ``slots``."""

    def called(self, fact: Fact) -> PendingReply:
        """Count a command that is carried out now and answered before any other. Returns its pending reply."""

    def hold(self, fact: Fact) -> PendingReply:
        """Count a command that is carried out now. Returns its pending reply, whose place is reserved already."""

    def writing(self, shards: Sequence[int], writes: bool, sink: Sink) -> Sink:
        """The sink for the reply to a request that is sent to ``shards`` now; the reply goes on to ``sink``."""

    def for_large(self, frame: bytes) -> Routes | None:
        """The routes for the request in ``frame``; None if it must wait until all earlier ones are answered."""

    def adopt_session(self) -> None:
        """Apply the session's state to the requests that follow."""

    def drain(self) -> None:
        """Take no more requests, and close when those in flight are answered."""

    def count_sent(self, size: int) -> None:
        """Count ``size`` bytes of requests that were carried out and may be unanswered."""

    def abort(self, reason: str) -> None:
        """Close at once, for a ``reason`` that is logged and counted."""
