"""The configuration in use as names and values for people to read, without secrets."""

from collections.abc import Iterator

from pydantic import BaseModel

from proxy.config import Config

SECRET = frozenset(
    {"backend_password", "password", "password_sha256", "password_hash", "rules", "token", "token_sha256"}
)


def settings(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the keys with their values, such as ``backend.request_timeout`` ``15.0``; in lists, ``shards[0].primary``.

    Durations are in seconds, sizes in bytes. Passwords, tokens and their hashes are left out.
    """
    return _of_table("", config)


def _of_table(prefix: str, table: BaseModel) -> Iterator[tuple[str, str]]:
    for name in type(table).model_fields:
        if name not in SECRET:
            yield from _of_value(f"{prefix}{name}", getattr(table, name))


def _of_value(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        yield from _of_table(f"{name}.", value)
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        for index, each in enumerate(value):
            yield from _of_value(f"{name}[{index}]", each)
    else:
        yield name, words(value)


def words(value: object) -> str:
    """Return a value that is no table as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(
            f"{item[0]}-{item[1]}" if isinstance(item, tuple) and len(item) == 2 else str(item) for item in value
        )
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)
