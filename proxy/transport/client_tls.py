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
import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from proxy.engine.receiver import Receiver
from proxy.transport.handshakes import Handshakes, Step

log = logging.getLogger(__name__)

_RECORD = 16384
"""The most bytes of plaintext in one record (RFC 8446, section 5.1)."""
_FED = 16384 + 512
"""The bytes of ciphertext that OpenSSL is given at once. Its buffers grow to this size, and never shrink."""
_CHUNK = 8
"""Records that are encrypted before they are sent together."""
_BURST = 8
"""The most such chunks in a row, about 1 MB, which takes about a millisecond; other clients get their turn then."""
_HIGH = 64 * 1024
_FIRST_FLIGHT = 128 * 1024
"""The most bytes that a client may send before its handshake is over; certificates of clients may be long."""
_EMPTY_MOST = 40 * 1024
"""The most bytes of ciphertext in a row that bring no plaintext: more than the largest record has. Key updates and
empty records cost the proxy far more than the client."""
_HEADER = 5
_HANDSHAKE = 22
_MAJOR = 3
"""The type of a record that carries a handshake, and the first byte of its version (RFC 8446, section 5.1)."""


class Tls(Protocol):
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


class CertifiedClient(Protocol):
    """A protocol that can be logged in by a client's certificate."""

    def certified(self, names: Sequence[str]) -> None:
        """Log in as the first user among ``names``."""


class ClientTls(Receiver):
    """The TLS of one client's connection; ``factory`` makes the protocol above, at once, before the handshake."""

    __slots__ = (
        "_at",
        "_buffered",
        "_busy",
        "_closing",
        "_early",
        "_empty",
        "_encrypt",
        "_factory",
        "_give",
        "_given",
        "_held",
        "_high",
        "_incoming",
        "_inner",
        "_kept",
        "_kept_size",
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
        "_slow",
        "_take",
        "_tls",
        "_wanted",
    )

    def __init__(self, settings: Tls, factory: Callable[[], object]) -> None:
        self._settings = settings
        self._factory = factory
        self._raw: asyncio.Transport | None = None
        """The transport below; None when the connection is lost."""
        self._inner: asyncio.Protocol | None = None
        """The protocol above, and the same as a ``Receiver`` if it is one; ``_buffered`` if it has its own buffer."""
        self._receiver: Receiver | None = None
        self._buffered = False
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
        # the handshake
        self._open = False
        """Whether the handshake is complete."""
        self._busy = False
        """Whether a step of the handshake is being carried out."""
        self._early: bytearray | None = bytearray()
        """Bytes that have arrived for the next step."""
        self._given = b""
        """The bytes for the present step."""
        self._wanted = False
        """Whether the connection only waits to tell the client why it is refused."""
        # reading
        self._reading = True
        self._later: memoryview | None = None
        """Ciphertext that is not decrypted yet, because the protocol does not read."""
        self._partial = False
        """Whether OpenSSL has a part of a record."""
        self._empty = 0
        """How many bytes of ciphertext came since the last plaintext."""
        self._over = False
        """Whether the client has said that it sends no more."""
        # writing
        self._kept: deque[bytes] = deque()
        """Plaintext that is not encrypted yet: the pieces, the first of them from ``_at`` on."""
        self._at = 0
        self._kept_size = 0
        self._held = False
        """Whether the transport below takes no more for now."""
        self._slow = False
        self._high = _HIGH
        self._scheduled = False
        self._closing = False

    def __repr__(self) -> str:
        state = "closed" if self._raw is None else "open" if self._open else "in its handshake"
        return f"ClientTls({state} closing={self._closing} kept={self._kept_size} {self._inner!r})"

    # ---- the protocol of the transport below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the protocol above; its client is known, and counted, from now on."""
        raw = self._raw = cast(asyncio.Transport, transport)
        raw.set_write_buffer_limits(high=_HIGH)
        self._settings.handshakes.begin(self)
        self.set_protocol(self._factory())
        cast(asyncio.Protocol, self._inner).connection_made(cast(asyncio.Transport, self))

    def data_received(self, data: bytes) -> None:
        """Decrypt what has arrived, or go on with the handshake."""
        if not self._open:
            self._shake(data)
        elif self._closing or self._over:
            return
        elif self._later is not None or not self._reading:
            # Only a transport that had read these bytes already passes them on now.
            before = b"" if self._later is None else bytes(self._later)
            self._later = memoryview(before + data)
        elif len(data) <= _FED:
            self._give(data)  # type: ignore[misc]  # it is there once the handshake is complete
            self._decrypt(len(data))
        else:
            self._feed(memoryview(data))

    def eof_received(self) -> bool:
        """Tell the protocol that the client sends no more. Many clients end a connection without TLS's own goodbye;
        then a request that is cut off is not carried out, as without TLS."""
        if self._over:
            return True  # the protocol knows, and closes the connection once all is answered
        if not self._open or self._inner is None:
            self._broken(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the client closed the connection"))
            return False
        self._over = True
        return bool(self._inner.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol that the connection is lost, and let go of everything."""
        inner, was_open = self._inner, self._open
        if not was_open:
            self._settings.handshakes.end(self)
        self._raw = self._inner = self._receiver = None
        self._open = False
        self._closing = True
        self._early = self._later = None
        self._kept.clear()
        self._kept_size = 0
        self._give = self._read = self._encrypt = self._take = self._send = None
        if not self._busy:
            self._tls = self._incoming = self._outgoing = None
        if inner is not None:
            inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Keep what is written from now on."""
        self._held = True
        self._weigh()

    def resume_writing(self) -> None:
        """Encrypt and send what was kept."""
        self._held = False
        self._go_on()

    # ---- the handshake

    def _shake(self, data: bytes) -> None:
        early = self._early
        if early is None:
            return
        early += data
        if len(early) > _FIRST_FLIGHT:
            self._broken(ssl.SSLError(ssl.SSL_ERROR_SSL, "the client sends too much in its handshake"))
        elif not self._busy and _whole(early):
            self._take_step()

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
            if early and _whole(early):
                self._take_step()
        else:
            self._establish(names)

    def _establish(self, names: Sequence[str] | None) -> None:
        raw, inner, early = self._raw, self._inner, self._early
        assert raw is not None
        assert early is not None
        self._settings.handshakes.end(self)
        self._settings.established(cast(ssl.SSLObject, self._tls))
        engine = getattr(self._tls, "_sslobj", self._tls)  # what SSLObject's methods call, without their frames
        self._read, self._encrypt = engine.read, engine.write
        self._give, self._take = cast(ssl.MemoryBIO, self._incoming).write, cast(ssl.MemoryBIO, self._outgoing).read
        self._send = raw.write
        self._open = True
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
        incoming, read = self._incoming, self._read
        assert incoming is not None
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
        that sends nothing else."""
        raw, outgoing = self._raw, self._outgoing
        if raw is None or outgoing is None:
            return
        if outgoing.pending:
            raw.write(outgoing.read())
        if self._empty > _EMPTY_MOST:
            self._fail(ConnectionAbortedError("the client sends records without data"))

    def _fill(self) -> int:
        """Decrypt into the protocol's own buffer; return how many bytes, 0 at the end."""
        inner = cast(asyncio.BufferedProtocol, self._inner)
        room = inner.get_buffer(-1)
        filled = cast(int, self._read(len(room), room))  # type: ignore[misc,arg-type]
        del room
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

    # ---- the transport of the protocol above: reading

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
        if self._later is not None or self._has_input():
            self._scheduled = True
            self._settings.handshakes.loop.call_soon(self._catch_up)
        else:
            self._raw.resume_reading()

    # ---- the transport of the protocol above: writing

    def write(self, data: bytes) -> None:
        """Send ``data``, now or as soon as the socket takes it."""
        size = len(data)
        if self._closing or not size:
            return
        if size <= _RECORD and self._open and not self._held and not self._kept_size:
            try:
                self._encrypt(data)  # type: ignore[misc]  # it is there once the handshake is complete
            except ssl.SSLError as error:
                self._fail(error)
                return
            self._send(self._take())  # type: ignore[misc]
            return
        self._kept.append(data)
        self._kept_size += size
        self._go_on()

    def writelines(self, pieces: Sequence[bytes]) -> None:
        """Send ``pieces``, now or as soon as the socket takes them."""
        if self._closing:
            return
        for piece in pieces:
            if piece:
                self._kept.append(piece)
                self._kept_size += len(piece)
        self._go_on()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Call ``pause_writing`` when more than ``high`` bytes are unsent, and ``resume_writing`` at a quarter of
        it."""
        self._high = _HIGH if high is None else high
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high=min(_HIGH, self._high))

    def get_write_buffer_size(self) -> int:
        """How many bytes are kept because the socket does not take them yet."""
        return self._kept_size if self._raw is None else self._kept_size + self._raw.get_write_buffer_size()

    def _go_on(self) -> None:
        """Encrypt and send what is kept, as much as the transport below takes and a turn has time for."""
        raw, outgoing, encrypt = self._raw, self._outgoing, self._encrypt
        if raw is None or not self._open or outgoing is None or encrypt is None:
            return
        bursts = _BURST
        try:
            while self._kept_size and not self._held and bursts:
                bursts -= 1
                output = []
                for _ in range(_CHUNK):
                    if not self._kept_size:
                        break
                    encrypt(self._next_record())
                    output.append(outgoing.read())
                raw.writelines(output)
                if self._raw is None:
                    return
        except ssl.SSLError as error:
            self._fail(error)
            return
        if self._kept_size and not self._held:
            self._settings.handshakes.loop.call_soon(self._go_on)
        self._weigh()
        if self._closing and not self._kept_size:
            self._finish()

    def _next_record(self) -> bytes | memoryview:
        """Take the plaintext of the next record from what is kept."""
        kept = self._kept
        first = kept[0]
        left = len(first) - self._at
        if left > _RECORD:
            at = self._at
            self._at = at + _RECORD
            self._kept_size -= _RECORD
            return memoryview(first)[at : at + _RECORD]
        kept.popleft()
        whole: bytes = first[self._at :] if self._at else first
        self._at = 0
        if kept and left + len(kept[0]) <= _RECORD:
            pieces = [whole]
            while kept and left + len(kept[0]) <= _RECORD:
                piece = kept.popleft()
                left += len(piece)
                pieces.append(piece)
            whole = b"".join(pieces)
        self._kept_size -= left
        return whole

    def _weigh(self) -> None:
        """Tell the protocol whether too much is unsent."""
        inner = self._inner
        if inner is None:
            return
        size = self.get_write_buffer_size()
        if size > self._high and not self._slow:
            self._slow = True
            inner.pause_writing()
        elif self._slow and size <= self._high // 4:
            self._slow = False
            inner.resume_writing()

    # ---- the end

    def is_closing(self) -> bool:
        """Whether the connection is closed, or will be once the kept bytes are sent."""
        return self._closing or self._raw is None or self._raw.is_closing()

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

    def abort(self) -> None:
        """Close the connection at once; kept bytes are lost."""
        self._closing = True
        if self._raw is not None:
            self._raw.abort()

    def _finish(self) -> None:
        """Say goodbye as TLS does (close_notify), and close."""
        raw, tls, outgoing = self._raw, self._tls, self._outgoing
        if raw is None or tls is None or outgoing is None:
            return
        try:
            tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the client's own goodbye is not waited for
        goodbye = outgoing.read()
        if goodbye:
            raw.write(goodbye)
        raw.close()

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


def _whole(early: bytearray) -> bool:
    """Whether a step can begin: a record is complete, or this is no handshake, so that OpenSSL can say so."""
    if early[0] != _HANDSHAKE or (len(early) > 1 and early[1] != _MAJOR):
        return True
    if len(early) < _HEADER:
        return False
    size = early[3] << 8 | early[4]
    return len(early) >= _HEADER + size or size > _RECORD
