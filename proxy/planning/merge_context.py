"""The facts about the proxy, its clients and its servers that a merge may use beside the replies.

A merge is a function of a plan, of the replies to its parts, and of this context; ``proxy.planning.merge`` has the
table of merges.
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
    """Counts the clients that are subscribed: a server sees all clients of a worker as one."""

    def heard(self, kind: Kind, name: bytes, counts: Sequence[int]) -> int:
        """How many clients are subscribed to a channel, if the shards' primaries have ``counts`` subscribers."""

    def patterns(self, counts: Sequence[int]) -> int:
        """How many patterns have subscribers, if the shards' primaries have ``counts`` patterns."""


class ShardPrimaries(Protocol):
    """Knows the versions and settings of the shards' primaries."""

    def oldest(self) -> Set[int]:
        """The shards whose primaries have the lowest version; empty if all have the same version."""

    def name(self, shard: int) -> str:
        """The name of a shard."""

    def differ(self, setting: str, values: Sequence[tuple[str, str]]) -> None:
        """Report that shards have different ``values`` of a setting, each value by its shard's name."""


def _no_fields(cluster: bool) -> Overlay:
    return {}


@dataclass(frozen=True, slots=True)
class Context:
    """The facts that a merge may use, each computed on demand.

    ``overlay`` returns the proxy's own fields of INFO, for a client to which the proxy presents itself as a cluster, or
    as one server. ``audience`` counts subscribers, and ``servers`` knows the
    shards' primaries. ``version`` is the servers' version, ``unserved`` says why some slots have no shard.
    """

    overlay: Callable[[bool], Overlay] = _no_fields
    audience: Callable[[], Audience] | None = None
    servers: ShardPrimaries | None = None
    version: Callable[[], str] = str
    unserved: Callable[[], str] = str


Merger = Callable[[Scatter, Sequence[bytes], Context], bytes]
"""A function that makes one reply frame from the replies to the parts."""
Merging = Callable[[Scatter, Sequence[bytes], Context], Job[bytes]]
"""A merger that runs as a job, for long replies."""
