"""TLS of the listeners: the certificates in use, which follow their files, and what becomes of the handshakes.

The files are looked at every few seconds. When one has changed, new contexts are made from all of them in a thread; new
connections use these, and open ones stay as they are. Files that do not fit together are not used, and the old
certificates stay.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

from proxy.config.certificates import expires_at, server_context
from proxy.config.listener_tls import ListenerTls
from proxy.config.secret import Problems
from proxy.errors import ConfigError
from proxy.transport.client_tls import ClientTls
from proxy.transport.clock import Clock
from proxy.transport.handshakes import Handshakes
from proxy.transport.log_rate import LogRate
from proxy.transport.watched_files import WatchedFiles

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks at the files."""
_PATIENCE = 10.0
"""The seconds that a handshake may take if clients have no deadline for their login."""
_LOGGED = 5
"""The most failed handshakes of a listener that are logged in a second."""

# The reasons are OpenSSL's, of versions 1.1.1 to 3.5 (openssl/sslerr.h).
_NO_TLS = {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"}
_NO_TLS |= {"RECORD_LAYER_FAILURE", "BAD_PROTOCOL_VERSION_NUMBER"}
_OLD = {"UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_PROTOCOLS_AVAILABLE", "WRONG_SSL_VERSION"}
_OLD |= {"TLSV1_ALERT_PROTOCOL_VERSION"}

_Names = tuple[tuple[str, str], ...]
_Subject = tuple[_Names, ...]
_USER_KINDS = ("DNS", "URI", "email")

PLAIN = "no TLS"
VERSION = "version"
CIPHER = "cipher"
NO_CERTIFICATE = "no certificate"
BAD_CERTIFICATE = "bad certificate"
DISTRUST = "refused by client"
TIMEOUT = "timeout"
CLOSED = "closed"
BUSY = "busy"
OTHER = "other"


def reason_of(error: Exception) -> str:
    """The reason for which a handshake failed, as the metrics name it."""
    match error:
        case ssl.SSLCertVerificationError():
            return BAD_CERTIFICATE
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return CLOSED
        case TimeoutError():
            return TIMEOUT
        case ConnectionAbortedError():
            return BUSY
        case ssl.SSLError(reason="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            return NO_CERTIFICATE
        case ssl.SSLError(reason="NO_SHARED_CIPHER"):
            return CIPHER
        case ssl.SSLError(reason=str(reason)) if reason in _NO_TLS:
            return PLAIN
        case ssl.SSLError(reason=str(reason)) if reason in _OLD:
            return VERSION
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason:
            return DISTRUST
    return OTHER


class TlsListener:
    """The TLS of one listener, called ``name`` in the log. Raises ConfigError if its files can not be used."""

    def __init__(self, name: str, section: ListenerTls, handshakes: Handshakes) -> None:
        self.name = name
        self.handshakes = handshakes
        self.outcomes: Counter[str] = Counter()
        """How many handshakes were complete (``full``, ``resumed``), and how many failed, by the reason."""
        self.reloads: Counter[str] = Counter()
        """How often changed files were used (``ok``), and how often they could not be (``failed``)."""
        self.expiry: dict[str, float] = {}
        """When each certificate in use expires, in seconds since 1970, by its file."""
        self._section = section
        self._files = WatchedFiles(section.files)
        try:
            self._context = self._load()
        except Problems as error:
            raise ConfigError(tuple((f"tls.{key}", words) for key, words in error.problems)) from None
        words = "more TLS handshakes failed listener=%s count=%d"
        self._log_rate = LogRate(handshakes.loop.time, _LOGGED, partial(log.info, words, name))

    def __repr__(self) -> str:
        return f"TlsListener({self.name} {self._section})"

    def over(self, factory: Callable[[], object]) -> Callable[[], ClientTls]:
        """Return a factory of connections with TLS, whose protocols ``factory`` makes."""
        return partial(ClientTls, self, factory)

    def without_words(self, turn_away: Callable[[], bytes]) -> Callable[[], bytes]:
        """Return ``turn_away`` without the bytes for the client, which could not read them without a handshake."""

        def quietly() -> bytes:
            turn_away()
            return b""

        return quietly

    # ---- for connections

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Begin TLS as a server, with the certificates that are in use now."""
        return self._context.wrap_bio(incoming, outgoing, server_side=True)

    def names_of(self, connection: ssl.SSLObject) -> Sequence[str] | None:
        """The names of the client's certificate that may be those of users; None if certificates log nobody in."""
        if self._section.auth != "certificate":
            return None
        certificate = connection.getpeercert()
        if not certificate:
            return None
        subject, alternative = cast(_Subject, certificate.get("subject", ())), certificate.get("subjectAltName", ())
        if self._section.user_from == "cn":
            return [value for part in subject for key, value in part if key == "commonName"]
        return [value for kind, value in cast(_Names, alternative) if kind in _USER_KINDS]

    def established(self, connection: ssl.SSLObject) -> None:
        """Count a handshake that is complete."""
        self.outcomes["resumed" if connection.session_reused else "full"] += 1

    def failed(self, transport: asyncio.Transport, error: Exception) -> None:
        """Count and log a handshake that failed; a connection that was only opened and closed is not logged."""
        reason = reason_of(error)
        self.outcomes[reason] += 1
        if reason == CLOSED or not self._log_rate.allows():
            return
        words = getattr(error, "reason", None) or str(error)  # only errors of OpenSSL itself have a reason
        if isinstance(error, ssl.SSLCertVerificationError):
            words = error.verify_message
        peer = transport.get_extra_info("peername")
        address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        log.info("TLS handshake failed listener=%s address=%s reason=%r", self.name, address, f"{reason}: {words}")

    # ---- the files

    def look(self) -> None:
        """Use the files again if they have changed. This may take milliseconds, and may be called in a thread."""
        if not self._files.changed():
            return
        try:
            self._context = self._load()
        except (Problems, OSError, ValueError) as error:
            self.reloads["failed"] += 1
            log.error("the listener keeps its certificates: new ones can not be used listener=%s %s", self.name, error)
        else:
            self.reloads["ok"] += 1
            log.info("the listener has new certificates listener=%s file=%s", self.name, self._section.cert_file)

    def _load(self) -> ssl.SSLContext:
        context, _ = server_context(self._section)
        names = [self._section.cert_file, *(each.cert_file for each in self._section.certificates)]
        self.expiry = {name: expires_at(name) for name in names}
        return context


class TlsListeners:
    """The TLS of all listeners of a worker. A handshake may take ``patience`` seconds; 0 stands for the default."""

    def __init__(self, clock: Clock, patience: float) -> None:
        self.handshakes = Handshakes(clock, patience or _PATIENCE)
        self._all: dict[int, TlsListener] = {}

    def __repr__(self) -> str:
        return f"TlsListeners({list(self._all.values())})"

    def __iter__(self) -> Iterator[TlsListener]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def add(self, position: int, name: str, section: ListenerTls) -> TlsListener:
        """Add the TLS of the listener at ``position``. Raises ConfigError if its files can not be used."""
        listener = self._all[position] = TlsListener(name, section, self.handshakes)
        return listener

    def at(self, position: int) -> TlsListener | None:
        """The TLS of the listener at ``position``, if it has any."""
        return self._all.get(position)

    async def watch(self) -> None:
        """Look at the files again and again, in a thread. Never returns."""
        loop = self.handshakes.loop
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for each in self:
                try:
                    await loop.run_in_executor(None, each.look)
                except Exception:
                    log.exception("the certificates were not looked at listener=%s", each.name)

    def close(self) -> None:
        """Stop carrying out handshakes."""
        self.handshakes.close()
