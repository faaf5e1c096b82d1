"""The table ``[listeners.tls]``: TLS for the clients of one listener."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from proxy.config.secret import Problems, full_path
from proxy.config.section import Section, default, one_or_many
from proxy.config.values import shown

_FILES = ("cert_file", "key_file", "ca_file")


def _server_name(value: str) -> str:
    name = value.lower().rstrip(".")
    labels = name.removeprefix("*.").split(".")
    if not name or any(not label or not label.replace("-", "").replace("_", "").isalnum() for label in labels):
        raise ValueError(
            f'{shown(value)} is not a host name: write it without a port; "*." may stand for its first part'
        )
    return name


ServerNames = Annotated[tuple[Annotated[str, AfterValidator(_server_name)], ...], BeforeValidator(one_or_many)]


class ListenerCertificate(Section):
    """One of ``certificates``: a further certificate, for clients that ask for one of its names (SNI)."""

    cert_file: str = Field(description="Required: a certificate and those that lead to its authority, as PEM.")
    key_file: str = Field(description="Required: its key, as PEM; it may be the same file.")
    server_names: ServerNames = default((), "None: the DNS names in the certificate.")

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        resolve_files(self, info)
        return self


class ListenerTls(Section):
    """The table ``[listeners.tls]``: certificates, what is asked of clients, and whether a certificate logs in."""

    cert_file: str = Field(description="Required: the listener's certificate and those that lead to its authority.")
    key_file: str = Field(description="Required: its key, as PEM; it may be the same file.")
    certificates: tuple[ListenerCertificate, ...] = default(
        (), "None: one certificate is enough, which may have several names."
    )
    ca_file: str | None = default(None, "None: clients have no certificates. No authority is trusted by itself.")
    client_certs: Literal["none", "optional", "required"] = default(
        "none", "Passwords are what most clients have; a Redis asks for certificates unless told otherwise."
    )
    auth: Literal["password", "certificate"] = default(
        "password", "A certificate says that a client may connect, and not who it is, as in Redis."
    )
    user_from: Literal["cn", "san"] = default("cn", "Redis's tls-auth-clients-user knows the common name only.")
    min_version: Literal["1.2", "1.3"] = default("1.2", "All clients of the last ten years know it.")
    ciphers: str | None = default(
        None, "None: those that Python chooses, all with forward secrecy and authenticated encryption.", min_length=1
    )

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        resolve_files(self, info)
        problems = []
        if self.client_certs != "none" and self.ca_file is None:
            problems.append(("ca_file", f'is missing: client_certs = "{self.client_certs}" needs whom to trust'))
        if self.client_certs == "none" and self.ca_file is not None:
            problems.append(("ca_file", 'is not used: set client_certs = "optional" or "required" beside it'))
        if self.auth == "certificate" and self.client_certs == "none":
            problems.append(("auth", 'is "certificate", but clients are not asked for one: set client_certs'))
        if self.auth == "password" and "user_from" in self.model_fields_set:
            problems.append(("user_from", 'is not used: set auth = "certificate" beside it'))
        if problems:
            raise Problems(*problems)
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the table names, each once."""
        named = [self.cert_file, self.key_file, self.ca_file]
        for each in self.certificates:
            named += [each.cert_file, each.key_file]
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def __str__(self) -> str:
        """Describe it for people."""
        asks = {"none": "", "optional": ", client certificates optional", "required": ", client certificates required"}
        return f"TLS {self.min_version}+{asks[self.client_certs]}"


def resolve_files(section: Section, info: ValidationInfo) -> None:
    """Make the names of the section's files full paths."""
    for key in _FILES:
        if (name := getattr(section, key, None)) is not None:
            object.__setattr__(section, key, str(full_path(name, info.context)))
