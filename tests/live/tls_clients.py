"""A proxy with TLS for its clients, its certificates, and clients that use them."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.devservers.servers import LOOPBACK, free_port
from tests.support.certificates import SERVER_NAME, Authority, Pair
from tests.support.wire import Wire

USERS = """
[[users]]
name = "default"
nopass = true
admin = true
[[users]]
name = "alice"
password = "of-alice"
[[users]]
name = "bob"
rules = "off >of-bob +@all ~*"
[[users]]
name = "reports"
password = "of-reports"
"""


@dataclass(frozen=True, slots=True)
class Papers:
    """Certificates: of the authority, of the listener, of clients whose names are users or not, and of a stranger."""

    folder: Path
    authority: Authority
    server: Pair
    other: Pair
    alice: Pair
    bob: Pair
    nobody: Pair
    stranger: Pair

    @classmethod
    def made(cls, folder: Path) -> "Papers":
        authority = Authority(folder)
        return cls(
            folder,
            authority,
            authority.sign("server"),
            authority.sign("other", names="DNS:other.test"),
            authority.sign("alice", names="DNS:x.test,URI:reports,email:alice"),
            authority.sign("bob", names=""),
            authority.sign("nobody", names="DNS:nobody.test"),
            Authority(folder, "stranger").pair,
        )

    def table(self, address: str, *keys: str, settings: str = "") -> str:
        """One ``[[listeners]]`` with the server's certificate; ``keys`` are further lines of its TLS."""
        files = f'cert_file = "{self.server.certificate}"\nkey_file = "{self.server.key}"\n'
        return f'[[listeners]]\naddress = "{address}"\n{settings}\n[listeners.tls]\n{files}' + "\n".join(keys) + "\n"

    def asking(self, how: str, *keys: str) -> tuple[str, ...]:
        """The lines that ask clients for certificates."""
        return (f'client_certs = "{how}"', f'ca_file = "{self.authority.pair.certificate}"', *keys)

    def context(self, pair: Pair | None = None, **settings: Any) -> ssl.SSLContext:
        """The context of a client that trusts the authority, with a certificate of its own or without."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority.pair.certificate)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        for name, value in settings.items():
            setattr(context, name, value)
        return context


class TlsWire(Wire):
    """A raw connection with TLS."""

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext,
        *,
        name: str = SERVER_NAME,
        session: ssl.SSLSession | None = None,
        protocol: int = 2,
    ) -> None:
        super().__init__(address)
        self.socket: ssl.SSLSocket = context.wrap_socket(self.socket, server_hostname=name, session=session)
        if protocol == 3:
            self.ask("HELLO", 3)


def new_address() -> str:
    """An address of loopback that nobody listens at."""
    return f"{LOOPBACK}:{free_port()}"
