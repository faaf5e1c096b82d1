"""Facts about commands for the fast path and one topology, by the bytes at the beginning of a request."""

from collections.abc import Iterable

from proxy.commands.facts import Fact, Handling
from proxy.metrics import CommandCounter, Counters
from proxy.planning import reply_counts
from proxy.planning.planner import CrossSlot, split_way
from proxy.planning.scatter import Way
from proxy.sharding.colocation import Colocation
from proxy.sharding.topology import Topology

MOST_ARGUMENTS = 9
NO_HEAD = b"no head begins so"


class Head:
    """The facts about a request by its head: the number of arguments after the key, whether a replica may answer, and
    whether the request may write."""

    __slots__ = ("bulks", "counter", "read", "writes")

    def __init__(self, bulks: int, read: bool, writes: bool, counter: CommandCounter) -> None:
        self.bulks = bulks
        self.read = read
        self.writes = writes
        self.counter = counter


class Split:
    """A command that is split by its keys."""

    __slots__ = ("counter", "step", "way")

    def __init__(self, way: Way, step: int, counter: CommandCounter) -> None:
        self.way = way
        self.step = step
        self.counter = counter


class CommandLookup:
    """All facts about commands that the fast path uses, for one topology."""

    __slots__ = ("by_slot", "entry", "heads", "measure", "rules", "shards", "splits", "text", "watched", "watching")

    def __init__(
        self,
        facts: Iterable[Fact],
        counters: Counters,
        topology: Topology,
        cross_slot: CrossSlot,
        rules: Colocation | None = None,
    ) -> None:
        self.heads: dict[bytes, Head] = {}
        self.splits: dict[bytes, Split] = {}
        self.shards = len(topology.shards)
        self.by_slot = topology.cluster
        self.rules = rules
        self.measure = counters.measure
        self.text = NO_HEAD
        """The head that was looked up last, for any client: the next request often has the same."""
        self.entry: Head | None = None
        self.watched: dict[bytes, Head] = {}
        """The heads of commands of which some requests had very long replies: each of these requests is inspected
        whole."""
        self.watching = False
        for fact in facts:
            names = _spelled(fact.name)
            for count in range(2, MOST_ARGUMENTS + 1):
                if fact.accepts(count) and _one_key(fact, count):
                    head = Head(count - 2, fact.replica_ok, not fact.readonly, counters.command(fact.name))
                    for name in names:
                        self.heads[_head(count, name)] = head
            if fact.handling is Handling.MULTI_SHARD and fact.key_range is not None and cross_slot == "split":
                first, _, step = fact.key_range
                if first == 1:
                    split = Split(split_way(fact, self.shards), step, counters.command(fact.name))
                    for name in names:
                        self.splits[b"$%d\r\n%b\r\n" % (len(name), name)] = split

    def watch(self, names: Iterable[str]) -> None:
        """Inspect requests of these commands whole, and of no others."""
        heads = self.heads
        heads.update(self.watched)
        texts = [
            _head(n, spelled) for name in names for spelled in _spelled(name) for n in range(2, MOST_ARGUMENTS + 1)
        ]
        self.watched = {text: heads.pop(text) for text in texts if text in heads}
        self.watching = bool(texts)
        self.text = NO_HEAD


class Lookups:
    """Holds the ``current`` lookup of a worker, which is replaced with each topology, and while requests are refused.

    ``allowed``: the limits of requests are wide enough for the fast path, which does not check them.
    """

    __slots__ = ("allowed", "current")

    def __init__(self, lookup: CommandLookup, allowed: bool) -> None:
        self.current = lookup
        self.allowed = allowed


def _spelled(name: str) -> list[bytes]:
    """The spellings of a command's name that clients use."""
    return [name.upper().encode(), name.encode()]


def _head(count: int, name: bytes) -> bytes:
    """The beginning of a request with ``count`` arguments, up to the length of its key."""
    return b"*%d\r\n$%d\r\n%b\r\n$" % (count, len(name), name)


def _one_key(fact: Fact, count: int) -> bool:
    """Whether a call with ``count`` arguments has one key, the first argument, and may be sent to its shard
    unchanged."""
    if fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD) or fact.blocking or fact.key_range is None:
        return False
    if fact.name in reply_counts.NAMES:
        return False  # the arguments decide over which connection the request goes
    first, last, step = fact.key_range
    end = last if last >= 0 else count + last
    if first != 1 or not first <= end < first + step:
        return False
    return fact.handling is Handling.KEYED or count == 1 + step + max(-1 - last, 0)
