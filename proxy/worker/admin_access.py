"""Who may ask at the admin port: the Host that a browser is made to believe in, tokens and passwords.

DNS rebinding: a page of ``evil.example`` whose name is made to lead to 127.0.0.1 may read what is served there, as the
same origin. All that tells such a request from others is its Host, so names are answered only where they are expected.
An IP address is no name that anybody could rebind.
"""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from proxy.worker.admin_http import HttpRequest, Response

_LOOPBACK = "localhost"
_ANY = "*"


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked of those who ask. Tokens and passwords are SHA-256 in hex; without any, nobody is asked for one."""

    hosts: frozenset[str] = frozenset()
    """The names, in lower case, that the proxy goes by, beside addresses and loopback names. ``*`` is any."""
    tokens: Sequence[str] = ()
    username: str | None = None
    passwords: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"Access(hosts={sorted(self.hosts)}, {'secured' if self.secured else 'open'})"

    @property
    def secured(self) -> bool:
        """Whether credentials are asked for."""
        return bool(self.tokens or self.passwords)

    def misdirected(self, request: HttpRequest) -> Response | None:
        """The refusal of a request that means another host; None if it means this one.

        Who names no host is no browser. At a unix socket there is none either, and the Host is made up.
        """
        if request.host is None or not request.peer or self._is_ours(request.host):
            return None
        words = f"this is not {_printable(request.host)}: name it under admin.hosts if it should be"
        return Response.text(HTTPStatus.MISDIRECTED_REQUEST, words)

    def _is_ours(self, authority: str) -> bool:
        host = _without_port(authority).lower().rstrip(".")
        if host in self.hosts or _ANY in self.hosts or host == _LOOPBACK or host.endswith(f".{_LOOPBACK}"):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def admits(self, request: HttpRequest) -> bool:
        """Whether the request has credentials that are good; always, where none are asked for.

        All of them are compared, each in constant time, so that the time tells nothing about them.
        """
        if not self.secured:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "bearer":
                return _is_one_of(given.strip(), self.tokens)
            case "basic":
                name, password = _name_and_password(given.strip())
                named = _is_one_of(name, [_hashed(self.username or "")])
                return _is_one_of(password, self.passwords) & named
        return False

    def unauthorized(self) -> Response:
        """The refusal of who has not said who they are, or not well. Says how to (RFC 9110, 11.6.1)."""
        challenges = []
        if self.tokens:
            challenges.append(("WWW-Authenticate", 'Bearer realm="slotgate"'))
        if self.passwords:
            challenges.append(("WWW-Authenticate", 'Basic realm="slotgate", charset="UTF-8"'))
        return Response.text(HTTPStatus.UNAUTHORIZED, "say who you are", *challenges)


def _without_port(authority: str) -> str:
    """The host of ``host:port``, ``[::1]:port`` or either without a port."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _printable(text: str) -> str:
    return "".join(char for char in text[:80] if char.isprintable())


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_one_of(given: str, hashes: Sequence[str]) -> bool:
    digest, found = _hashed(given), False
    for each in hashes:
        found |= hmac.compare_digest(digest, each)
    return found


def _name_and_password(given: str) -> tuple[str, str]:
    """What Basic carries (RFC 7617); empty if that is not base64 of UTF-8, which no name and password match."""
    try:
        text = base64.b64decode(given, validate=True).decode()
    except ValueError:
        return "", ""
    name, _, password = text.partition(":")
    return name, password
