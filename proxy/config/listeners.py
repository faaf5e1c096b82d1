"""The listening addresses, and what holds for the clients of each: ``listen`` and ``[[listeners]]``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config.listener_tls import ListenerTls
from proxy.config.section import Section, default, one_or_many
from proxy.config.values import Count, ListenAddress, ReadFrom

PresentAs = Literal["standalone", "cluster"]


class ListenerSection(Section):
    """One table ``[[listeners]]``: an address, and what holds for the clients that connect there."""

    address: ListenAddress = Field(description="Required: where clients connect.")
    read_from: ReadFrom | None = default(None, "None: as for the whole proxy.")
    present_as: PresentAs | None = default(None, "None: as for the whole proxy.")
    users: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] | None = default(None, "None: every user.")
    proxy_protocol: bool = default(
        False, "Only a balancer sends the header, and only where it is told to.", strict=True
    )
    proxy_auth: Literal["password", "certificate"] = default(
        "password", "What a balancer says of a certificate is its word alone, so it logs nobody in unless told to."
    )
    tls: ListenerTls | None = default(None, "None: plain connections, as with a Redis's port.")
    max_clients: Count | None = default(None, "None: only the limit of all listeners together.", ge=1, le=10000000)

    @property
    def has_strangers(self) -> bool:
        """Return whether clients of other machines may come here, be it by a balancer on this one."""
        return self.proxy_protocol or not self.address.loopback

    @property
    def wants_certificates(self) -> bool:
        """Return whether only clients with a certificate can connect."""
        return self.tls is not None and self.tls.client_certs == "required"

    def admits(self, user: str) -> bool:
        """Return whether a user of this name may log in here."""
        return self.users is None or user in self.users
