"""Whether a user may run a command, by its rules: the command, its keys, its channels. Pure.

The decision is that of Redis's ACLCheckAllUserCommandPerm (src/acl.c). Keys that a script uses without declaring them
are not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from proxy import errors
from proxy.commands.categories import FUTURE, CommandSet
from proxy.commands.facts import Fact
from proxy.commands.getkeys import SORT_OPTIONS
from proxy.commands.key_access import READ, Span, key_access
from proxy.engine.jobs import MORE, Job, at_once
from proxy.resp.glob import literal_prefix, matches
from proxy.session.acl_rules import AclUser, Selector

_STEP = 16
"""The number of keys or channels that are checked before a job may be interrupted."""

_ALL = slice(1, None)
_FIRST = slice(1, 2)
_CHANNELS: Mapping[str, tuple[slice, bool]] = {
    "subscribe": (_ALL, False),
    "ssubscribe": (_ALL, False),
    "psubscribe": (_ALL, True),
    "publish": (_FIRST, False),
    "spublish": (_FIRST, False),
}
"""Commands with channels: the positions of the channels, and whether the channels are patterns."""


class Reason(IntEnum):
    """The permission that a user lacks. If the selectors lack different ones, the greatest is reported."""

    COMMAND = 1
    KEY = 2
    AUTH = 3
    CHANNEL = 4


@dataclass(frozen=True, slots=True)
class Denial:
    """The reason why a command is not allowed; ``position`` is that of the denied key or channel, else 0."""

    reason: Reason
    position: int = 0


@dataclass(frozen=True, slots=True)
class AllowedCommands:
    """The commands that a selector's rules allow, as bits of ``CommandSet``.

    ``first_args``: for commands that are allowed with certain first arguments only, these first arguments.
    """

    bits: int
    first_args: Mapping[str, tuple[str, ...]]


def allowed_commands(selector: Selector, commands: CommandSet) -> AllowedCommands:
    """Return the commands that the rules allow; the rules are applied one after the other."""
    bits = commands.everything if selector.future else 0
    first_args: dict[str, tuple[str, ...]] = {}
    for rule in selector.rules:
        if rule.first_arg is not None:
            name = rule.name.partition("|")[0]
            known = first_args.get(name, ())
            if rule.first_arg.lower() not in (arg.lower() for arg in known):
                first_args[name] = (*known, rule.first_arg)
            continue
        category = rule.name.startswith("@")
        changed = commands.category[rule.name[1:]] if category else commands.groups.get(rule.name, 0)
        bits = bits | changed if rule.allow else bits & ~changed
        for name in [name for name in first_args if commands.bits[name] & changed]:
            del first_args[name]
    return AllowedCommands(bits, first_args)


def bit_of(bits: Mapping[str, int], fact: Fact) -> int:
    """Return the bit of a command, or that of its container, or the bit of all commands that are not known."""
    return bits.get(fact.name) or bits.get(fact.name.partition("|")[0], FUTURE)


class Patterns:
    """Glob patterns of which one has to match. The usual pattern, a literal prefix and a star, is matched cheaply."""

    __slots__ = ("exact", "globs", "prefixes")

    def __init__(self, patterns: Iterable[bytes]) -> None:
        exact: set[bytes] = set()
        prefixes: list[bytes] = []
        self.globs: list[bytes] = []
        for pattern in patterns:
            prefix, whole = literal_prefix(pattern)
            if whole:
                exact.add(pattern)
            elif prefix and pattern == prefix + b"*":
                prefixes.append(prefix)
            else:
                self.globs.append(pattern)
        self.exact = frozenset(exact)
        self.prefixes = tuple(prefixes)

    def match(self, text: bytes) -> bool:
        """Whether one of the patterns matches ``text``."""
        if text in self.exact or text.startswith(self.prefixes):
            return True
        return any(matches(pattern, text) for pattern in self.globs)


class CompiledSelector:
    """A selector, prepared for checks."""

    __slots__ = ("_access", "all_commands", "allowed", "bits", "channels", "keys", "selector")

    def __init__(self, selector: Selector, commands: CommandSet) -> None:
        self.selector = selector
        self.bits = commands.bits
        self.allowed = allowed_commands(selector, commands)
        self.all_commands = selector.all_commands
        self.keys: Mapping[int, Patterns] = {
            access: Patterns(known.pattern for known in selector.keys if known.access & access == access)
            for access in range(4)
        }
        self.channels = Patterns(selector.channels)

    def __repr__(self) -> str:
        return f"CompiledSelector({self.selector})"

    def allows_command(self, fact: Fact, args: Sequence[bytes]) -> bool:
        """Whether the selector allows the command with any arguments, or with its first argument."""
        if self.all_commands or "no_auth" in fact.flags:
            return True
        if self.allowed.bits & bit_of(self.bits, fact):
            return True
        first_args = self.allowed.first_args.get(fact.name)
        if first_args is None or len(args) < 2:
            return False
        said = errors.text(args[1]).lower()
        return any(said == arg.lower() for arg in first_args)

    def reads_everything(self) -> bool:
        """Whether the selector allows reading every key, as the patterns of SORT require."""
        selector = self.selector
        return selector.all_keys or any(known.access & READ and known.pattern == b"*" for known in selector.keys)

    def checking_keys(self, spans: Sequence[Span], args: Sequence[bytes]) -> Job[int]:
        """Return the position of the first key that the selector denies with this access; 0 if all are allowed."""
        done = 0
        for positions, access in spans:
            match = self.keys[access].match
            for at in positions:
                if not match(args[at]):
                    return at
                done += 1
                if not done % _STEP:
                    yield MORE
        return 0

    def checking_channels(self, args: Sequence[bytes], which: slice, literal: bool) -> Job[int]:
        """Return the position of the first channel that the selector does not allow; 0 if all are allowed. ``literal``:
        the channels are patterns, each of which has to be among the rules literally."""
        known = self.selector.channels
        for at in range(*which.indices(len(args))):
            if not (args[at] in known if literal else self.channels.match(args[at])):
                return at
            if not at % _STEP:
                yield MORE
        return 0


class Permissions:
    """A user's rules, prepared for checks.

    ``unrestricted`` says that no command needs a check; ``keyed`` and ``own`` say so of the commands that
    ``CommandSet`` calls ``keyed`` and ``own``.
    """

    __slots__ = ("_allowed", "_bits", "audited", "keyed", "own", "selectors", "unrestricted", "user")

    def __init__(self, user: AclUser, commands: CommandSet, audited: int = 0) -> None:
        """``audited``: the commands that are recorded in the audit log when this user runs them, as bits of
        ``commands``. The fast paths do not record, so they do not carry out these commands."""
        self.user = user
        self.audited = audited
        self._bits = commands.bits
        self.unrestricted = self.keyed = self.own = user.unrestricted and not audited
        self.selectors: tuple[CompiledSelector, ...] = ()
        self._allowed: dict[str, bool] = {}
        """The results of ``allows``, by the command's name."""
        if not self.unrestricted:
            self.selectors = tuple(CompiledSelector(selector, commands) for selector in user.selectors)
            for compiled in self.selectors:
                bits = compiled.allowed.bits
                self.keyed = self.keyed or (compiled.selector.all_keys and not commands.keyed & ~bits)
                self.own = self.own or not commands.own & ~bits
            self.keyed = self.keyed and not audited & (commands.keyed | FUTURE)
            self.own = self.own and not audited  # the own fast path also queues commands in transactions

    def __repr__(self) -> str:
        return f"<Permissions of {self.user.name!r}>"

    def records(self, fact: Fact) -> bool:
        """Whether a call of the command may have to be recorded in the audit log."""
        audited = self.audited
        return bool(audited) and bool(audited & bit_of(self._bits, fact))

    def allows(self, fact: Fact) -> bool:
        """Whether the user may run a command without keys and channels, whatever its arguments are."""
        found = self._allowed.get(fact.name)
        if found is None:
            found = self.unrestricted or any(compiled.allows_command(fact, ()) for compiled in self.selectors)
            self._allowed[fact.name] = found
        return found

    def check(self, fact: Fact, args: Sequence[bytes]) -> Denial | None:
        """Return why the user may not run ``args``, else None. ``fact`` is the subcommand's; the arity is checked."""
        return None if self.unrestricted else at_once(self.checking(fact, args))

    def checking(self, fact: Fact, args: Sequence[bytes]) -> Job[Denial | None]:
        """Return the same as ``check``, as a job."""
        if self.unrestricted:
            return None
        spans: list[Span] | None = None
        worst = Denial(Reason.COMMAND)
        for compiled in self.selectors:
            found: Denial | None = None
            if not compiled.allows_command(fact, args):
                continue
            if not compiled.selector.all_keys and fact.keyed:
                spans = key_access(fact, args) if spans is None else spans
                position = yield from compiled.checking_keys(spans, args)
                found = Denial(Reason.KEY, position) if position else None
            channels = _CHANNELS.get(fact.name)
            if found is None and channels is not None and not compiled.selector.all_channels:
                position = yield from compiled.checking_channels(args, *channels)
                found = Denial(Reason.CHANNEL, position) if position else None
            if found is None:
                return None
            worst = max(worst, found, key=lambda denial: (denial.reason, denial.position))
        return worst

    def checking_sort(self, fact: Fact, args: Sequence[bytes]) -> Job[str]:
        """Return the option (BY, GET) that is denied of a SORT that is allowed otherwise; empty if there is none. The
        options make SORT read keys that are not known beforehand."""
        if self.unrestricted or fact.name not in ("sort", "sort_ro"):
            return ""
        for compiled in self.selectors:
            if compiled.reads_everything() and (yield from self._alone(compiled, fact, args)):
                return ""
        at = 2
        while at < len(args):
            name = args[at].lower()
            if at + 1 < len(args) and (name == b"get" or (name == b"by" and b"*" in args[at + 1])):
                return name.decode().upper()
            at += 1 + SORT_OPTIONS.get(name, 0)
            if not at % _STEP:
                yield MORE
        return ""

    def _alone(self, compiled: CompiledSelector, fact: Fact, args: Sequence[bytes]) -> Job[bool]:
        """Whether one selector allows a command by itself."""
        if not compiled.allows_command(fact, args):
            return False
        if compiled.selector.all_keys:
            return True
        return not (yield from compiled.checking_keys(key_access(fact, args), args))

    def allows_channel(self, channel: bytes, literal: bool) -> bool:
        """Whether any selector allows a subscription to a channel; ``literal`` says that the channel is a pattern."""
        return self.unrestricted or any(
            compiled.selector.all_channels
            or (channel in compiled.selector.channels if literal else compiled.channels.match(channel))
            for compiled in self.selectors
        )
