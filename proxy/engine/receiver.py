"""Who gets what a connection receives."""


class Receiver:
    """The part of ``asyncio.Protocol`` that is called for every piece that comes."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes."""
        raise NotImplementedError
