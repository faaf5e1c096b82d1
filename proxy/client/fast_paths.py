"""The lookups by which both fast paths of a worker find commands; remade when the commands or the topology change.

The fast path has two lookups. While servers refuse requests (MOVED, ASK ...) the lookup without the commands that run
code (scripts, modules) is used: an error of such code may be worded like a refusal, and only the slow path proves which
of the two it is. Each client keeps references to ``lookups`` and ``own_answers``, so that no request has to fetch them
from here. The clients of a user with restricted keys or commands have lookups with that user's commands only.
"""

from __future__ import annotations

from proxy.client.fast_commands import MOST_ARGUMENTS, CommandLookup, Lookups
from proxy.client.own_answers import OwnAnswers
from proxy.commands.categories import KEYED
from proxy.commands.key_access import READ, WRITE
from proxy.config import Config
from proxy.metrics import Counters
from proxy.planning.inspector import Inspector
from proxy.planning.proof import runs_code
from proxy.planning.query_limit import FAST_FROM, QueryLimit
from proxy.session.acl_check import Permissions
from proxy.sharding.colocation import AllowedKeys, Colocation
from proxy.sharding.topology import Topology

_CHUNK = 256 * 1024
"""The most bytes that uvloop reads in one call."""


class RestrictedLookups:
    """The lookups of the fast path for the clients of one user, limited to the commands and keys of that user."""

    __slots__ = ("choice", "lookups", "permissions")

    def __init__(self, lookups: Lookups) -> None:
        self.lookups = lookups
        self.permissions: Permissions | None = None
        """The permissions from which the lookups were made."""
        self.choice = (lookups.current, lookups.current)

    def __repr__(self) -> str:
        return f"<RestrictedLookups for {self.permissions!r}>"


class FastPaths:
    """Keeps the lookups of the fast paths up to date with the commands of ``inspector`` and with the topology."""

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
        """The names of the commands of which some requests have had very long replies."""
        self._unsettled = False
        self._restricted: dict[str, RestrictedLookups] = {}
        """The lookups of users that may not use every key and every command with keys, by the user's name."""
        self._choice = self._make()
        """The lookup for normal operation, and the lookup that is used while requests are refused."""
        # The fast path gets requests of one chunk at most, so it need not check limits larger than a chunk.
        wide = min(limits.max_bulk, limits.max_request_size) >= _CHUNK and limits.max_arguments >= MOST_ARGUMENTS
        self.lookups = Lookups(self._choice[0], wide)
        self.own_answers = OwnAnswers(counters, self._most_queued())
        self._learn_own()

    def of(self, permissions: Permissions) -> Lookups:
        """Return the fast path's lookups for clients whose user has these ``permissions``."""
        if permissions.keyed:
            return self.lookups
        name = permissions.user.name
        known = self._restricted.get(name)
        if known is None:
            known = self._restricted[name] = RestrictedLookups(Lookups(self._empty(), self.lookups.allowed))
        if known.permissions is not permissions:
            known.permissions = permissions
            self._restrict(known)
        return known.lookups

    def learn(self) -> None:
        """Remake the lookups from the commands that the inspector knows now."""
        self._renew()
        self._learn_own()

    def lack(self) -> None:
        """Leave the commands that no server has, according to the inspector, out of the own fast path."""
        self._learn_own()

    def adopt(self, topology: Topology) -> None:
        """Use another snapshot of the topology from now on."""
        before, self._topology = self._topology, topology
        if (before.cluster, len(before.shards)) != (topology.cluster, len(topology.shards)):
            self._renew()

    def watch(self, names: frozenset[str]) -> None:
        """Have each request of the commands ``names`` compared with those that have had very long replies."""
        self._watched = names
        for lookup in self._choice:
            lookup.watch(names)
        for known in self._restricted.values():
            self._restrict(known)

    def on_unsettled(self, on: bool) -> None:
        """Switch the lookups when servers begin to refuse requests (``on``), or do not refuse them any more."""
        self._unsettled = on
        self.lookups.current = self._choice[on]
        for known in self._restricted.values():
            known.lookups.current = known.choice[on]

    def limit(self, bulk: int) -> bool:
        """Adopt the servers' limits, by which an argument has ``bulk`` bytes at most. Returns whether the fast path,
        which does not check these limits, may still be used."""
        self.own_answers.most = self._most_queued()
        self.lookups.allowed = self.lookups.allowed and bulk >= _CHUNK and self._query.large >= FAST_FROM
        for known in self._restricted.values():
            known.lookups.allowed = self.lookups.allowed
        return self.lookups.allowed

    def _empty(self) -> CommandLookup:
        return CommandLookup((), self._counters, self._topology, self._cross_slot, self._rules)

    def _restrict(self, known: RestrictedLookups) -> None:
        """Make the lookups of a user: the commands and keys that the user's first selector allows. All other requests
        take the slow path, which checks all rules of the user."""
        permissions = known.permissions
        assert permissions is not None
        compiled = permissions.selectors[0]
        facts = [
            fact
            for fact in self._inspector.table
            if compiled.allows_command(fact, ()) and not fact.subcommands and not permissions.records(fact)
        ]
        rules = self._rules
        if not compiled.selector.all_keys:
            writes = any(not fact.readonly for fact in facts if fact.handling in KEYED)
            patterns = compiled.keys[READ | WRITE if writes else READ]
            rules = AllowedKeys(rules, patterns.prefixes, patterns.exact)
            facts = [fact for fact in facts if fact.name not in self._watched]
        settled = CommandLookup(facts, self._counters, self._topology, self._cross_slot, rules)
        unsettled = [fact for fact in facts if not runs_code(fact)]
        known.choice = settled, CommandLookup(unsettled, self._counters, self._topology, self._cross_slot, rules)
        for lookup in known.choice:
            if compiled.selector.all_keys:
                lookup.watch(self._watched)
            else:
                lookup.splits.clear()
        known.lookups.current = known.choice[self._unsettled]

    def _make(self) -> tuple[CommandLookup, CommandLookup]:
        """Make both lookups; a single object serves as both if no command of the fast path runs code."""
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
        """The most bytes that a transaction may have, by the limits of the proxy and of its servers."""
        return min(self._largest, self._query.limit)
