"""What a client uses of its worker, beside what the features use."""

from collections.abc import Sequence
from typing import Protocol

from proxy.client.backlog import Backlog
from proxy.client.fast_commands import Lookups
from proxy.client.own_answers import OwnAnswers
from proxy.commands.facts import Fact
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
    def monitoring(self) -> ShownCommands:
        """The clients that have called MONITOR."""

    @property
    def pausing(self) -> PausedCommands:
        """What a CLIENT PAUSE holds."""

    @property
    def shared_counts(self) -> RankedWorker:
        """Which worker this is."""

    @property
    def backlog(self) -> Backlog:
        """What waits for clients that do not read."""

    @property
    def world(self) -> World:
        """What sessions know of."""

    @property
    def absent(self) -> frozenset[str]:
        """Names of commands that the table knows and no server has."""

    @property
    def lookups(self) -> Lookups:
        """What the fast path knows of commands."""

    @property
    def own_answers(self) -> OwnAnswers:
        """What the own fast path knows of commands."""

    @property
    def fast_path_allowed(self) -> bool:
        """Whether the limits of requests are wide enough for the fast path, which does not look at them."""

    @property
    def open(self) -> bool:
        """Whether clients need not authenticate."""

    @property
    def read_your_writes(self) -> float:
        """For how many seconds a client's reads of a shard go to the primary after a write there."""
