"""Decides about calls of scripts and functions that declare no key when there are several static shards. No I/O.

Nobody knows where the keys of such a script are: on one shard it finds those of that shard, and no error says so. So
such a call is refused, or sent to one shard that the configuration names. A script that touches no data runs on any
shard. In front of a Redis Cluster nothing is decided here: its servers refuse keys of other servers to scripts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy import errors
from proxy.commands.facts import Fact
from proxy.planning.proof import RUNS_CODE
from proxy.sharding.topology import NOBODY, Topology

Touches = Callable[[str, Sequence[bytes]], bool | None]
"""Whether the code that a call runs may touch data, by the command's name and the arguments; None if nobody knows."""


@dataclass(frozen=True, slots=True)
class UndeclaredKeys:
    """The configured rule. ``shard`` is the name of the shard for scripts without keys, "" if they are refused."""

    shard: str
    touches: Touches

    def place(self, fact: Fact, args: Sequence[bytes], topology: Topology) -> int | str | None:
        """Return the shard for a call that declares no key, or the error that refuses the call; None if any shard will
        do."""
        if topology.cluster or (topology.single and topology.whole) or fact.name not in RUNS_CODE:
            return None
        touches = self.touches(fact.name, args)
        if self.shard:
            return None if touches is False else topology.index(self.shard)
        if touches is None:
            return errors.NOSCRIPT
        return errors.undeclared_keys(fact.name) if touches else None

    def slot(self, topology: Topology) -> int:
        """Return the first slot of the shard for scripts without keys; ``NOBODY`` if there is no such shard."""
        shard = topology.index(self.shard) if self.shard else NOBODY
        return NOBODY if shard == NOBODY or shard not in topology.slot_shard else topology.slot_shard.index(shard)
