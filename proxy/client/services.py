"""Protocols of what a client uses of its worker, in addition to what the features use."""

from collections.abc import Sequence
from typing import Protocol

from proxy.client.fast_paths import FastPaths
from proxy.commands.facts import Fact
from proxy.features.host import Monitors, Paused, Registry, Services, WorkerCounts
from proxy.session.listener import Listener
from proxy.session.session import Session, World


class ShownCommands(Monitors, Protocol):
    """The clients that have called MONITOR, and the commands that they are shown."""

    @property
    def watching(self) -> bool:
        """Whether any client has called MONITOR."""

    def show(self, session: Session, fact: Fact, args: Sequence[bytes]) -> None:
        """Show a command that a client has run."""


class PausedCommands(Paused, Protocol):
    """Decides which commands a CLIENT PAUSE holds."""

    def holds(self, fact: Fact, args: Sequence[bytes]) -> bool:
        """Whether a command has to wait."""


class ClientRegistry(Registry, Protocol):
    """The clients of the worker."""

    @property
    def monitoring(self) -> ShownCommands:
        """The clients that have called MONITOR."""

    @property
    def pausing(self) -> PausedCommands:
        """Decides which commands a CLIENT PAUSE holds."""


class RankedWorker(WorkerCounts, Protocol):
    """The index and the number of the workers, and the ranks of the clients."""

    def rank(self, number: int) -> int:
        """The rank of client ``number`` among those of its worker."""


class ClientServices(Services, Protocol):
    """The objects that the clients of a worker share."""

    @property
    def clients(self) -> ClientRegistry:
        """The clients of the worker."""

    @property
    def shared_counts(self) -> RankedWorker:
        """The index and the number of the workers."""

    @property
    def world(self) -> World:
        """The facts that sessions know about the server."""

    @property
    def listeners(self) -> Sequence[Listener]:
        """What holds for the clients of each listening address."""

    @property
    def fast_paths(self) -> FastPaths:
        """The facts about commands that both fast paths use."""
