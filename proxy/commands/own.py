"""The facts of the proxy's own commands, in the structure of Redis's facts."""

from __future__ import annotations

from proxy.commands.facts import Fact

_FLAGS = frozenset({"admin", "noscript", "loading", "stale"})
_CATEGORIES = frozenset({"admin", "slow", "dangerous"})

_ARITIES = {"nodes": 2, "where": -3, "send": -4, "clients": 2, "config": -2, "reload": -2, "scripts": -2, "help": 2}


def _fact(name: str, arity: int) -> Fact:
    return Fact(f"slotgate|{name}", arity, _FLAGS, _CATEGORIES)


OWN = (
    Fact(
        "slotgate",
        -2,
        _FLAGS,
        _CATEGORIES,
        subcommands={name.encode(): _fact(name, arity) for name, arity in _ARITIES.items()},
    ),
)
"""The subcommands of SLOTGATE, for users with ``admin = true``."""
