"""The base class of the protocols that receive the bytes of a connection."""


class Receiver:
    """The part of ``asyncio.Protocol`` that is called for every piece received."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes."""
        raise NotImplementedError
