"""What both fast paths of a worker know of commands: it changes when the servers say more, or have other slots.

The fast path has two lookups. While servers refuse requests (MOVED, ASK ...) it uses the one without the commands that
run code, as modules do: an error of theirs may be worded like a refusal, and the slow path has that proven. Each client
keeps ``lookups`` and ``own_answers`` themselves, so that no request has to ask for them here.
"""

from proxy.client.fast_commands import MOST_ARGUMENTS, CommandLookup, Lookups
from proxy.client.own_answers import OwnAnswers
from proxy.config import Config
from proxy.metrics import Counters
from proxy.planning.inspector import Inspector
from proxy.planning.proof import runs_code
from proxy.planning.query_limit import FAST_FROM, QueryLimit
from proxy.sharding.colocation import Colocation
from proxy.sharding.topology import Topology

_CHUNK = 256 * 1024
"""The most bytes that uvloop reads at once."""


class FastPaths:
    """Keeps the lookups of the fast paths true to the commands that ``inspector`` knows, and to the topology."""

    def __init__(
        self,
        config: Config,
        topology: Topology,
        inspector: Inspector,
        counters: Counters,
        rules: Colocation | None,
        query: QueryLimit,
    ) -> None:
        limits = config.limits
        self._inspector = inspector
        self._counters = counters
        self._cross_slot = config.cross_slot
        self._rules = rules
        self._query = query
        self._largest = limits.max_request_size
        self._topology = topology
        self._watched: frozenset[str] = frozenset()
        """The commands of which some requests have had very long replies."""
        self._unsettled = False
        self._choice = self._make()
        """The lookup that is used as a rule, and the one that is used while requests are refused."""
        # The fast path sees short requests that lie in one chunk, so larger limits need not be looked at there.
        wide = min(limits.max_bulk, limits.max_request_size) >= _CHUNK and limits.max_arguments >= MOST_ARGUMENTS
        self.lookups = Lookups(self._choice[0], wide)
        self.own_answers = OwnAnswers(counters, self._most_queued())
        self._learn_own()

    def learn(self) -> None:
        """Use the commands that the inspector knows now."""
        self._renew()
        self._learn_own()

    def lack(self) -> None:
        """Leave out the commands that no server has, as the inspector knows them now."""
        self._learn_own()

    def adopt(self, topology: Topology) -> None:
        """Use another snapshot from now on."""
        before, self._topology = self._topology, topology
        if (before.cluster, len(before.shards)) != (topology.cluster, len(topology.shards)):
            self._renew()

    def watch(self, names: frozenset[str]) -> None:
        """Look at each request of these commands whole: some have had very long replies."""
        self._watched = names
        for lookup in self._choice:
            lookup.watch(names)

    def on_unsettled(self, on: bool) -> None:
        """Requests are refused now, or are so no more."""
        self._unsettled = on
        self.lookups.current = self._choice[on]

    def limit(self, bulk: int) -> bool:
        """The servers' limits are known, and clients may send arguments of ``bulk`` bytes at most: return whether the
        fast path, which does not look at these limits, may still be used."""
        self.own_answers.most = self._most_queued()
        self.lookups.allowed = self.lookups.allowed and bulk >= _CHUNK and self._query.large >= FAST_FROM
        return self.lookups.allowed

    def _make(self) -> tuple[CommandLookup, CommandLookup]:
        """Make both lookups; they are the same one if no command of the fast path runs code."""
        table = self._inspector.table
        common = self._counters, self._topology, self._cross_slot, self._rules
        lookup = CommandLookup(table, *common)
        others = CommandLookup(filter(runs_code, table), *common)
        if not others.heads and not others.splits:
            return lookup, lookup
        return lookup, CommandLookup((fact for fact in table if not runs_code(fact)), *common)

    def _renew(self) -> None:
        self._choice = self._make()
        self.watch(self._watched)
        self.on_unsettled(self._unsettled)

    def _learn_own(self) -> None:
        self.own_answers.learn(self._inspector.table, self._inspector.absent)

    def _most_queued(self) -> int:
        """The bytes that a transaction may take, as the proxy and its servers have room for it."""
        return min(self._largest, self._query.limit)
