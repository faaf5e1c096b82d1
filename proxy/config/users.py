"""The users of the configuration: ``[[users]]``."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, model_validator

from proxy.config.client_limits import OnLimit
from proxy.config.secret import PASSWORD_KEYS, Problems, keep_hash, read_secret
from proxy.config.section import Hash, Section, default, one_or_many
from proxy.config.values import Count, ReadFrom, Size


def _scrypt(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"scrypt(:[0-9a-fA-F]+){5}", value.get_secret_value()):
        raise ValueError("is not scrypt:<N>:<r>:<p>:<salt in hex>:<hash in hex>")
    return value


Scrypt = Annotated[SecretStr, AfterValidator(_scrypt)]

BACKEND_KEYS = ("backend_password", "backend_password_env", "backend_password_file")


class User(Section):
    """One table ``[[users]]``: a user of the proxy, and its rules. Passwords are kept as digests only."""

    name: str = Field(min_length=1, pattern=r"^[^\s\x00]+$", description="Required: the name that AUTH gives.")
    nopass: bool = default(False, "A user needs a password unless this is set.", strict=True)
    admin: bool = default(False, "Few users administer the servers themselves.", strict=True)
    password: SecretStr | None = default(None, "None: set one of the password keys, or nopass.")
    password_env: str | None = default(None, "None: see password.")
    password_file: str | None = default(None, "None: see password.")
    password_sha256: Annotated[tuple[Hash, ...], BeforeValidator(one_or_many)] = default(
        (), "None: see password. Several at once let passwords be changed without a gap."
    )
    password_hash: Annotated[tuple[Scrypt, ...], BeforeValidator(one_or_many)] = default(
        (), "None: for passwords that people choose."
    )
    max_clients: Count | None = default(None, "None: limits.max_clients_per_user.", ge=0)
    max_command_rate: Count | None = default(None, "None: limits.max_command_rate_per_user.", ge=0)
    max_byte_rate: Size | None = default(None, "None: limits.max_byte_rate_per_user.", ge=0)
    max_in_flight: Count | None = default(None, "None: limits.max_in_flight_per_user.", ge=0)
    on_limit: OnLimit | None = default(None, "None: limits.on_limit.")
    read_from: ReadFrom | None = default(None, "None: as the listener says.")
    backend_user: str | None = default(
        None, "None: the user of [backend], over whose connections all such users go.", pattern=r"^[^\s\x00]+$"
    )
    backend_password: SecretStr | None = default(None, "None: set one of its keys with backend_user.")
    backend_password_env: str | None = default(None, "None: see backend_password.")
    backend_password_file: str | None = default(None, "None: see backend_password.")
    rules: SecretStr | None = default(None, "None: what an application needs, or everything for an admin.")

    @model_validator(mode="after")
    def _hash_password(self, info: ValidationInfo) -> Self:
        keep_hash(self, info.context)
        if self.passwords and self.nopass:
            raise Problems(("nopass", "is set beside a password: keep one of them"))
        if self.passwords and self.open:
            raise Problems(("rules", "say nopass beside a password, which nobody would need: keep one of them"))
        if not self.passwords and not self.nopass and self.rules is None:
            raise Problems(("", f"has no password: set one of {', '.join(PASSWORD_KEYS)}, or nopass = true"))
        return self

    @model_validator(mode="after")
    def _resolve_backend_password(self, info: ValidationInfo) -> Self:
        secret = read_secret(self, info.context, BACKEND_KEYS)
        if secret is not None and self.backend_user is None:
            raise Problems((BACKEND_KEYS[0], "is set without backend_user: name the user of the servers"))
        if secret is None and self.backend_user is not None:
            raise Problems(("backend_user", f"has no password: set one of {', '.join(BACKEND_KEYS)}"))
        # From here on `backend_password` is the password to send, whatever key gave or named it.
        object.__setattr__(self, "backend_password", None if secret is None else SecretStr(secret))
        return self

    @property
    def open(self) -> bool:
        """Whether the user needs no password, by its keys and its rules."""
        words = () if self.rules is None else self.rules.get_secret_value().lower().split()
        return self.nopass or "nopass" in words

    @property
    def passwords(self) -> frozenset[str]:
        """The digest of each valid password: the SHA-256 as lower-case hex, or the result of scrypt."""
        return frozenset(secret.get_secret_value() for secret in (*self.password_sha256, *self.password_hash))


def default_user(users: tuple[User, ...]) -> tuple[User, ...]:
    """Return the users, or one user "default" without a password if none is configured."""
    return users or (User(name="default", nopass=True),)
