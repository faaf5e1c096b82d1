"""Facts about commands, in the structure of Redis's COMMAND reply, and the decision taken from them.

Sources: https://redis.io/docs/latest/commands/command/, .../develop/reference/key-specs/ and .../command-tips/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

GetKeys = Callable[[Sequence[bytes]], list[int]]
"""A function from a whole command (its name first) to the positions of its keys; raises ``keys.KeysError``."""

NOT_SAID = frozenset({"unknown", "incomplete"})
NO_SUBCOMMANDS: Mapping[bytes, Fact] = MappingProxyType({})


class Handling(Enum):
    """What the proxy does with a command, decided once for each fact."""

    KEYED = "keyed"
    """The command goes to the shard of its keys' slot."""
    MULTI_SHARD = "multi_shard"
    """The command is split by slot or shard, and the replies to its parts are merged."""
    ALL_SHARDS = "all_shards"
    """The command goes to every primary, and the replies are merged."""
    ALL_NODES = "all_nodes"
    """The command goes to every primary and replica, and the replies are merged."""
    ANY_SHARD = "any_shard"
    """The command has no key and goes to one primary, always the same."""
    SESSION = "session"
    """The proxy answers the command itself; it never reaches a backend."""
    SPECIAL = "special"
    """The command goes to every primary, and its replies have a merge of their own."""
    MODE = "mode"
    """The command begins, ends or belongs to a state of the client, such as a transaction (``proxy.features.state``).
    """
    REFUSED = "refused"
    """The command makes no sense through a proxy: it is answered with an error and never reaches a backend."""
    SLOT = "slot"
    """The command goes to the shard of the slot that its first argument names."""
    SINGLE_SHARD = "single_shard"
    """The command concerns what each server has of its own (an index over its keys): it is refused when there are
    several shards, unless the servers of a cluster answer for each other."""
    UNCOVERED = "uncovered"
    """No fact decides where the command goes: it is refused when there are several shards."""


@dataclass(frozen=True, slots=True)
class BeginIndex:
    """The keys' arguments begin at a fixed position."""

    index: int


@dataclass(frozen=True, slots=True)
class BeginKeyword:
    """The keys' arguments begin after a keyword, searched from ``startfrom`` (negative: backwards from the end)."""

    keyword: bytes
    startfrom: int


@dataclass(frozen=True, slots=True)
class FindRange:
    """The keys are from the beginning to ``lastkey`` (relative to the beginning; negative: from the end), ``keystep``
    apart.

    With ``lastkey`` -1 and ``limit`` n > 1 only the first 1/n of the remaining arguments are keys.
    """

    lastkey: int
    keystep: int
    limit: int


@dataclass(frozen=True, slots=True)
class FindKeynum:
    """An argument is the number of keys that follow; ``keynumidx`` and ``firstkey`` are relative to the beginning."""

    keynumidx: int
    firstkey: int
    keystep: int


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key specification; None where Redis says "unknown"."""

    begin: BeginIndex | BeginKeyword | None
    find: FindRange | FindKeynum | None
    flags: frozenset[str] = frozenset()
    notes: str = ""

    @property
    def is_key(self) -> bool:
        """False for arguments that are only hashed like keys (the channel of SPUBLISH)."""
        return "not_key" not in self.flags

    @property
    def complete(self) -> bool:
        """Whether the spec finds every key that it describes."""
        return self.begin is not None and self.find is not None and not self.flags & NOT_SAID


@dataclass(frozen=True, slots=True)
class Fact:
    """The facts of a command or subcommand, and the decision for it.

    ``name`` is lower case, "config|get" for a subcommand; categories have no "@". ``subcommands`` has lower-case bytes
    without the container's name as keys. ``reason`` is set by an override.
    """

    name: str
    arity: int
    flags: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    tips: tuple[str, ...] = ()
    key_specs: tuple[KeySpec, ...] = ()
    subcommands: Mapping[bytes, Fact] = field(default_factory=lambda: NO_SUBCOMMANDS)
    handling: Handling = Handling.UNCOVERED
    merge: str | None = None
    reason: str = ""
    getkeys: GetKeys | None = None
    """A function that finds the keys if the specs can not; set by an override."""
    primary_only: bool = False
    """Whether a read must go to the primary, because each server answers it differently; set by an override."""
    privileged: bool = False
    """Whether only users with ``admin = true`` may run the command; set by an override."""
    for_admins: Fact | None = None
    """The fact by which a refused command is carried out for users with ``admin = true``; None if it is refused too."""
    coordinated: bool = False
    """Whether each node of a Redis Cluster answers for all nodes; else such a command is for a single shard."""
    key_range: tuple[int, int, int] | None = field(init=False, compare=False)
    """(first, last, step) if the keys are one plain range; a negative last counts from the end (-1 is the last)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_range", _key_range(self))

    @property
    def readonly(self) -> bool:
        return "readonly" in self.flags and "write" not in self.flags

    @property
    def write(self) -> bool:
        return "write" in self.flags

    @property
    def blocking(self) -> bool:
        """Whether the command may block; ``keys.blocks`` tells whether it does with given arguments."""
        return "blocking" in self.flags

    @property
    def scripting(self) -> bool:
        """Whether the command belongs to scripts or functions."""
        return "scripting" in self.categories

    @property
    def movable_keys(self) -> bool:
        return "movablekeys" in self.flags

    @property
    def keyed(self) -> bool:
        """Whether the command takes keys that can be found."""
        return self.getkeys is not None or any(spec.is_key for spec in self.key_specs)

    @property
    def replica_ok(self) -> bool:
        """Whether a replica may answer the command (PRODUCT.md, section 3)."""
        return self.readonly and not self.primary_only

    @property
    def request_policy(self) -> str | None:
        return policy(self.tips, "request_policy")

    @property
    def response_policy(self) -> str | None:
        return policy(self.tips, "response_policy")

    def accepts(self, count: int) -> bool:
        """Whether ``count`` arguments, the name included, fit the arity."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity


@dataclass(frozen=True, slots=True)
class Override:
    """A correction that takes precedence over a command's facts; an entry of ``overrides``.

    ``getkeys`` finds the keys if the specs can not; ``keys`` replaces the specs that a server gives.
    """

    handling: Handling
    merge: str | None
    reason: str
    getkeys: GetKeys | None = None
    keys: tuple[KeySpec, ...] | None = None


def same(handling: Handling, reason: str, *names: str) -> dict[str, Override]:
    """The same override for each of ``names``."""
    return {name: Override(handling, None, reason) for name in names}


def policy(tips: Sequence[str], kind: str) -> str | None:
    """The value of the tip "<kind>:<value>"."""
    prefix = kind + ":"
    return next((tip[len(prefix) :] for tip in tips if tip.startswith(prefix)), None)


def _key_range(fact: Fact) -> tuple[int, int, int] | None:
    specs = [spec for spec in fact.key_specs if spec.is_key]
    if fact.getkeys is not None or len(specs) != 1 or not specs[0].complete:
        return None
    begin, find = specs[0].begin, specs[0].find
    if not isinstance(begin, BeginIndex) or not isinstance(find, FindRange) or find.limit > 1:
        return None
    last = find.lastkey if find.lastkey < 0 else begin.index + find.lastkey
    return begin.index, last, find.keystep
