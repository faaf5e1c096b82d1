"""Room for a large request of known size, filled by the transport itself."""


class Room:
    """``size`` bytes, of which ``begun`` are there already; the transport reads the rest into ``buffer()``.

    Here the whole is copied once, when it is taken; the twin in receive_buffer.pyx fills the ``bytes`` itself.
    """

    __slots__ = ("_data", "left")

    def __init__(self, size: int, begun: bytes) -> None:
        if size < len(begun):
            raise ValueError("more is begun than there is room for")
        self._data = bytearray(size)
        self._data[: len(begun)] = begun
        self.left = size - len(begun)
        """How many bytes are missing."""

    def buffer(self) -> memoryview:
        """What is still to be filled; writable."""
        return memoryview(self._data)[len(self._data) - self.left :]

    def filled(self, count: int) -> None:
        """``count`` more bytes are there."""
        if count < 0 or count > self.left:
            raise ValueError("more is filled than there is room for")
        self.left -= count

    def take(self) -> bytes:
        """The whole; it is full, and taken once."""
        if self.left:
            raise ValueError("it is not full")
        whole = bytes(self._data)
        self._data = bytearray()
        return whole
