"""The ``SLOTGATE_`` variables: every key of the file, with tables joined by ``__`` and lists as JSON.

``variables`` reads them; this module knows their names, and words the errors for others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.config.words import LISTS, TABLES, Problem, suggestion

PREFIX = "SLOTGATE_"

NAMES = frozenset(
    f"{PREFIX}{table}__{key}".upper() if table else f"{PREFIX}{key}".upper()
    for table, model in TABLES.items()
    if table not in LISTS
    for key in model.model_fields
)
"""The names of all variables that set a key."""

ENGINE = f"{PREFIX}ENGINE"
"""The variable that is read when the package is imported (``proxy.__init__``), so the file can not set it."""

FILE = f"{PREFIX}CONFIG"
"""The variable that names the file, unless ``-c`` does."""

# Kubernetes and Docker set these variables for a service called "slotgate"; they are not an operator's mistake.
_SERVICE_LINK = re.compile(
    f"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)"
)


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the keys that the variables set, in the structure of the file, and the problems of unreadable
    variables."""
    named = {name: value for name, value in environ.items() if name.upper() in NAMES}
    if not named:
        return {}, []
    from proxy.config.variables import Variables  # imported here because it takes a tenth of the time of a start

    source = Variables(named, PREFIX)
    data = source()
    for name, _ in source.problems:
        data.pop(name.removeprefix(PREFIX).lower(), None)
    return data, source.problems


def unknown_variables(environ: Mapping[str, str], meant: frozenset[str]) -> list[Problem]:
    """Return a problem for each ``SLOTGATE_`` variable without effect; ``meant`` are the variables of a
    password_env."""
    return [
        (name, _not_a_variable(name.upper()))
        for name in sorted(environ)
        if name.upper().startswith(PREFIX)
        and name.upper() not in NAMES
        and name not in meant
        and (name, environ[name]) != (ENGINE, "python")
        and name != FILE
        and not _SERVICE_LINK.fullmatch(name.upper())
    ]


def _not_a_variable(name: str) -> str:
    if name == ENGINE:
        return 'is not "python": say that to leave the compiled engine aside, or unset it'
    table = name.removeprefix(PREFIX).split("__")[0].lower()
    if table in LISTS and "__" in name:
        return f"sets nothing: the whole list is one variable, as JSON: {PREFIX}{table.upper()}='[{{...}}]'"
    close = suggestion(name, sorted({*NAMES, FILE}), PREFIX)
    return f"is not a variable of Slotgate{close}" if close else "is not a variable of Slotgate: unset it"


def variable_of(path: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable that set the key at ``path`` (``backend.backoff_min``, ``shards[1].slots``), or None."""
    keys = path.split("[")[0].split(".")
    present = {name.upper() for name in environ}
    candidates = ("__".join(keys[:count]).upper() for count in (2, 1))
    return next((f"{PREFIX}{name}" for name in candidates if f"{PREFIX}{name}" in present), None)


def file_named(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file that the environment names; None if it names none."""
    return Path(environ[FILE]) if environ.get(FILE) else None


def sets_topology(environ: Mapping[str, str]) -> bool:
    """Whether the environment sets the shards, or the way to find them."""
    tables = tuple(f"{PREFIX}{table}" for table in ("SHARDS", "TOPOLOGY", "CLUSTER", "SENTINEL"))
    return any(name.upper().startswith(tables) for name in environ)
