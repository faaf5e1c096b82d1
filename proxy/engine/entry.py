"""A request on its way to a backend."""

from typing import NamedTuple

from proxy.engine.sink import Sink


class Entry(NamedTuple):
    """A request on its way: the sink and token of its reply, its bytes, and the time at which it came, in seconds."""

    sink: Sink
    token: int
    frame: bytes
    since: float
