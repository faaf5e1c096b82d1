"""The rules of the audit log: which commands of which users are recorded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from proxy.commands.categories import CommandSet
from proxy.resp.glob import matches

ALLOWED, DENIED = "allowed", "denied"


@dataclass(frozen=True, slots=True)
class AuditRule:
    """One rule: what is left out matches everything. ``users`` are glob patterns of names, ``commands`` are names,
    subcommands (``config|set``) and categories (``@write``), ``keys`` are glob patterns."""

    users: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    keys: tuple[bytes, ...] = ()
    outcome: str = ""
    """``allowed`` or ``denied``; empty for both."""

    def about(self, user: str, outcome: str) -> bool:
        """Whether the rule is about this user and outcome."""
        if self.outcome not in ("", outcome):
            return False
        return not self.users or any(fnmatchcase(user, pattern) for pattern in self.users)

    def bits(self, commands: CommandSet) -> int:
        """Return the commands of the rule as bits of ``commands``."""
        if not self.commands:
            return commands.everything
        found = 0
        for name in self.commands:
            found |= commands.category.get(name[1:], 0) if name.startswith("@") else commands.groups.get(name, 0)
        return found

    def has_key(self, keys: Sequence[bytes]) -> bool:
        """Whether one of ``keys`` is a key of the rule."""
        return not self.keys or any(matches(pattern, key) for pattern in self.keys for key in keys)


class AuditRules:
    """All rules: a command is recorded if one of them matches."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[AuditRule]) -> None:
        self._rules = tuple(rules)

    def __repr__(self) -> str:
        return f"AuditRules({list(self._rules)})"

    def commands_of(self, user: str, commands: CommandSet) -> int:
        """Return the commands that may be recorded when ``user`` runs them, as bits of ``commands``."""
        found = 0
        for rule in self._rules:
            if rule.about(user, ALLOWED):
                found |= rule.bits(commands)
        return found

    def about(self, user: str, outcome: str, bit: int, commands: CommandSet) -> Iterator[AuditRule]:
        """Yield the rules by which a call of the command with ``bit`` is recorded, if it has one of the rule's keys."""
        for rule in self._rules:
            if rule.about(user, outcome) and rule.bits(commands) & bit:
                yield rule

    def login(self, user: str, outcome: str) -> bool:
        """Whether a login is recorded: by the rules that name no keys, and all commands or AUTH or its category."""
        return any(
            rule.about(user, outcome)
            and not rule.keys
            and (not rule.commands or not {"auth", "hello", "@connection", "@all"}.isdisjoint(rule.commands))
            for rule in self._rules
        )
