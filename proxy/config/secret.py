"""Passwords: given in the configuration file, or named there and read from the environment or another file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

PASSWORD_KEYS = ("password", "password_env", "password_file", "password_sha256")


@dataclass(frozen=True, slots=True)
class LoadContext:
    """The environment and the folder in which a configuration's names of variables and files are looked up."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: Path = Path()


class Problems(ValueError):
    """Several problems of one table, each (the key in the table, or "" for the table itself; words)."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{key}: {words}" for key, words in problems))


class HasPassword(Protocol):
    """A table with the password keys."""

    @property
    def password(self) -> SecretStr | None: ...
    @property
    def password_env(self) -> str | None: ...
    @property
    def password_file(self) -> str | None: ...


def given_keys(section: HasPassword) -> list[str]:
    """The password keys that a table sets."""
    return [key for key in PASSWORD_KEYS if getattr(section, key, None) not in (None, ())]


def full_path(name: str, context: object) -> Path:
    """The full path of the file ``name``; a relative one starts at the configuration's folder."""
    around = context if isinstance(context, LoadContext) else LoadContext()
    return (around.folder / name).absolute()


def read_secret(section: HasPassword, context: object) -> str | None:
    """The password that a table gives or names; None if it does neither.

    ``context`` is the LoadContext; without one the process's environment and folder are used. Raises Problems.
    """
    around = context if isinstance(context, LoadContext) else LoadContext()
    given = given_keys(section)
    if len(given) > 1:
        raise Problems((given[1], f"is one password key too many beside {given[0]}: keep one of them"))
    if section.password is not None:
        return _not_empty(section.password.get_secret_value(), "password", "is empty: leave it out, or set it")
    if section.password_env is not None:
        return _from_environment(section.password_env, around)
    if section.password_file is not None:
        return _from_file(section.password_file, around)
    return None


def _from_environment(name: str, around: LoadContext) -> str:
    if name not in around.environ:
        raise Problems(("password_env", f"names the environment variable {name}, which is not set: set it"))
    secret = around.environ[name]
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise Problems(("password_env", f"names the environment variable {name}, which is not UTF-8 text")) from None
    return _not_empty(secret, "password_env", f"names the environment variable {name}, which is empty")


def _from_file(name: str, around: LoadContext) -> str:
    path = around.folder / name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Problems(("password_file", f"names {path}, which can not be read: {error.strerror}")) from None
    except ValueError:
        raise Problems(("password_file", f"names {path}, which is not UTF-8 text")) from None
    # Editors end a file with a newline, which is not part of the password.
    return _not_empty(text.rstrip("\r\n"), "password_file", f"names {path}, which is empty")


def _not_empty(secret: str, key: str, words: str) -> str:
    if not secret:
        raise Problems((key, words))
    return secret
