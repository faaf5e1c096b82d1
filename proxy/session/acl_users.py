"""All users, and the aclfile that may hold them. Pure: files are read and written elsewhere.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/#use-an-external-acl-file
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from proxy import errors
from proxy.commands.categories import CommandSet
from proxy.session.acl_check import Permissions
from proxy.session.acl_rules import (
    AclUser,
    RuleError,
    UnmatchedParenthesis,
    apply,
    change,
    merge_selectors,
    valid_username,
)
from proxy.session.acl_text import EXACT, REDIS_7_2, Describing, Dialect, name_bytes, name_text
from proxy.session.audit_rules import AuditRules
from proxy.session.passwords import Passwords, filled, fillers, is_scrypt

DEFAULT = "default"
_BLANKS = b" \t\r\n"
_UNCHANGED = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
_BAD_NAME = "ERR Usernames can't contain spaces or null characters"


class AclFileError(errors.SlotgateError):
    """Raised for an aclfile that can not be used. The text is Redis's, in one line."""


class UsersFile(Protocol):
    """The aclfile, which may hold the users."""

    path: str

    def read(self) -> bytes:
        """Return the text of the file. Raises OSError."""

    def write(self, text: bytes) -> None:
        """Replace the whole file. Raises OSError."""


class Users:
    """The users by name, each with its rules prepared for checks."""

    __slots__ = (
        "_audit",
        "_by_name",
        "_most",
        "commands",
        "default_nopass",
        "default_open",
        "default_plain",
        "describing",
        "passwords",
        "slow",
    )

    def __init__(self, commands: CommandSet, users: Iterable[AclUser] = (), dialect: Dialect = REDIS_7_2) -> None:
        self.commands = commands
        self.describing = Describing(commands, dialect)
        self.passwords = Passwords()
        self.slow = ""
        """A digest that takes long to compute, if any user has one; else empty."""
        self.default_nopass = self.default_open = self.default_plain = False
        """``default_nopass``: whether "default" needs no password. ``default_open``: whether a new client is logged in
        as "default". ``default_plain``: whether such a client may also send everything over the fast paths without a
        check."""
        self._audit: AuditRules | None = None
        self._by_name: dict[str, Permissions] = {}
        self._most: dict[str, list[str]] | None = None
        """The most digests of each kind that a user has, with which every login takes the same time; None if the users
        have changed since."""
        self.replace_all(users)

    def __repr__(self) -> str:
        return f"<Users: {', '.join(self._by_name)}>"

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[AclUser]:
        """Iterate in the order in which servers list users: by the bytes of the names."""
        for name in sorted(self._by_name, key=name_bytes):
            yield self._by_name[name].user

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Permissions | None:
        """Return the permissions of the user; None if there is no such user."""
        return self._by_name.get(name)

    def audit_by(self, rules: AuditRules) -> None:
        """Have the commands of the users recorded as ``rules`` say."""
        self._audit = rules
        self.replace_all([known.user for known in self._by_name.values()])

    def learn(self, commands: CommandSet, dialect: Dialect) -> None:
        """Use the commands and the dialect of the connected servers."""
        self.commands = commands
        self.describing = Describing(commands, dialect)
        self.replace_all([known.user for known in self._by_name.values()])

    def put(self, user: AclUser) -> None:
        """Add a user, or replace the user of that name."""
        audited = 0 if self._audit is None else self._audit.commands_of(user.name, self.commands)
        known = self._by_name[user.name] = Permissions(user, self.commands, audited)
        self._most = None
        self.slow = next(filter(is_scrypt, user.digests), self.slow)
        if user.name == DEFAULT:
            self.default_nopass = user.nopass
            self.default_open = user.nopass and user.enabled
            self.default_plain = self.default_open and known.unrestricted

    def remove(self, names: Iterable[str]) -> list[str]:
        """Delete users, and return the names of those that existed."""
        self._most = None
        return [name for name in dict.fromkeys(names) if self._by_name.pop(name, None) is not None]

    def replace_all(self, users: Iterable[AclUser]) -> None:
        """Replace all users. There is always a "default"; if it is not among ``users``, it can not log in."""
        self._by_name = {}
        for user in (AclUser(DEFAULT), *users):
            self.put(user)

    def changed(self, name: bytes, rules: Sequence[bytes]) -> AclUser | str:
        """Return the user ``name`` (new, or existing) after ``rules``, or the error reply to the rules."""
        if not valid_username(name):
            return _BAD_NAME
        known = self._by_name.get(name_text(name))
        user = AclUser(name_text(name)) if known is None else known.user
        try:
            return change(user, rules, self.commands)
        except RuleError as error:
            return f"ERR Error in ACL SETUSER modifier '{errors.text(error.rule)}': {error.why}"
        except UnmatchedParenthesis as error:
            return f"ERR {error}"

    def authenticate(self, name: str, password: bytes) -> bool | None:
        """Whether ``password`` is that of an enabled user; None if ``slow_digests`` have to be verified first.

        The time is the same whether the user exists or not, and however many digests the user has.
        """
        known = self._by_name.get(name)
        digests = () if known is None else known.user.digests
        accepted = self.passwords.fast(digests, password, self._filled(digests)[len(digests) :])
        if known is not None and known.user.enabled and (known.user.nopass or accepted):
            return True
        return None if self.slow else False

    def slow_digests(self, name: str) -> list[str]:
        """Return the scrypt digests with which a user's password has to be verified, and others behind them, so that
        the verification takes as long for every name. (A password that another user's digest accepts is no help.)"""
        known = self._by_name.get(name)
        own = () if known is None or not known.user.enabled else known.user.digests
        return [*filter(is_scrypt, self._filled(own))] or [self.slow]

    def _filled(self, digests: Collection[str]) -> list[str]:
        """Return ``digests``, and as many of other users as it takes to verify as many for every name."""
        if self._most is None:
            self._most = fillers(known.user.digests for known in self._by_name.values())
        return filled(digests, self._most)

    def file(self) -> bytes:
        """Return all users as text of an aclfile; the loaded file gives the same users."""
        describing = Describing(self.commands, EXACT)
        return b"".join(describing.line(user) + b"\n" for user in self)


def lost_channels(old: AclUser, new: AclUser) -> bool:
    """Whether a client of the user may lose a subscription when ``old`` becomes ``new``: judged by the patterns, as in
    Redis."""
    if any(selector.all_channels for selector in new.selectors):
        return False
    kept = {channel for selector in new.selectors for channel in selector.channels}
    return any(selector.all_channels or not kept.issuperset(selector.channels) for selector in old.selectors)


def parse_file(text: bytes, path: str, commands: CommandSet) -> list[AclUser]:
    """Return the users of an aclfile's ``text``, all of them. Raises AclFileError, which names every problem."""
    users: dict[str, AclUser] = {}
    problems: list[str] = []
    for number, raw in enumerate(text.split(b"\n"), 1):
        line = raw.strip(_BLANKS)
        if line:
            problems += _parse_line(line.split(b" "), f"{path}:{number}", number, users, commands)
    if problems:
        raise AclFileError("".join(problems) + _UNCHANGED)
    return list(users.values())


def _parse_line(
    words: Sequence[bytes], place: str, number: int, users: dict[str, AclUser], commands: CommandSet
) -> list[str]:
    """Add the user of a line to ``users``, and return the problem with the line."""
    if words[0] != b"user" or len(words) < 2:
        return [f"{place} should start with user keyword followed by the username. "]
    name = errors.text(words[1])
    if not valid_username(words[1]):
        return [f"'{place}: username '{name}' contains invalid characters. "]
    user = AclUser(name_text(words[1]))
    if user.name in users:
        return [f"WARNING: Duplicate user '{name}' found on line {number}. "]
    users[user.name] = user
    try:
        rules = merge_selectors(words[2:])
    except UnmatchedParenthesis:
        return [f"{place}: Unmatched parenthesis in selector definition."]
    problems: list[str] = []
    told = False
    for rule in rules:
        try:
            user = apply(user, rule.strip(b"\t\r\n"), commands)
        except RuleError as error:
            if error.unknown:
                problems.append(f"{place}: Error in applying operation '{errors.text(error.rule)}': {error.why}. ")
            elif not told:
                told = True
                problems.append(f"{place}: {error.why}. ")
    users[user.name] = user
    return problems
