"""The writing half of TLS on a client's connection: plaintext from the protocol above, ciphertext out.

Plaintext that the socket does not take yet is kept unencrypted, and is encrypted piece by piece while the transport
below sends; both count as unsent. So a reply of any size is in memory once, and no turn of the loop encrypts it whole.
"""

import contextlib
import ssl
from collections import deque
from collections.abc import Sequence

from proxy.transport.tls_input import RECORD, TlsInput, TlsSettings

_RECORD = RECORD
_AT_ONCE = 32 * 1024
"""The most bytes that are encrypted with one call where nothing is kept: OpenSSL makes records of them, and its buffer
grows to as much."""
_CHUNK = 8
"""Records that are encrypted before they are sent together."""
_BURST = 8
"""The most such chunks in a row, about 1 MB, which takes about a millisecond; other clients get their turn then."""
HIGH = 64 * 1024
"""The most bytes of ciphertext that the transport below keeps before plaintext is kept instead."""


class TlsOutput(TlsInput):
    """The base class of ``ClientTls`` that encrypts and sends."""

    __slots__ = (
        "_at",
        "_held",
        "_high",
        "_kept",
        "_kept_size",
        "_slow",
    )

    def __init__(self, settings: TlsSettings) -> None:
        super().__init__(settings)
        self._kept: deque[bytes] = deque()
        """Plaintext that is not encrypted yet: the pieces, the first of them from ``_at`` on."""
        self._at = 0
        self._kept_size = 0
        self._held = False
        """Whether the transport below takes no more for now."""
        self._slow = False
        self._high = HIGH

    def end_records(self) -> None:
        """Let go of the connection, and of what was kept for it."""
        TlsInput.end_records(self)
        self._kept.clear()
        self._kept_size = 0

    def write(self, data: bytes) -> None:
        """Send ``data``, now or as soon as the socket takes it."""
        size = len(data)
        if self._closing or not size:
            return
        if size <= _AT_ONCE and self._open and not self._held and not self._kept_size:
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
        if self._open and not self._held and not self._kept_size:
            size = 0
            for piece in pieces:
                size += len(piece)
            if size <= _AT_ONCE:
                self.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
                return
        for piece in pieces:
            if piece:
                self._kept.append(piece)
                self._kept_size += len(piece)
        self._go_on()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Call ``pause_writing`` when more than ``high`` bytes are unsent, and ``resume_writing`` at a quarter of
        it."""
        self._high = HIGH if high is None else high
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high=min(HIGH, self._high))

    def get_write_buffer_size(self) -> int:
        """How many bytes are kept because the socket does not take them yet."""
        return self._kept_size if self._raw is None else self._kept_size + self._raw.get_write_buffer_size()

    def pause_writing(self) -> None:
        """Keep what is written from now on."""
        self._held = True
        self._weigh()

    def resume_writing(self) -> None:
        """Encrypt and send what was kept."""
        self._held = False
        self._go_on()

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

    def _finish(self) -> None:
        """Say goodbye as TLS does (close_notify), and close."""
        raw, tls, outgoing = self._raw, self._tls, self._outgoing
        if raw is None or tls is None or outgoing is None:
            return
        with contextlib.suppress(ssl.SSLError, ValueError):  # the client's own goodbye is not waited for
            tls.unwrap()
        goodbye = outgoing.read()
        if goodbye:
            raw.write(goodbye)
        raw.close()
