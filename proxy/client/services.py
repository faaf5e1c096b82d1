"""What a client uses of its worker, beside what the features use."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from proxy.backends.long_replies import LongReplies
from proxy.backends.routes import Routes
from proxy.backends.shared import Backend
from proxy.client.fast_commands import Lanes
from proxy.client.own_answers import OwnLane
from proxy.commands.facts import Fact
from proxy.commands.table import CommandTable
from proxy.engine.sink import Sink
from proxy.features.host import Monitors, Paused, Services, WorkerCounts
from proxy.session.session import Session, World


class ShownCommands(Monitors, Protocol):
    """The clients that have called MONITOR, and what they are shown."""

    @property
    def watching(self) -> bool:
        """Whether there are any."""

    def show(self, session: Session, fact: Fact, args: Sequence[bytes]) -> None:
        """A client has run a command."""


class PausedCommands(Paused, Protocol):
    """What a CLIENT PAUSE holds."""

    def holds(self, fact: Fact, args: Sequence[bytes]) -> bool:
        """Whether a command has to wait."""


class RankedWorker(WorkerCounts, Protocol):
    """Which worker this is, and how its clients are numbered."""

    def rank(self, number: int) -> int:
        """The place of client ``number`` among those of its worker."""


class ClientServices(Services, Protocol):
    """The parts of a worker that its clients share."""

    @property
    def spectators(self) -> ShownCommands:
        """The clients that have called MONITOR."""

    @property
    def pausing(self) -> PausedCommands:
        """What a CLIENT PAUSE holds."""

    @property
    def census(self) -> RankedWorker:
        """Which worker this is."""

    @property
    def world(self) -> World:
        """What sessions know of."""

    @property
    def table(self) -> CommandTable:
        """The commands."""

    @property
    def absent(self) -> frozenset[str]:
        """Names of commands that the table knows and no server has."""

    @property
    def lanes(self) -> Lanes:
        """What the fast path knows of commands."""

    @property
    def own_lane(self) -> OwnLane:
        """What the own fast path knows of commands."""

    @property
    def fast_lane(self) -> bool:
        """Whether the limits of requests are wide enough for the fast path, which does not look at them."""

    @property
    def open(self) -> bool:
        """Whether clients need not authenticate."""

    @property
    def plain_routes(self) -> Sequence[Routes]:
        """The routes of clients that have chosen nothing yet, dealt out to them in turn."""

    @property
    def read_your_writes(self) -> float:
        """For how many seconds a client's reads of a shard go to the primary after a write there."""

    @property
    def longs(self) -> LongReplies:
        """The requests that have had very long replies lately."""

    def long_routes(self, frames: Iterable[bytes], routes: Routes) -> Routes | None:
        """The routes of a request that is sent as ``frames``, in place of ``routes``, if one of these has had very long
        replies; None if not."""

    def routes(
        self, protocol: int, db: int, number: int, reads_replicas: bool = False, calls_scripts: bool = False
    ) -> Routes:
        """The routes of client ``number``, in the protocol and database it uses; ``reads_replicas``: it said so."""

    def forestall(self, frame: bytes, backend: Backend | None, sink: Sink, token: int, now: float) -> None:
        """A request is about to be sent to ``backend`` while others are refused: have its twin go ahead of it."""
