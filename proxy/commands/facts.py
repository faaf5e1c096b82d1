"""Facts about commands, shaped as Redis's COMMAND reply gives them, and the decision taken from them.

Source: https://redis.io/docs/latest/commands/command/, .../develop/reference/key-specs/ and .../command-tips/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

GetKeys = Callable[[Sequence[bytes]], list[int]]
"""From a whole command (its name first) to the positions of its keys; raises ``keys.KeysError``."""

NOT_SAID = frozenset({"unknown", "incomplete"})
NO_SUBCOMMANDS: Mapping[bytes, Fact] = MappingProxyType({})


class Handling(Enum):
    """What the proxy does with a command, decided once for each fact."""

    KEYED = "keyed"
    """To the shard of its keys' slot."""
    MULTI_SHARD = "multi_shard"
    """Split by slot or shard, the parts' replies merged."""
    ALL_SHARDS = "all_shards"
    """To every primary, merged."""
    ALL_NODES = "all_nodes"
    """To every primary and replica, merged."""
    ANY_SHARD = "any_shard"
    """Keyless: to one primary, always the same."""
    SESSION = "session"
    """The proxy's own answer; never reaches a backend."""
    SPECIAL = "special"
    """To every primary, with a merge that knows this command."""
    MODE = "mode"
    """Begins, ends or belongs to what a client is in the middle of (``proxy.features.state``): a transaction, a block
    ..."""
    REFUSED = "refused"
    """Makes no sense through a proxy: an error; never reaches a backend."""
    SLOT = "slot"
    """To the shard of the slot that its first argument names."""
    SINGLE_SHARD = "single_shard"
    """About what each server has of its own (an index over its keys): refused when there are several shards, unless the
    servers of a cluster answer for each other."""
    UNCOVERED = "uncovered"
    """No fact says where it goes: refused when there are several shards."""


@dataclass(frozen=True, slots=True)
class BeginIndex:
    """The keys' arguments begin at a fixed position."""

    index: int


@dataclass(frozen=True, slots=True)
class BeginKeyword:
    """They begin after a keyword, searched from ``startfrom`` (negative: from the end, backwards)."""

    keyword: bytes
    startfrom: int


@dataclass(frozen=True, slots=True)
class FindRange:
    """Keys from the beginning to ``lastkey`` (relative to it; negative: to the end), ``keystep`` apart.

    With ``lastkey`` -1 and ``limit`` n > 1 only the first 1/n of the remaining arguments are keys.
    """

    lastkey: int
    keystep: int
    limit: int


@dataclass(frozen=True, slots=True)
class FindKeynum:
    """An argument says how many keys follow; ``keynumidx`` and ``firstkey`` are relative to the beginning."""

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
        """False for what is only hashed like a key (the channels of SPUBLISH)."""
        return "not_key" not in self.flags

    @property
    def complete(self) -> bool:
        """Whether it finds every key that it stands for."""
        return self.begin is not None and self.find is not None and not self.flags & NOT_SAID


@dataclass(frozen=True, slots=True)
class Fact:
    """A command or subcommand. ``name`` is lower case, "config|get" for a subcommand; categories have no "@".

    The subcommands' keys are lower-case bytes without the container's name. ``reason`` is set by an override.
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
    """Finds the keys where the specs can not; from an override."""
    primary_only: bool = False
    """A read whose answer is the server's own; from an override."""
    privileged: bool = False
    """For users with ``admin = true`` only; from an override."""
    for_admins: Fact | None = None
    """As what it is carried out for users with ``admin = true``, where others are refused it."""
    coordinated: bool = False
    """Whether each node of a Redis Cluster answers for all of them; of what is for a single shard otherwise."""
    key_range: tuple[int, int, int] | None = field(init=False, compare=False)
    """(first, last, step) if the keys lie in one plain range; a negative last counts from the end (-1 is the last)."""

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
        """May block; ``keys.blocks`` says whether it does with given arguments."""
        return "blocking" in self.flags

    @property
    def scripting(self) -> bool:
        """Of scripts or functions."""
        return "scripting" in self.categories

    @property
    def movable_keys(self) -> bool:
        return "movablekeys" in self.flags

    @property
    def keyed(self) -> bool:
        """Whether it takes keys that can be found."""
        return self.getkeys is not None or any(spec.is_key for spec in self.key_specs)

    @property
    def replica_ok(self) -> bool:
        """Whether a replica may answer it (PRODUCT.md, section 3)."""
        return self.readonly and not self.primary_only

    @property
    def request_policy(self) -> str | None:
        return policy(self.tips, "request_policy")

    @property
    def response_policy(self) -> str | None:
        return policy(self.tips, "response_policy")

    def accepts(self, count: int) -> bool:
        """Whether ``count`` arguments (the name among them) fit the arity."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity


@dataclass(frozen=True, slots=True)
class Override:
    """What stands above a command's own facts; an entry of ``overrides``.

    ``getkeys`` finds the keys where specs can not; ``keys`` are the specs in place of those that a server tells.
    """

    handling: Handling
    merge: str | None
    reason: str
    getkeys: GetKeys | None = None
    keys: tuple[KeySpec, ...] | None = None


def same(handling: Handling, reason: str, *names: str) -> dict[str, Override]:
    """The same entry for each of ``names``."""
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
