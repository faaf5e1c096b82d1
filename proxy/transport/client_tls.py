"""TLS between the transport of a client's connection and the client's protocol::

    socket ──▶ transport ──ciphertext──▶ ClientTls.data_received ──▶ ssl ──plaintext──▶ protocol.data_received
    socket ◀── transport ◀──ciphertext── ssl ◀── ClientTls.write ◀──plaintext── protocol

A ``ClientTls`` is the protocol of the transport below, and it is the transport of the protocol above: it has the
methods of ``asyncio.Transport`` that the proxy uses. The handshake runs in a thread (``handshakes``), because one
signature may take longer than a turn of the loop; records are read and written in the loop.

Sizes stay bounded as without TLS. A protocol that pauses reading stops the socket, and at most the ciphertext of one
read waits here. Plaintext that the socket does not take yet is kept unencrypted, and is encrypted piece by piece while
the transport below sends; both count as unsent.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from proxy.transport.handshakes import Step
from proxy.transport.tls_input import TlsSettings
from proxy.transport.tls_output import HIGH, TlsOutput

_FIRST_FLIGHT = 128 * 1024
"""The most bytes that the handshake of a client may have; certificates of clients may be long."""
_TOO_MUCH = "the client sends too much in its handshake"
_AHEAD = 32 * 1024
"""The bytes that may arrive during a step until the socket is not read any more; the next step reads it again."""
_RECORD_MOST = 16384
_HEADER = 5
_HANDSHAKE = 22
_MAJOR = 3
"""The type of a record that carries a handshake, and the first byte of its version (RFC 8446, section 5.1)."""


class CertifiedClient(Protocol):
    """A protocol that can be logged in by a client's certificate."""

    def certified(self, names: Sequence[str]) -> None:
        """Log in as the first user among ``names``."""


class ClientTls(TlsOutput):
    """The TLS of one client's connection; ``factory`` makes the protocol above, at once, before the handshake."""

    __slots__ = ("_busy", "_early", "_factory", "_given", "_taken", "_wanted")

    def __init__(self, settings: TlsSettings, factory: Callable[[], object]) -> None:
        super().__init__(settings)
        self._factory = factory
        self._busy = False
        """Whether a step of the handshake is being carried out."""
        self._early: bytearray | None = bytearray()
        """Bytes that have arrived for the next step; None after the handshake."""
        self._given = b""
        """The bytes for the present step."""
        self._taken = 0
        """How many bytes the steps before have taken."""
        self._wanted = False
        """Whether the connection only waits to tell the client why it is refused."""

    def __repr__(self) -> str:
        state = "closed" if self._raw is None else "open" if self._open else "in its handshake"
        return f"ClientTls({state} closing={self._closing} kept={self._kept_size} {self._inner!r})"

    # ---- the protocol of the transport below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the protocol above; its client is known, and counted, from now on."""
        raw = self._raw = cast(asyncio.Transport, transport)
        raw.set_write_buffer_limits(high=HIGH)
        self._settings.handshakes.begin(self)
        self.set_protocol(self._factory())
        cast(asyncio.Protocol, self._inner).connection_made(cast(asyncio.Transport, self))

    def data_received(self, data: bytes) -> None:
        """Decrypt what has arrived, or go on with the handshake."""
        if self._open:
            self.received(data)
        else:
            self._shake(data)

    def eof_received(self) -> bool:
        """Tell the protocol that the client sends no more. Many clients end a connection without TLS's own goodbye;
        then a request that is cut off is not carried out, as without TLS."""
        if self._over:
            return True  # the protocol knows, and closes the connection once all is answered
        if (self._busy and self._early is not None) or (self._open and not self._reading):
            self._ended = True  # there may be requests before the end
            return True
        if not self._open or self._inner is None:
            self._broken(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the client closed the connection"))
            return False
        self._over = True
        return bool(self._inner.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol that the connection is lost, and let go of everything."""
        inner = self._inner
        if not self._open:
            self._settings.handshakes.end(self)
        self.end_records()
        self._early = None
        if not self._busy:
            self._tls = self._incoming = self._outgoing = None
        if inner is not None:
            inner.connection_lost(exc)

    # ---- the handshake

    def _shake(self, data: bytes) -> None:
        early = self._early
        if early is None:
            return
        before = len(early)
        early += data
        if not self._busy:
            if _whole(early):
                self._take_step()
        elif before > _FIRST_FLIGHT:
            self._broken(ssl.SSLError(ssl.SSL_ERROR_SSL, _TOO_MUCH))  # the transport reads although it is paused
        elif len(early) > _AHEAD and self._raw is not None:
            self._raw.pause_reading()  # no fault: requests may follow the last part of the handshake at once

    def _take_step(self) -> None:
        early = self._early
        assert early is not None
        self._given = bytes(early)
        early.clear()
        self._busy = True
        if not self._settings.handshakes.submit(self):
            self._busy = False
            self._broken(ConnectionAbortedError("too many handshakes wait"))

    def step(self) -> Step:
        """Give the client's bytes to OpenSSL, and return what came of it. This runs in a thread, and changes nothing
        that the loop uses meanwhile."""
        tls, incoming, outgoing = self._tls, self._incoming, self._outgoing
        if tls is None or incoming is None or outgoing is None:
            incoming = self._incoming = ssl.MemoryBIO()
            outgoing = self._outgoing = ssl.MemoryBIO()
            tls = self._tls = self._settings.wrap(incoming, outgoing)
        incoming.write(self._given)
        error: Exception | None = None
        done = False
        names = None
        try:
            tls.do_handshake()
            done = True
            names = self._settings.names_of(tls)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ValueError) as problem:
            error = problem
        return done, names, error, outgoing.read()

    def stepped(self, done: bool, names: Sequence[str] | None, error: Exception | None, output: bytes) -> None:
        """Go on after a step of the handshake."""
        self._busy = False
        given = len(self._given)
        self._given = b""
        raw, early = self._raw, self._early
        if raw is None or early is None or raw.is_closing():
            self._tls = self._incoming = self._outgoing = None
            return
        if output:
            raw.write(output)
        if error is not None:
            self._broken(error)
        elif not done:
            self._taken += given  # all of it belongs to the handshake, since OpenSSL wants more
            if self._taken > _FIRST_FLIGHT:
                self._broken(ssl.SSLError(ssl.SSL_ERROR_SSL, _TOO_MUCH))
                return
            if len(early) > _AHEAD:
                raw.resume_reading()
            if early and _whole(early):
                self._take_step()
            elif self._ended:
                self.eof_received()
        else:
            self._establish(names)

    def _establish(self, names: Sequence[str] | None) -> None:
        raw, inner, early = self._raw, self._inner, self._early
        assert raw is not None
        assert early is not None
        self._settings.handshakes.end(self)
        self._settings.established(cast(ssl.SSLObject, self._tls))
        self.begin_records()
        self._early = None
        if self._closing:
            self._go_on()
            return
        if names is not None and inner is not None and hasattr(inner, "certified"):
            cast(CertifiedClient, inner).certified(names)
        if not self._reading:
            raw.pause_reading()
        self._go_on()
        self._later = memoryview(bytes(early))
        self._catch_up()

    def timed_out(self, seconds: float) -> None:
        """End a handshake that takes too long."""
        self._broken(TimeoutError(f"it was not complete within {seconds:g} s"))

    def _broken(self, error: Exception) -> None:
        """End the connection of a client whose handshake failed."""
        raw = self._raw
        if raw is None or self._early is None:
            return
        self._early = None
        self._settings.handshakes.end(self)
        if not (self._closing and not self._wanted):
            self._settings.failed(raw, error)
        self._closing = True
        raw.close()

    def close(self) -> None:
        """Stop reading, send the kept bytes, and close the connection. A client that is refused before its handshake
        is complete is told why, if not too many clients wait for that; otherwise its connection is just closed."""
        raw = self._raw
        if self._closing or raw is None:
            return
        self._closing = True
        self._reading = False
        if not self._open:
            if self._kept_size and self._early is not None and self._settings.handshakes.wait_to_refuse(self):
                self._wanted = True
                return
            self._settings.handshakes.end(self)
            self._early = None
            raw.close()
            return
        raw.pause_reading()
        if not self._kept_size:
            self._finish()


def _whole(early: bytearray) -> bool:
    """Whether a step can begin: a record is complete, or this is no handshake, so that OpenSSL can say so."""
    if early[0] != _HANDSHAKE or (len(early) > 1 and early[1] != _MAJOR):
        return True
    if len(early) < _HEADER:
        return False
    size = early[3] << 8 | early[4]
    return len(early) >= _HEADER + size or size > _RECORD_MOST
