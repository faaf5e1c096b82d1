"""The buffer of a large request of known size, filled by the transport itself."""

from mmap import mmap

_LARGE = 1 << 20
"""Bytes from which a buffer has pages of its own, which take memory only as they are filled."""


class Room:
    """A buffer of ``size`` bytes that begins with ``begun``; the transport reads the rest into ``buffer()``.

    This version copies the request once, when it is taken; the twin in receive_buffer.pyx fills the ``bytes`` itself.
    """

    __slots__ = ("_data", "left")

    def __init__(self, size: int, begun: bytes) -> None:
        if size < len(begun):
            raise ValueError("more is begun than there is room for")
        self._data: bytearray | mmap = bytearray(size) if size < _LARGE else mmap(-1, size)
        self._data[: len(begun)] = begun
        self.left = size - len(begun)
        """How many bytes are still missing."""

    def buffer(self) -> memoryview:
        """A writable view of the part that is still to be filled."""
        return memoryview(self._data)[len(self._data) - self.left :]

    def filled(self, count: int) -> None:
        """Record that ``count`` more bytes were written. Raises ``ValueError`` if there was no room for them."""
        if count < 0 or count > self.left:
            raise ValueError("more is filled than there is room for")
        self.left -= count

    def take(self) -> bytes:
        """The whole request, which is taken once. Raises ``ValueError`` if the buffer is not full."""
        if self.left:
            raise ValueError("it is not full")
        whole = bytes(self._data)
        self._data = bytearray()
        return whole
