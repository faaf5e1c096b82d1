"""What a merge is given beside the replies: what the proxy knows of itself, of its clients and of its servers.

A merge is a function of a plan, of the replies to its parts, and of this context; ``proxy.planning.merge`` has the
table of them.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from proxy.engine.jobs import Job
from proxy.planning.channels import Kind
from proxy.planning.scatter import Scatter

Overlay = Mapping[str, Mapping[str, str]]
"""Fields of INFO by section."""


class Audience(Protocol):
    """Knows which clients listen to messages: a server sees all clients of a worker as one."""

    def heard(self, kind: Kind, name: bytes, counts: Sequence[int]) -> int:
        """How many clients are subscribed to a channel of which the shards' primaries count so many subscribers."""

    def patterns(self, counts: Sequence[int]) -> int:
        """How many patterns clients are subscribed to, when the shards' primaries count so many."""


class ShardPrimaries(Protocol):
    """Knows what the primaries of the shards have said of themselves."""

    def oldest(self) -> Set[int]:
        """The shards whose primaries have the lowest version; no shard where all have the same version."""

    def name(self, shard: int) -> str:
        """The name of a shard."""

    def differ(self, setting: str, values: Sequence[tuple[str, str]]) -> None:
        """Report that shards have different ``values`` of a setting, each value by its shard's name."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a merge may say about the proxy and its servers, each made when it is asked for.

    ``overlay`` gives the proxy's own fields of INFO, ``audience`` knows who listens to messages, and ``servers`` knows
    the shards' primaries. ``version`` is the servers' version, ``unserved`` says why not all of them are known.
    """

    overlay: Callable[[], Overlay] = dict
    audience: Callable[[], Audience] | None = None
    servers: ShardPrimaries | None = None
    version: Callable[[], str] = str
    unserved: Callable[[], str] = str


Merger = Callable[[Scatter, Sequence[bytes], Context], bytes]
"""Makes one reply frame of the replies to the parts."""
Merging = Callable[[Scatter, Sequence[bytes], Context], Job[bytes]]
"""Does the same as a job, where it takes long."""
