"""The reading half of TLS on a client's connection: ciphertext in, plaintext to the protocol above.

OpenSSL works on bytes in memory (``ssl.MemoryBIO``). At most the ciphertext of one read waits here while the protocol
does not read, since the socket is not read meanwhile.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from proxy.engine.receiver import Receiver
from proxy.transport.handshakes import Handshakes

log = logging.getLogger(__name__)

RECORD = 16384
"""The most bytes of plaintext in one record (RFC 8446, section 5.1)."""
_RECORD = RECORD
_FED = 16384 + 512
"""The bytes of ciphertext that OpenSSL is given at once. Its buffers grow to this size, and never shrink."""
_EMPTY_MOST = 40 * 1024
"""The most bytes of ciphertext in a row that bring no plaintext: more than the largest record has. Key updates and
empty records cost the proxy far more than the client."""
_UNREAD_MOST = 256 * 1024
"""The unsent bytes of a connection, with which TLS's own answers are not kept any more. Replies alone stay below:
``TlsOutput`` encrypts no more of them while 64 KB are unsent, and at most 128 KB at once."""


class TlsSettings(Protocol):
    """The TLS of a listener, as its connections use it."""

    handshakes: Handshakes

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Begin TLS as a server, with the certificates that are in use now."""

    def names_of(self, connection: ssl.SSLObject) -> Sequence[str] | None:
        """The names of the client's certificate that may be those of users; None if certificates log nobody in."""

    def established(self, connection: ssl.SSLObject) -> None:
        """Count a handshake that is complete."""

    def failed(self, transport: asyncio.Transport, error: Exception) -> None:
        """Count and log a handshake that failed."""


class TlsInput(Receiver):
    """The base class of ``ClientTls``: both ends of the connection, the TLS engine, and what is read."""

    __slots__ = (
        "_buffered",
        "_closing",
        "_empty",
        "_encrypt",
        "_ended",
        "_give",
        "_incoming",
        "_inner",
        "_later",
        "_open",
        "_outgoing",
        "_over",
        "_partial",
        "_raw",
        "_read",
        "_reading",
        "_receiver",
        "_scheduled",
        "_send",
        "_settings",
        "_take",
        "_tls",
    )

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._raw: asyncio.Transport | None = None
        """The transport below; None when the connection is lost."""
        self._inner: asyncio.Protocol | None = None
        """The protocol above, and the same as a ``Receiver`` if it is one; ``_buffered`` if it has its own buffer."""
        self._receiver: Receiver | None = None
        self._buffered = False
        self._open = False
        """Whether the handshake is complete."""
        self._closing = False
        # the TLS engine
        self._tls: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO | None = None
        self._outgoing: ssl.MemoryBIO | None = None
        # Their methods, since looking up a method costs as much as a short call; None unless the connection is open.
        self._give: Callable[[bytes | memoryview], int] | None = None
        self._read: Callable[..., bytes | int] | None = None
        self._encrypt: Callable[[bytes | memoryview], int] | None = None
        self._take: Callable[[], bytes] | None = None
        self._send: Callable[[bytes], None] | None = None
        # reading
        self._reading = True
        self._later: memoryview | None = None
        """Ciphertext that is not decrypted yet, because the protocol does not read."""
        self._scheduled = False
        """Whether ``_catch_up`` will be called."""
        self._partial = False
        """Whether OpenSSL has a part of a record."""
        self._empty = 0
        """How many bytes of ciphertext came since the last plaintext."""
        self._over = False
        """Whether the protocol knows that the client sends no more."""
        self._ended = False
        """Whether the socket has ended, behind bytes that are not passed on yet."""

    def begin_records(self) -> None:
        """Begin to exchange data: the handshake is complete."""
        tls, incoming, outgoing, raw = self._tls, self._incoming, self._outgoing, self._raw
        assert tls is not None
        assert incoming is not None
        assert outgoing is not None
        assert raw is not None
        engine = getattr(tls, "_sslobj", tls)  # what SSLObject's methods call, without their frames
        self._read, self._encrypt = engine.read, engine.write
        self._give, self._take, self._send = incoming.write, outgoing.read, raw.write
        self._open = True

    def end_records(self) -> None:
        """Let go of the connection."""
        self._raw = self._inner = self._receiver = None
        self._open = False
        self._closing = True
        self._later = None
        self._give = self._read = self._encrypt = self._take = self._send = None

    def received(self, data: bytes) -> None:
        """Decrypt ``data``, and pass it on."""
        if self._closing or self._over:
            return
        if self._later is not None or not self._reading:
            # Only a transport that had read these bytes already passes them on now.
            before = b"" if self._later is None else bytes(self._later)
            self._later = memoryview(before + data)
        elif len(data) <= _FED:
            self._give(data)  # type: ignore[misc]  # it is there once the handshake is complete
            self._decrypt(len(data))
        else:
            self._feed(memoryview(data))

    # ---- decrypting

    def _feed(self, data: memoryview) -> None:
        """Decrypt ``data`` piece by piece, as long as the protocol reads."""
        at, size = 0, len(data)
        while at < size:
            if not self._open or self._closing or self._over:
                return
            if not self._reading:
                self._later = data[at:]
                return
            piece = data[at : at + _FED]
            self._give(piece)  # type: ignore[misc]  # it is there once the handshake is complete
            at += len(piece)
            self._decrypt(len(piece))

    def _decrypt(self, fed: int) -> None:
        """Pass on all plaintext that OpenSSL has, of which ``fed`` bytes of ciphertext are new."""
        incoming, outgoing, read = self._incoming, self._outgoing, self._read
        assert incoming is not None
        assert outgoing is not None
        assert read is not None
        if self._buffered:
            self._decrypt_into(fed)
            return
        data: bytes | None = None
        pieces: list[bytes] | None = None
        over = False
        # A record is longer than its plaintext; of one whose first part came earlier, the length is not known here.
        most = _RECORD if self._partial or not fed else fed
        self._partial = False
        try:
            while True:
                piece = cast(bytes, read(most))
                if not piece:
                    over = True
                    break
                if data is None:
                    data = piece
                elif pieces is None:
                    pieces = [data, piece]
                else:
                    pieces.append(piece)
                most = incoming.pending
                if not most:
                    break
        except ssl.SSLWantReadError:
            self._partial = True
        except ssl.SSLZeroReturnError:
            over = True
        except ssl.SSLError as error:
            self._fail(error)
            return
        if data is None:
            self._empty += fed
            self._answer()
        else:
            self._empty = 0
            if pieces is not None:
                data = b"".join(pieces)
            receiver = self._receiver
            if receiver is not None:
                receiver.data_received(data)
            elif self._inner is not None:
                self._inner.data_received(data)
            if outgoing.pending:  # a client wants new keys behind its data, and the data had no reply
                self._answer()
        if over:
            self._end_input()

    def _decrypt_into(self, fed: int) -> None:
        """Decrypt into the protocol's own buffer, as long as it has one."""
        over = got = False
        try:
            while self._open and self._buffered and self._has_input():
                if not self._fill():
                    over = True
                    break
                got = True
        except ssl.SSLWantReadError:
            self._partial = True
        except ssl.SSLZeroReturnError:
            over = True
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._empty = 0 if got else self._empty + fed
        self._answer()
        if over:
            self._end_input()
        elif self._open and not self._closing and self._has_input():
            self._decrypt(0)

    def _has_input(self) -> bool:
        """Whether OpenSSL has bytes that are not decrypted, or not passed on."""
        incoming, tls = self._incoming, self._tls
        return incoming is not None and tls is not None and bool(incoming.pending or tls.pending())

    def _answer(self) -> None:
        """Send what TLS itself answers, to a client that wants new keys for example; end the connection of a client
        that sends nothing else, or that does not read the answers."""
        raw, outgoing = self._raw, self._outgoing
        if raw is None or outgoing is None:
            return
        if outgoing.pending:
            raw.write(outgoing.read())
            if raw.get_write_buffer_size() > _UNREAD_MOST:
                log.debug("TLS failed address=%s reason='its answers are not read'", raw.get_extra_info("peername"))
                self.abort()
                return
        if self._empty > _EMPTY_MOST:
            self._fail(ConnectionAbortedError("the client sends records without data"))

    def _fill(self) -> int:
        """Decrypt into the protocol's own buffer; return how many bytes, 0 at the end."""
        inner = cast(asyncio.BufferedProtocol, self._inner)
        with memoryview(inner.get_buffer(-1)) as room:  # any object with a buffer, which may have no length of its own
            filled = cast(int, self._read(len(room), room))  # type: ignore[misc]  # it is there while it is open
        if filled:
            inner.buffer_updated(filled)
        return filled

    def _end_input(self) -> None:
        """Tell the protocol that the client has said goodbye; it may still read replies."""
        if self._over or self._inner is None:
            return
        self._over = True
        if not self._inner.eof_received():
            self.close()

    def _catch_up(self) -> None:
        """Decrypt what was kept while the protocol did not read; then read from the socket again."""
        self._scheduled = False
        raw, later = self._raw, self._later
        if raw is None or not self._open or not self._reading or self._closing:
            return
        self._later = None
        try:
            if later is not None and len(later):
                self._feed(later)
            elif self._has_input():
                self._decrypt(0)
        except Exception as error:
            log.exception("a connection failed")
            self._fail(error)
            return
        if self._open and self._reading and not self._closing and self._raw is not None:
            raw.resume_reading()
            if self._ended and self._later is None:
                self._end_input()

    # ---- the transport of the protocol above

    def set_protocol(self, protocol: object) -> None:
        """Give received data to ``protocol``, an ``asyncio.Protocol`` or ``asyncio.BufferedProtocol``, from now on."""
        self._inner = cast(asyncio.Protocol, protocol)
        self._receiver = protocol if isinstance(protocol, Receiver) else None
        self._buffered = self._receiver is None and hasattr(protocol, "get_buffer")

    def pause_reading(self) -> None:
        """Stop reading until ``resume_reading``."""
        self._reading = False
        if self._open and self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again: first what is left of the last read, in the next turn of the loop."""
        if self._reading or self._closing:
            return
        self._reading = True
        if not self._open or self._raw is None:
            return
        if self._scheduled:
            return
        if self._later is not None or self._ended or self._has_input():
            self._scheduled = True
            self._settings.handshakes.loop.call_soon(self._catch_up)
        else:
            self._raw.resume_reading()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or will be once the kept bytes are sent."""
        return self._closing or self._raw is None or self._raw.is_closing()

    def close(self) -> None:
        """Send the kept bytes, and close the connection; the subclass implements it."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close the connection at once; kept bytes are lost."""
        self._closing = True
        if self._raw is not None:
            self._raw.abort()

    def _fail(self, error: Exception) -> None:
        """Close a connection whose TLS failed after the handshake."""
        raw, outgoing = self._raw, self._outgoing
        if raw is None or self._closing:
            return
        self._closing = True
        log.debug("TLS failed address=%s reason=%r", raw.get_extra_info("peername"), str(error))
        if outgoing is not None and outgoing.pending:
            raw.write(outgoing.read())
        raw.close()

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return -1 if self._raw is None else cast(int, self._raw.fileno())  # type: ignore[attr-defined]

    def get_extra_info(self, name: str, default: object = None) -> object:
        """What the transport below says."""
        return default if self._raw is None else self._raw.get_extra_info(name, default)
