"""Decides which requests the admin port answers, by the Host (against DNS rebinding), tokens and passwords.

DNS rebinding: a page of ``evil.example``, a name that is made to resolve to 127.0.0.1, may read responses from there as
the same origin. Only the Host distinguishes such a request, so a request is answered only if its Host is an expected
name. An IP address can not be rebound.
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
    """The conditions for a request. Tokens and passwords are SHA-256 in hex; without any, no credentials are needed."""

    hosts: frozenset[str] = frozenset()
    """The host names of the proxy in lower case, beside addresses and loopback names. ``*`` allows every name."""
    tokens: Sequence[str] = ()
    username: str | None = None
    passwords: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"Access(hosts={sorted(self.hosts)}, {'secured' if self.secured else 'open'})"

    @property
    def secured(self) -> bool:
        """Whether requests need credentials."""
        return bool(self.tokens or self.passwords)

    def misdirected(self, request: HttpRequest) -> Response | None:
        """Return the refusal of a request that is for another host; None if the request is for this host.

        A request without a host does not come from a browser, and is accepted. So is every request at a unix socket,
        where clients make up the Host.
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
        """Whether the request has valid credentials; always true if none are needed.

        All credentials are compared, each in constant time, so that the time reveals nothing about them.
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
        """Return the refusal of a request without valid credentials; with the accepted schemes (RFC 9110, 11.6.1)."""
        challenges = []
        if self.tokens:
            challenges.append(("WWW-Authenticate", 'Bearer realm="slotgate"'))
        if self.passwords:
            challenges.append(("WWW-Authenticate", 'Basic realm="slotgate", charset="UTF-8"'))
        return Response.text(HTTPStatus.UNAUTHORIZED, "say who you are", *challenges)


def _without_port(authority: str) -> str:
    """Return the host of ``host:port``, ``[::1]:port`` or either without a port."""
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
    """Return name and password from Basic credentials (RFC 7617); empty, which never matches, if malformed."""
    try:
        text = base64.b64decode(given, validate=True).decode()
    except ValueError:
        return "", ""
    name, _, password = text.partition(":")
    return name, password
