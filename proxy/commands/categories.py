"""The commands and ACL categories that rules may name, as sets of bits.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/ and COMMAND's own categories.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files

from proxy.commands.facts import Fact, Handling
from proxy.commands.own import OWN

CATEGORIES = (
    *("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo"),
    *("stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting"),
)
"""All categories, in the order in which servers list them."""

OLDER = "data/categories.json"
"""The file with the categories of Redis 7.0, the oldest supported server whose rules may name subcommands."""

KEYED = (Handling.KEYED, Handling.MULTI_SHARD)
"""The handlings of the commands that the fast path may send to servers."""
_ANSWERED = frozenset({"unsubscribe", "punsubscribe", "sunsubscribe", "multi", "exec", "discard"})
"""Commands of features that the proxy answers itself in the simple case."""
FUTURE = 1
"""The bit that stands for all commands that the proxy does not know yet."""


@cache
def categories_of_redis_7_0() -> Mapping[str, frozenset[str]]:
    """Return the categories of each command of Redis 7.0, from which the ACL LIST of Redis 7.0 is computed."""
    rows = json.loads(files("proxy.commands").joinpath(OLDER).read_text("utf-8"))["commands"]
    return {name: frozenset(categories.split()) for name, categories in rows.items()}


class CommandSet:
    """The commands that rules may name, each with its bit; a set of commands is an integer.

    ``names`` are in alphabetical order, a container before its subcommands. ``category`` gives the commands that a rule
    about a category changes; the subcommands of the category's containers are among them. ``counted`` gives the
    commands that are themselves in the category and known to the server of ``older``, without the proxy's own commands.
    ``newer`` are the commands that the server of ``older`` does not know.
    """

    __slots__ = (
        "bits",
        "category",
        "containers",
        "counted",
        "everything",
        "groups",
        "keyed",
        "modules",
        "names",
        "newer",
        "own",
    )

    def __init__(self, facts: Iterable[Fact], older: Mapping[str, frozenset[str]] | None = None) -> None:
        """Build the set from ``facts``. ``older``: the categories of a server's commands, if they replace those of
        ``facts``."""
        own = {fact.name for fact in _with_subcommands(OWN)}
        self.names: list[str] = []
        self.bits: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        self.containers: dict[str, list[str]] = {}
        self.modules = 0
        self.newer = 0
        self.keyed = self.own = 0
        """``keyed``: the commands that the fast path sends to servers. ``own``: the commands that the proxy answers
        itself, without those for admins only. The fast path does not check the rules of a user who may run all of these
        commands with every key."""
        self.category = dict.fromkeys(CATEGORIES, 0)
        self.counted = dict.fromkeys(CATEGORIES, 0)
        members = []
        for fact in _with_subcommands(sorted(facts, key=lambda fact: fact.name)):
            bit = FUTURE << len(self.names) + 1
            self.names.append(fact.name)
            self.bits[fact.name] = self.groups[fact.name] = bit
            container, bar, _ = fact.name.partition("|")
            if bar:
                self.groups[container] |= bit
                self.containers[container].append(fact.name)
            elif fact.subcommands:
                self.containers[fact.name] = []
            if "module" in fact.flags:
                self.modules |= bit
            if fact.handling in KEYED:
                self.keyed |= bit
            elif fact.name in _ANSWERED or (fact.handling is Handling.SESSION and "admin" not in fact.categories):
                self.own |= bit
            categories = fact.categories if older is None else older.get(fact.name, fact.categories)
            if not (older is None or fact.name in older or fact.name in own or bit & self.modules):
                self.newer |= bit
            members.append((fact.name, categories, fact.name not in own and not bit & self.newer))
        self.everything = (FUTURE << len(self.names) + 1) - 1
        for name, categories, counts in members:
            for category in categories & self.category.keys():
                self.category[category] |= self.groups[name]
                self.counted[category] |= self.bits[name] if counts else 0
        if older is not None:  # in that server, a rule about a category leaves out the commands of modules
            self.category = {name: bits & ~self.modules for name, bits in self.category.items()}

    def __repr__(self) -> str:
        return f"<CommandSet of {len(self.names)} commands>"

    def lookup(self, name: str) -> str | None:
        """Return the full name of the command that a rule calls ``name``, in any case; None if there is no such
        command."""
        lower = name.lower()
        return lower if lower in self.bits else None


def _with_subcommands(facts: Iterable[Fact]) -> Iterator[Fact]:
    for fact in facts:
        yield fact
        yield from sorted(fact.subcommands.values(), key=lambda sub: sub.name)
