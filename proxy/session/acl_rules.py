"""Users, and the rules that define them, in Redis's ACL language. Pure; everything here is immutable.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/ and
the effect of each rule in Redis 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from proxy import errors
from proxy.commands.categories import CommandSet
from proxy.commands.key_access import READ, WRITE
from proxy.resp.requests import ProtocolError, split_inline
from proxy.session import passwords

_SPACES = frozenset(b" \t\n\v\f\r\0")
_UNKNOWN = "Unknown command or category name in ACL"
_SYNTAX = "Syntax error"
_FIRST_ARG = "Allowing first-arg of a subcommand is not supported"
_BAD_DIGEST = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
_NO_PASSWORD = "The password you are trying to remove from the user does not exist"
_AFTER_ALL = (
    "Adding a pattern after the * pattern (or the '{0}' flag) is not valid and does not have any effect. "
    "Try '{1}' to start with an empty list of {2}"
)
_KEYS_AFTER_ALL = _AFTER_ALL.format("allkeys", "resetkeys", "patterns")
_CHANNELS_AFTER_ALL = _AFTER_ALL.format("allchannels", "resetchannels", "channels")


class RuleError(errors.SlotgateError):
    """Raised for a rule that can not be applied: ``rule`` as it was written, ``why`` in Redis's words.

    ``unknown`` says that the rule names an unknown command or category.
    """

    def __init__(self, rule: bytes, why: str) -> None:
        self.rule = rule
        self.why = why
        self.unknown = why == _UNKNOWN
        super().__init__(f"{errors.text(rule)}: {why}")


class UnmatchedParenthesis(errors.SlotgateError):
    """Raised for a selector without an end; ``rule`` is the beginning of the selector."""

    def __init__(self, rule: bytes) -> None:
        self.rule = rule
        super().__init__(f"Unmatched parenthesis in acl selector starting at '{errors.text(rule)}'.")


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """Keys that a user may use, as a glob pattern; ``access`` is READ, WRITE or both."""

    pattern: bytes
    access: int


@dataclass(frozen=True, slots=True)
class CommandRule:
    """One rule about commands: ``name`` is "@read", "get", "config|get" or, with ``first_arg``, "select|0"."""

    allow: bool
    name: str
    first_arg: str | None = None
    """The name as it was written; ``name`` is in lower case."""

    def __str__(self) -> str:
        return ("+" if self.allow else "-") + self.name

    @property
    def written(self) -> str:
        """The rule as it has to be written to be the same."""
        return str(self) if self.first_arg is None else f"+{self.name.partition('|')[0]}|{self.first_arg}"


@dataclass(frozen=True, slots=True)
class Selector:
    """A set of permissions. A command is allowed if one selector grants everything that the command needs.

    ``future`` says whether the rules began with all commands, unknown ones included. ``rules`` are the later rules; a
    newer rule replaces an older one about the same command or category.
    """

    all_keys: bool = False
    keys: tuple[KeyPattern, ...] = ()
    all_channels: bool = False
    channels: tuple[bytes, ...] = ()
    future: bool = False
    rules: tuple[CommandRule, ...] = ()

    @property
    def all_commands(self) -> bool:
        """Whether the selector allows every command."""
        return self.future and all(rule.allow for rule in self.rules)


@dataclass(frozen=True, slots=True)
class AclUser:
    """A user. ``selectors`` begins with the root selector, which holds the rules outside of parentheses."""

    name: str
    enabled: bool = False
    nopass: bool = False
    digests: tuple[str, ...] = field(default=(), repr=False)
    selectors: tuple[Selector, ...] = (Selector(),)
    sanitize: bool | None = None
    """Whether the last such rule was "sanitize-payload" and not "skip-sanitize-payload"; None if there was neither.
    Only shown: checking the payloads of RESTORE is the servers' task."""
    admin: bool = True
    """Whether the user's rules alone decide. A user that is no admin may not run the commands about the proxy and its
    servers, whatever its rules say."""

    @property
    def unrestricted(self) -> bool:
        """Whether one selector allows every command with every key and channel."""
        return any(found.all_commands and found.all_keys and found.all_channels for found in self.selectors)


def everything(name: str) -> AclUser:
    """Return the user ``name`` that needs no password and may do everything, as "default" does unless configured."""
    return AclUser(name, True, True, (), (Selector(all_keys=True, all_channels=True, future=True),))


def valid_name(name: bytes) -> bool:
    """Whether a user, key pattern or channel pattern may have this name: without blanks and NUL."""
    return _SPACES.isdisjoint(name)


def valid_username(name: bytes) -> bool:
    """Whether a user may have this name: valid, and UTF-8, because names are text in CLIENT LIST, logs and metrics."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return valid_name(name)


def merge_selectors(rules: Sequence[bytes]) -> list[bytes]:
    """Return the rules, with each selector that was spread over several arguments put together. Raises
    UnmatchedParenthesis."""
    merged: list[bytes] = []
    parts: list[bytes] = []
    for rule in rules:
        if parts:
            parts.append(rule)
            if rule.endswith(b")"):
                merged.append(b" ".join(parts))
                parts = []
        elif rule.startswith(b"(") and not rule.endswith(b")"):
            parts = [rule]
        else:
            merged.append(rule)
    if parts:
        raise UnmatchedParenthesis(parts[0])
    return merged


def change(user: AclUser, rules: Sequence[bytes], commands: CommandSet) -> AclUser:
    """Return the user after ``rules``; all of them are applied, or none. Raises UnmatchedParenthesis, RuleError."""
    for rule in merge_selectors(rules):
        user = apply(user, rule, commands)
    return user


def apply(user: AclUser, rule: bytes, commands: CommandSet) -> AclUser:
    """Return the user after one rule. Raises RuleError."""
    word = rule.partition(b"\0")[0].lower()
    sign = rule[:1]
    if not rule:
        return user
    if word in (b"on", b"off"):
        return replace(user, enabled=word == b"on")
    if word in (b"sanitize-payload", b"skip-sanitize-payload"):
        return replace(user, sanitize=word == b"sanitize-payload")
    if word in (b"nopass", b"resetpass"):
        return replace(user, nopass=word == b"nopass", digests=())
    if sign in (b">", b"#"):
        digest = _digest(rule)
        return replace(user, nopass=False, digests=tuple(dict.fromkeys((*user.digests, digest))))
    if sign in (b"<", b"!"):
        digest = _digest(rule)
        if digest not in user.digests:
            raise RuleError(rule, _NO_PASSWORD)
        return replace(user, digests=tuple(known for known in user.digests if known != digest))
    if sign == b"(" and rule.endswith(b")"):
        return replace(user, selectors=(*user.selectors, _selector(rule, commands)))
    if word == b"clearselectors":
        return replace(user, selectors=user.selectors[:1])
    if word == b"reset":
        return AclUser(user.name, sanitize=True, admin=user.admin)
    root, *others = user.selectors
    return replace(user, selectors=(_change_selector(root, rule, commands), *others))


def _digest(rule: bytes) -> str:
    if rule[:1] in (b">", b"<"):
        return passwords.sha256(rule[1:])
    digest = rule[1:].decode("latin-1")
    if passwords.is_scrypt(digest):
        try:
            passwords.Scrypt.parse(digest)
        except ValueError as error:
            raise RuleError(rule, str(error)) from None
    elif not passwords.is_sha256(digest):
        raise RuleError(rule, _BAD_DIGEST)
    return digest


def _selector(rule: bytes, commands: CommandSet) -> Selector:
    """Parse a selector. A selector whose quotes do not end is empty, as in Redis."""
    selector = Selector()
    try:
        parts = split_inline(rule[1:-1].partition(b"\0")[0])
    except ProtocolError:
        return selector
    for part in parts:
        try:
            selector = _change_selector(selector, part, commands)
        except RuleError as error:
            raise RuleError(rule, error.why) from None
    return selector


def _change_selector(selector: Selector, rule: bytes, commands: CommandSet) -> Selector:
    word = rule.partition(b"\0")[0].lower()
    sign = rule[:1]
    if word in (b"allkeys", b"~*", b"resetkeys"):
        return replace(selector, all_keys=word != b"resetkeys", keys=())
    if word in (b"allchannels", b"&*", b"resetchannels"):
        return replace(selector, all_channels=word != b"resetchannels", channels=())
    if word in (b"allcommands", b"+@all", b"nocommands", b"-@all"):
        return replace(selector, future=word in (b"allcommands", b"+@all"), rules=())
    if sign in (b"~", b"%"):
        return _add_keys(selector, rule)
    if sign == b"&":
        if selector.all_channels:
            raise RuleError(rule, _CHANNELS_AFTER_ALL)
        if not valid_name(rule[1:]):
            raise RuleError(rule, _SYNTAX)
        return replace(selector, channels=tuple(dict.fromkeys((*selector.channels, rule[1:]))))
    if sign in (b"+", b"-"):
        return _add_rule(selector, _command_rule(rule, commands))
    raise RuleError(rule, _SYNTAX)


def _add_keys(selector: Selector, rule: bytes) -> Selector:
    if selector.all_keys:
        raise RuleError(rule, _KEYS_AFTER_ALL)
    letters, pattern = b"rw", rule[1:]
    if rule[:1] == b"%":
        letters, _, pattern = rule[1:].partition(b"~")
        letters = letters.lower()
        if not letters or len(set(letters)) < len(letters) or not set(letters) <= set(b"rw"):
            raise RuleError(rule, _SYNTAX)
    if not valid_name(pattern):
        raise RuleError(rule, _SYNTAX)
    access = (READ if b"r" in letters else 0) | (WRITE if b"w" in letters else 0)
    keys = {known.pattern: known.access for known in selector.keys}
    keys[pattern] = keys.get(pattern, 0) | access
    return replace(selector, keys=tuple(KeyPattern(*pair) for pair in keys.items()))


def _command_rule(rule: bytes, commands: CommandSet) -> CommandRule:
    text = errors.text(rule)
    allow, name = text[0] == "+", text[1:]
    if name.startswith("@"):
        if name[1:].lower() not in commands.category:
            raise RuleError(rule, _UNKNOWN)
        return CommandRule(allow, name.lower())
    known = commands.lookup(name)
    if known is not None:
        return CommandRule(allow, known)
    before, bar, first_arg = name.rpartition("|")
    container = commands.lookup(before) if allow and bar else None
    if container is None:
        raise RuleError(rule, _UNKNOWN)
    if "|" in container:
        raise RuleError(rule, _FIRST_ARG)
    if not first_arg:
        raise RuleError(rule, _SYNTAX)
    if container in commands.containers:
        raise RuleError(rule, _UNKNOWN)
    return CommandRule(True, f"{container}|{first_arg.lower()}", first_arg)


def _add_rule(selector: Selector, rule: CommandRule) -> Selector:
    """Add a rule. A rule about a command replaces the rules about its subcommands."""
    inside = rule.name + "|"
    kept = [known for known in selector.rules if known.name != rule.name and not known.name.startswith(inside)]
    return replace(selector, rules=(*kept, rule))
