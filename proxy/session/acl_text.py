"""The texts of servers about users: ACL LIST, ACL GETUSER, and the errors of a denied command. Pure.

Servers of different versions describe the same rules in different words; a ``Dialect`` says how.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import partial

from proxy import errors
from proxy.commands.categories import CATEGORIES, FUTURE, CommandSet
from proxy.commands.facts import Fact
from proxy.commands.key_access import READ, WRITE
from proxy.resp import encode
from proxy.session.acl_check import AllowedCommands, Denial, Reason, allowed_commands
from proxy.session.acl_rules import AclUser, KeyPattern, Selector

_PLAIN = frozenset(range(33, 127)) - frozenset(b"\"'\\)")
"""The bytes that a word of a selector may have without quotes."""
_SIGNS = {READ | WRITE: b"~", READ: b"%R~", WRITE: b"%W~"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """The way in which a server's version describes users."""

    keeps_rules: bool
    """Whether the server shows the command rules as they were written, and not equivalent rules that it computes."""
    sanitizes: bool
    """Whether a new user has "sanitize-payload"."""
    names_user: bool
    """Whether errors name the user."""
    numbers_log: bool
    """Whether entries of ACL LOG have a number and times."""
    exact: bool = False
    """Whether the description, read as rules, gives the same user. Servers show some rules as others are written."""


REDIS_7_0 = Dialect(keeps_rules=False, sanitizes=False, names_user=False, numbers_log=False)
REDIS_7_2 = Dialect(keeps_rules=True, sanitizes=True, names_user=True, numbers_log=True)

EXACT = Dialect(keeps_rules=True, sanitizes=False, names_user=True, numbers_log=True, exact=True)
"""The proxy's own dialect, in which workers tell each other about users, and in which an aclfile is written."""


def dialect_of(version: str) -> Dialect:
    """Return the dialect of the servers' Redis version ("7.0.15")."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if major.isdecimal() and minor.isdecimal() and (int(major), int(minor)) >= (7, 2):
        return REDIS_7_2
    return REDIS_7_0


class Describing:
    """Describes users in one dialect; ``commands`` are those that the rules are about."""

    __slots__ = ("commands", "dialect")

    def __init__(self, commands: CommandSet, dialect: Dialect) -> None:
        self.commands = commands
        self.dialect = dialect

    def __repr__(self) -> str:
        return f"Describing({self.dialect})"

    def user(self, user: AclUser) -> bytes:
        """Return the user's rules in one line, which SETUSER accepts."""
        return b" ".join(self.rules(user))

    def rules(self, user: AclUser) -> list[bytes]:
        """Return the user's rules one by one; each selector is one rule."""
        found = [flag.encode() for flag in self.flags(user)]
        found += (b"#" + digest.encode() for digest in user.digests)
        root, *others = (self._selector(selector) for selector in user.selectors)
        quoted = (map(_quoted, other) if self.dialect.exact else other for other in others)
        return [*found, *root, *(b"(" + b" ".join(other) + b")" for other in quoted)]

    def line(self, user: AclUser) -> bytes:
        """Return the line of the user in ACL LIST and in an aclfile."""
        return b"user " + name_bytes(user.name) + b" " + self.user(user)

    def getuser(self, user: AclUser, protocol: int) -> bytes:
        """Return the reply to ACL GETUSER."""
        root, *others = user.selectors
        fields = {
            encode.bulk("flags"): encode.set_of(map(encode.bulk, self.flags(user)), protocol),
            encode.bulk("passwords"): encode.array(map(encode.bulk, user.digests)),
            **self._selector_fields(root),
            encode.bulk("selectors"): encode.array(
                encode.mapping(self._selector_fields(selector), protocol) for selector in others
            ),
        }
        return encode.mapping(fields, protocol)

    def flags(self, user: AclUser) -> list[str]:
        """Return the user's flags, in the order in which servers list them."""
        flags = ["on" if user.enabled else "off"]
        if user.nopass:
            flags.append("nopass")
        sanitize = user.sanitize if user.sanitize is not None else self.dialect.sanitizes or None
        if sanitize is not None:
            flags.append("sanitize-payload" if sanitize else "skip-sanitize-payload")
        return flags

    def _selector(self, selector: Selector) -> list[bytes]:
        words = [b"~*"] if selector.all_keys else [self._key_words(pattern) for pattern in selector.keys]
        if selector.all_channels:
            words.append(b"&*")
        else:
            words += (b"resetchannels", *(b"&" + channel for channel in selector.channels))
        return [*words, *self._command_rules(selector)]

    def _key_words(self, pattern: KeyPattern) -> bytes:
        """Return a key pattern as a rule. "~*" is a flag when it is read, behind which no pattern may follow."""
        words = key_words(pattern)
        return b"%RW~*" if words == b"~*" and self.dialect.exact else words

    def _selector_fields(self, selector: Selector) -> dict[bytes, bytes]:
        keys = [b"~*"] if selector.all_keys else [key_words(pattern) for pattern in selector.keys]
        channels = [b"&*"] if selector.all_channels else [b"&" + channel for channel in selector.channels]
        return {
            encode.bulk("commands"): encode.bulk(self.command_rules(selector)),
            encode.bulk("keys"): encode.bulk(b" ".join(keys)),
            encode.bulk("channels"): encode.bulk(b" ".join(channels)),
        }

    def command_rules(self, selector: Selector) -> bytes:
        """Return the rules about commands alone, beginning with +@all or -@all."""
        return b" ".join(self._command_rules(selector))

    def _command_rules(self, selector: Selector) -> list[bytes]:
        if self.dialect.exact:
            rules = [rule.written for rule in selector.rules]
        elif self.dialect.keeps_rules:
            rules = [str(rule) for rule in selector.rules]
        else:
            named = {rule.name for rule in selector.rules}
            rules = shortest_rules(allowed_commands(selector, self.commands), self.commands, named)
        return [rule.encode("latin-1") for rule in ("+@all" if selector.future else "-@all", *rules)]

    def refusal(self, user: str, denial: Denial, fact: Fact) -> str:
        """Return the error reply to a command that a user may not run."""
        if not self.dialect.names_user:
            if denial.reason is Reason.COMMAND:
                return errors.no_permission(fact.name)
            what = "keys" if denial.reason is Reason.KEY else "channels"
            return f"NOPERM this user has no permissions to access one of the {what} used as arguments"
        if denial.reason is Reason.COMMAND:
            return f"NOPERM {_of_user(user)} has no permissions to run the '{fact.name}' command"
        return f"NOPERM No permissions to access a {'key' if denial.reason is Reason.KEY else 'channel'}"

    def dry_run(self, user: AclUser, denial: Denial, fact: Fact, args: Sequence[bytes]) -> bytes:
        """Return the reply to DRYRUN for ``args``, which the user may not run."""
        who = _of_user(user.name) if self.dialect.names_user else "This user"
        if denial.reason is Reason.COMMAND:
            text = f"{who} has no permissions to run the '{fact.name}' command"
        else:
            kind = "key" if denial.reason is Reason.KEY else "channel"
            text = f"{who} has no permissions to access the '{errors.text(args[denial.position])}' {kind}"
        return encode.bulk(text.encode("latin-1", "replace"))

    def at_exec(self, user: str, denial: Denial, fact: Fact) -> str:
        """Return the reply, inside that of EXEC, to a queued command that the user may no longer run."""
        why = {
            Reason.COMMAND: "no permission to execute the command or subcommand",
            Reason.KEY: "no permission to touch the specified keys",
            Reason.CHANNEL: "no permission to access one of the channels used as arguments",
        }[denial.reason]
        return (
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
            f"This command is no longer allowed for the following reason: {why}"
        )


def name_bytes(name: str) -> bytes:
    """Return a user's name as clients send it."""
    return name.encode("utf-8", "surrogateescape")


def name_text(name: bytes) -> str:
    """Return a user's name as the proxy keeps it; every byte string can be converted."""
    return name.decode("utf-8", "surrogateescape")


def key_words(pattern: KeyPattern) -> bytes:
    """Return a key pattern as a rule."""
    return _SIGNS[pattern.access] + pattern.pattern


def _quoted(word: bytes) -> bytes:
    """Return a word of a selector as it has to be written there, so that it neither ends the selector nor begins a
    quote."""
    if _PLAIN.issuperset(word):
        return word
    return b'"%b"' % b"".join(b"%c" % byte if byte in _PLAIN else b"\\x%02x" % byte for byte in word)


def _of_user(name: str) -> str:
    return f"User {name_bytes(name).decode('latin-1')}"


def shortest_rules(allowed: AllowedCommands, commands: CommandSet, named: Container[str] = ()) -> list[str]:
    """Return rules that are equivalent to ``allowed``, as Redis 7.0 computes them: categories, then commands.

    The category with the fewest exceptions comes first; among equals, the largest. Its commands no longer count when
    the next category is chosen. A command that Redis 7.0 does not know is shown only if it is among ``named``.
    """
    additive = not allowed.bits & FUTURE
    shown = 0 if additive else commands.everything
    remaining = allowed.bits
    applied: list[str] = []
    while True:
        best = min(filter(None, map(partial(_fit, remaining, additive, commands, applied), CATEGORIES)), default=None)
        if best is None:
            break
        name = CATEGORIES[best[2]]
        members = commands.category[name]
        shown, remaining = (
            (shown | members, remaining & ~members) if additive else (shown & ~members, remaining | members)
        )
        applied.append(name)
    rules = [f"{'+' if additive else '-'}@{name}" for name in applied]
    for command in commands.names:
        bit = commands.bits[command]
        if bit & commands.newer and command not in named:
            continue
        if (allowed.bits ^ shown) & bit:
            group = commands.groups[command]
            shown = shown | group if allowed.bits & bit else shown & ~group
            rules.append(("+" if allowed.bits & bit else "-") + command)
        if not allowed.bits & bit:
            rules += (f"+{command}|{first_arg}" for first_arg in allowed.first_args.get(command, ()))
    return rules


def _fit(
    remaining: int, additive: bool, commands: CommandSet, applied: Sequence[str], name: str
) -> tuple[int, int, int] | None:
    """Return how well a category fits: (exceptions, minus members, position in CATEGORIES); None if it does not fit."""
    members = commands.counted[name]
    on = (remaining & members).bit_count()
    off = members.bit_count() - on
    same, different = (on, off) if additive else (off, on)
    return None if name in applied or same <= different else (different, -same, CATEGORIES.index(name))
