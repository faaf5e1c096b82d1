"""What a client uses of its worker, beside what the features use."""

from collections.abc import Sequence
from typing import Protocol

from proxy.client.fast_paths import FastPaths
from proxy.commands.facts import Fact
from proxy.features.host import Monitors, Paused, Registry, Services, WorkerCounts
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


class ClientRegistry(Registry, Protocol):
    """The clients of the worker."""

    @property
    def monitoring(self) -> ShownCommands:
        """The clients that have called MONITOR."""

    @property
    def pausing(self) -> PausedCommands:
        """What a CLIENT PAUSE holds."""


class RankedWorker(WorkerCounts, Protocol):
    """Which worker this is, and how its clients are numbered."""

    def rank(self, number: int) -> int:
        """The place of client ``number`` among those of its worker."""


class ClientServices(Services, Protocol):
    """The parts of a worker that its clients share."""

    @property
    def clients(self) -> ClientRegistry:
        """The clients."""

    @property
    def shared_counts(self) -> RankedWorker:
        """Which worker this is."""

    @property
    def world(self) -> World:
        """What sessions know of."""

    @property
    def fast_paths(self) -> FastPaths:
        """What both fast paths know of commands."""
