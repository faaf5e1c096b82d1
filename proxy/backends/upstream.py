"""What a request over a dedicated connection uses of the worker: a narrow face of its servers, and of its client."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from proxy.backends.dedicated_pool import Leases
from proxy.backends.pool import Pool
from proxy.backends.redirections import Detours
from proxy.backends.settings import Place
from proxy.backends.shared import Backend
from proxy.commands.facts import Fact
from proxy.config import Config
from proxy.metrics import Counters
from proxy.planning.proof import Doubt
from proxy.planning.refusals import Refusal
from proxy.session.script_cache import Scripts
from proxy.session.session import Session
from proxy.sharding.topology import Node, Topology
from proxy.transport.write_batch import Turn


class Upstream(Protocol):
    """The servers of a worker."""

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
    def counters(self) -> Counters:
        """What is counted."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""

    @property
    def slot_of(self) -> Callable[[bytes], int]:
        """The slot of a key, or of a shard channel."""

    @property
    def pool(self) -> Pool:
        """The shared connections."""

    @property
    def leases(self) -> Leases:
        """The dedicated connections."""

    @property
    def detours(self) -> Detours:
        """The requests that were refused, and are on their way to another server."""

    @property
    def scripts(self) -> Scripts:
        """The scripts that clients have sent."""

    def shared(self, place: Place) -> Backend:
        """The shared connection to the server of ``place``."""

    def primary(self, shard: int, protocol: int, db: int) -> Place | None:
        """Where the primary of ``shard`` is; None if it is nobody's, or nothing may be sent there now."""

    def holds(self, name: str) -> bool:
        """Whether nothing is sent to the primary of the shard called so, as a failover is about to begin."""

    def replace(self, backends: Collection[Backend]) -> None:
        """Use fresh connections in place of these, over which nothing more is sent."""

    def renew(self, number: int, node: Node) -> None:
        """Connect client ``number`` anew to ``node``, over each connection of its own."""

    def release(self, number: int) -> None:
        """Client ``number`` needs no connections of its own any more."""

    def hint(self, node: Node | None) -> None:
        """Something has changed, as ``node`` says: the topology should be looked at."""

    def demoted(self, place: Place) -> None:
        """The server of ``place`` is used as a primary, and says that it is a replica."""

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """What an error frame refuses that ``asked`` sent to the request in ``frame``; None if it is the client's
        business."""

    def doubt(self, frame: bytes) -> Doubt | None:
        """What shows whether a server refuses the request in ``frame``, if that request's own words do not."""

    def resolve(self, frame: bytes) -> tuple[Fact | None, list[bytes]]:
        """The fact of a request that was sent, of a block EXEC's; None if it is not known or can not be read."""

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""


class Requester(Protocol):
    """The client that a dedicated connection is asked for."""

    @property
    def service(self) -> Upstream:
        """The servers of its worker."""

    @property
    def session(self) -> Session:
        """Its state."""

    @property
    def window(self) -> object:
        """Whose the replies are."""

    @property
    def holder(self) -> str:
        """Its user and address."""
