"""What changes when the configuration is read again: which keys differ, and from when on the new values hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from proxy.config.model import Config

Effect = Literal["at once", "for new connections", "after a restart"]

AT_ONCE = frozenset(
    {
        "users",
        "log.level",
        "drain_timeout",
        "backend.watch_timeout",
        "limits.auth_timeout",
        "limits.idle_timeout",
        "limits.request_read_timeout",
        "limits.max_prefixes_per_client",
        "limits.max_subscriptions_per_client",
        "limits.max_patterns_per_client",
        "limits.max_clients_per_user",
        "limits.max_command_rate_per_user",
        "limits.max_byte_rate_per_user",
        "limits.max_in_flight_per_user",
        "limits.on_limit",
    }
)
"""The keys whose new values hold for everything from the reload on."""
FOR_NEW_CONNECTIONS = frozenset(
    {
        "backend.username",
        "backend.password",
        "backend.password_env",
        "backend.password_file",
        "limits.auth_bytes",
        "limits.auth_commands",
        "limits.max_clients_per_address",
        "limits.max_connection_rate",
        "limits.max_command_rate_per_address",
        "limits.max_byte_rate_per_address",
    }
)
"""The keys whose new values hold for connections that are made later. All other keys hold from the next start on."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value differs."""

    key: str
    effect: Effect


def effect_of(key: str) -> Effect:
    """Return from when on a new value of ``key`` (``log.level``, ``users``) holds."""
    if key in AT_ONCE:
        return "at once"
    return "for new connections" if key in FOR_NEW_CONNECTIONS else "after a restart"


def keys(config: Config) -> Iterator[tuple[str, object]]:
    """Yield the keys of the top of the file and of its tables, with their values. A list of tables is one key."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from ((f"{name}.{key}", getattr(value, key)) for key in type(value).model_fields)
        else:
            yield name, value


def changes(before: Config, after: Config) -> list[Change]:
    """Return the keys whose values differ."""
    known = dict(keys(before))
    return [Change(key, effect_of(key)) for key, value in keys(after) if known[key] != value]


def in_use(before: Config, after: Config) -> Config:
    """Return the configuration after a reload: ``before``, with those values of ``after`` that need no restart."""
    update: dict[str, object] = {}
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, BaseModel):
            fields = {
                key: getattr(new, key)
                for key in type(old).model_fields
                if effect_of(f"{name}.{key}") != "after a restart"
            }
            if fields:
                update[name] = old.model_copy(update=fields)
        elif effect_of(name) != "after a restart":
            update[name] = new
    return before.model_copy(update=update)
