"""A request on its way to a backend."""

from typing import NamedTuple

from proxy.engine.sink import Sink


class Entry(NamedTuple):
    """A request on its way: who gets the reply, the bytes (kept until answered), and when it came, in seconds."""

    sink: Sink
    token: int
    frame: bytes
    since: float
