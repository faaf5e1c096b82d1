"""The table ``[admin]``: the address at which operators ask over HTTP, and who may ask."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, PlainValidator, SecretStr, ValidationInfo, model_validator

from proxy.config.secret import PASSWORD_KEYS, TOKEN_KEYS, Problems, full_path, keep_hash
from proxy.config.section import DAY, Hash, Section, default, one_or_many
from proxy.config.values import Count, Duration, ListenAddress, parse_listen, shown

_FILES = ("tls_cert_file", "tls_key_file")


def from_address(value: object) -> object:
    """Return the short form, ``admin = "127.0.0.1:9121"``, as a table."""
    if not isinstance(value, str):
        return value
    return {"address": parse_listen(value) if value else ""}


def _host(value: str) -> str:
    if value != "*" and not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", value):
        raise ValueError(f'{shown(value)} is not a host name: write it without a port, or "*" for any')
    return value.lower().rstrip(".")


def _mode(value: object) -> int:
    """Parse a file mode, as chmod takes it, from quoted text: TOML and JSON would read a bare number in another
    base."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError(f'{shown(value)} is not the mode of a socket: write it in quotes, as in "660"')
    return int(value, 8)


class AdminSection(Section):
    """The table ``[admin]``: the address for operators, and who may ask. Tokens and passwords are kept as SHA-256
    only."""

    address: Annotated[ListenAddress | None, BeforeValidator(lambda value: None if value == "" else value)] = default(
        "127.0.0.1:9121", "Loopback until told otherwise: metrics tell much about an application."
    )
    mode: Annotated[int, PlainValidator(_mode)] | None = default(
        None, "None: what the umask of the process leaves, as for any file."
    )
    hosts: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], BeforeValidator(one_or_many)] = default(
        (), "None: addresses and the names of this machine for itself are no names that a stranger could rebind."
    )
    token: SecretStr | None = default(None, "None: loopback is for who is on the machine already.")
    token_env: str | None = default(None, "None: see token.")
    token_file: str | None = default(None, "None: see token.")
    token_sha256: Annotated[tuple[Hash, ...], BeforeValidator(one_or_many)] = default(
        (), "None: see token. Several at once let tokens be changed without a gap."
    )
    username: str | None = default(None, "None: nobody logs in by name.", min_length=1, pattern=r"^[^\s\x00:]+$")
    password: SecretStr | None = default(None, "None: see username.")
    password_env: str | None = default(None, "None: see username.")
    password_file: str | None = default(None, "None: see username.")
    password_sha256: Annotated[tuple[Hash, ...], BeforeValidator(one_or_many)] = default((), "None: see username.")
    tls_cert_file: str | None = default(None, "None: plain HTTP, as scrapers speak unless told otherwise.")
    tls_key_file: str | None = default(None, "None: see tls_cert_file.")
    max_connections: Count = default(
        64, "A few scrapers and probes, each for milliseconds; far from the descriptors of a process.", ge=1, le=10000
    )
    timeout: Duration = default("10s", "Prometheus gives a scrape up by then.", gt=0, le=DAY)

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        for keys in TOKEN_KEYS, PASSWORD_KEYS:
            keep_hash(self, info.context, keys)
        if bool(self.password_sha256) != (self.username is not None):
            raise Problems(
                ("username", "needs a password: set password_env, password_file or another password key beside it")
                if self.username is not None
                else ("username", "is missing: a password is good for a name only")
            )
        if self.mode is not None and (self.address is None or not self.address.unix):
            raise Problems(("mode", 'is for a unix socket only: leave it out, or set address = "unix:/path"'))
        for key in _FILES:
            if (name := getattr(self, key)) is not None:
                object.__setattr__(self, key, str(full_path(name, info.context)))
        return self

    def __str__(self) -> str:
        """Describe the admin port for people: its address, and the credentials that it asks for."""
        if self.address is None:
            return "off"
        asks = [
            words
            for words, given in (
                ("TLS", self.tls_cert_file),
                ("token", self.token_sha256),
                ("password", self.username),
            )
            if given
        ]
        return f"{self.address} ({', '.join(asks)})" if asks else str(self.address)
