"""Passwords and tokens: given in the configuration file, or named there and read from the environment or another
file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

PASSWORD_KEYS = ("password", "password_env", "password_file", "password_sha256")
TOKEN_KEYS = ("token", "token_env", "token_file", "token_sha256")


@dataclass(frozen=True, slots=True)
class LoadContext:
    """The environment and the folder in which the variables and files that a configuration names are looked up."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: Path = Path()


class Problems(ValueError):
    """Several problems of one table. Each is a pair: the key in the table ("" for the table itself), and the words."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{key}: {words}" for key, words in problems))


def given_keys(section: object, keys: Sequence[str] = PASSWORD_KEYS) -> list[str]:
    """Return those of ``keys`` that a table sets."""
    return [key for key in keys if getattr(section, key, None) not in (None, ())]


def full_path(name: str, context: object) -> Path:
    """Return the full path of the file ``name``. A relative name starts at the configuration's folder."""
    around = context if isinstance(context, LoadContext) else LoadContext()
    return (around.folder / name).absolute()


def read_secret(section: object, context: object, keys: Sequence[str] = PASSWORD_KEYS) -> str | None:
    """Return the password, or the secret of other ``keys``, that a table gives or names; None if it does neither.

    ``context`` is the LoadContext; without a context the process's environment and folder are used. Raises Problems.
    """
    around = context if isinstance(context, LoadContext) else LoadContext()
    given = given_keys(section, keys)
    if len(given) > 1:
        raise Problems((given[1], f"is one {keys[0]} key too many beside {given[0]}: keep one of them"))
    plain, variable, file = (getattr(section, key) for key in keys[:3])
    if plain is not None:
        return _not_empty(plain.get_secret_value(), keys[0], "is empty: leave it out, or set it")
    if variable is not None:
        return _from_environment(keys[1], variable, around)
    if file is not None:
        return _from_file(keys[2], file, around)
    return None


def keep_hash(section: object, context: object, keys: Sequence[str] = PASSWORD_KEYS) -> None:
    """Replace the secret of a section, if ``read_secret`` finds one: the last of ``keys`` gets its SHA-256, and the
    first, which holds the plain secret, becomes None, because nothing needs the plain secret again."""
    secret = read_secret(section, context, keys)
    if secret is not None:
        object.__setattr__(section, keys[-1], (SecretStr(hashlib.sha256(secret.encode()).hexdigest()),))
        object.__setattr__(section, keys[0], None)


def _from_environment(key: str, name: str, around: LoadContext) -> str:
    if name not in around.environ:
        raise Problems((key, f"names the environment variable {name}, which is not set: set it"))
    secret = around.environ[name]
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise Problems((key, f"names the environment variable {name}, which is not UTF-8 text")) from None
    return _not_empty(secret, key, f"names the environment variable {name}, which is empty")


def _from_file(key: str, name: str, around: LoadContext) -> str:
    path = around.folder / name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Problems((key, f"names {path}, which can not be read: {error.strerror}")) from None
    except ValueError:
        raise Problems((key, f"names {path}, which is not UTF-8 text")) from None
    # Editors end a file with a newline, which is not part of the password.
    return _not_empty(text.rstrip("\r\n"), key, f"names {path}, which is empty")


def _not_empty(secret: str, key: str, words: str) -> str:
    if not secret:
        raise Problems((key, words))
    return secret
