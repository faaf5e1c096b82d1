"""WAIT and WAITAOF: how many replicas have what a client wrote, on every shard that it wrote to.

A server counts the replicas that have all that was replicated up to the last write of the connection that asks. What a
client wrote went over shared connections: so a connection of its own replicates something behind it that changes
nothing, and waits for that. With several shards the smallest number is the answer.
"""

import math
from collections.abc import Sequence

from proxy import errors
from proxy.backends.blocking_request import UNBLOCKED, BlockingRequest
from proxy.backends.settings import Place
from proxy.features.blocking import Halt
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.resp.replies import BadReply, elements

_PING = encode.request(("PING",))
"""Servers before 7.2 wait for what was replicated before the connection's last command, whatever that was."""
_SWAP = encode.request(("SWAPDB", 0, 0))
"""Replicated though it changes nothing; not known in a cluster."""
_RESTORE = encode.request(("FUNCTION", "RESTORE", b"\n\x00]\x9b\\@\x0f\x7f\xa2\xda", "APPEND"))
"""No function at all is added (the payload is what FUNCTION DUMP of an empty Redis 7.0 answers): replicated too."""
_UNKNOWN = b"-ERR unknown"
_WAIT = 3
"""Arguments of WAIT; WAITAOF has one more, and is answered by two numbers."""
_MOST = 64


def begin(modes: Modes, request: Request) -> bool:
    """Carry out a WAIT or WAITAOF. False if it must wait until all that its client sent is answered."""
    client = modes.client
    if not client.alone():
        return False
    if client.flow.ended:
        client.drain()
        return True
    service = client.service
    shards = len(service.topology.shards)
    if not shards:
        client.refuse(request.fact, errors.nobody(service.topology.cluster))
        return True
    wrote = client.wrote or modes.waited
    every = range(shards)
    # What it wrote to slots that nobody serves may be none of them: then any would do, and all are asked.
    asked = [shard for shard in every if wrote >> (shard % _MOST) & 1] or every
    WaitRequest(modes, request, asked, wrote != 0).start()
    return True


class WaitRequest:
    """One WAIT or WAITAOF of a client, on all shards that it is about."""

    def __init__(self, modes: Modes, request: Request, shards: Sequence[int], wrote: bool) -> None:
        self.modes = modes
        self.args = request.args
        self.frame = request.frame
        self.wrote = wrote
        self._halt = Halt(modes, request.fact)
        self._counts: list[list[int]] = []
        self._waits = 0
        """How many shards have it."""
        self._over = False
        modes.block = self
        milliseconds = parse_integer(request.args[-1]) or 0
        seconds = milliseconds / 1000 if milliseconds > 0 else math.inf
        self._parts = [ShardWait(self, modes.client.service.topology.shards[shard].name, seconds) for shard in shards]

    def start(self) -> None:
        """Ask all shards."""
        for part in self._parts:
            if not self._over:
                part.start()

    def unblock(self, error: bool) -> None:
        """End it: with what the shards say now, or by an ``error``."""
        if error:
            self._finish(UNBLOCKED)
            return
        for part in self._parts:
            part.unblock(False)

    def leave(self) -> None:
        """The client is to be closed."""
        self._halt.leaving = True
        self._finish(UNBLOCKED)

    def cancel(self) -> None:
        """The client is gone."""
        self._over = True
        self._halt.end()
        self._drop()

    def waits(self, change: int) -> None:
        """One shard more has it (1), or one less (-1)."""
        self._waits += change
        if not self._over:
            self._halt.waits(self._waits == len(self._parts))

    def take(self, reply: bytes) -> None:
        """What a shard answers."""
        if self._over:
            return
        if reply[:1] == b"-":
            self._finish(reply)
            return
        several = len(self.args) > _WAIT
        try:
            items = elements(reply) if several else [reply]
            counts = [int(item[1:-2]) for item in items if item[:1] == b":"]
        except (BadReply, ValueError):
            counts = []
        if len(counts) != 1 + several:
            self._finish(encode.error(errors.NO_MERGE))
            return
        self._counts.append(counts)
        if len(self._counts) < len(self._parts):
            return
        fewest = [min(column) for column in zip(*self._counts, strict=True)]
        # The numbers that were asked for stand in the same order before the timeout.
        if all(found >= (parse_integer(asked) or 0) for found, asked in zip(fewest, self.args[1:], strict=False)):
            client = self.modes.client
            self.modes.waited = client.wrote or self.modes.waited
            client.wrote = 0
        found = [encode.integer(count) for count in fewest]
        self._finish(encode.array(found) if several else found[0])

    def _finish(self, reply: bytes) -> None:
        self._over = True
        self._drop()
        self._halt.answer(reply)

    def _drop(self) -> None:
        for part in self._parts:
            part.cancel()


class ShardWait(BlockingRequest):
    """The part of one shard."""

    __slots__ = ("_shard", "_waits", "_whole")

    def __init__(self, whole: WaitRequest, shard: str, seconds: float) -> None:
        client = whole.modes.client
        super().__init__(client.service.upstream, client.holder, seconds, readonly=True)
        self._whole = whole
        self._shard = shard
        self._waits = False

    def place(self) -> Place | bytes | None:
        """The shard's primary."""
        upstream = self.upstream
        index = upstream.topology.index(self._shard)
        if index < 0:
            return encode.error(errors.shard_left(self._shard))
        session = self._whole.modes.client.session
        return upstream.primary(index, session.protocol, session.db)

    def requests(self, remaining: float | None) -> Sequence[bytes]:
        """What is replicated and changes nothing, and the command."""
        whole = self._whole
        frame = whole.frame
        if remaining is not None:
            frame = encode.request((*whole.args[:-1], math.ceil(remaining * 1000)))
        if not whole.wrote:
            return (frame,)
        return (_PING, _RESTORE if self.upstream.topology.cluster else _SWAP, frame)

    def heard(self, index: int, reply: bytes) -> bool:
        """What must be replicated was not: nothing can be said. Servers that do not know it are so old that they need
        none."""
        return reply[:1] != b"-" or reply.startswith(_UNKNOWN)

    def waits(self, on: bool) -> None:
        """The shard has it, or not."""
        if on is not self._waits:
            self._waits = on
            self._whole.waits(1 if on else -1)

    def answer(self, reply: bytes) -> None:
        """How many replicas have it."""
        self._whole.take(reply)

    def nothing(self) -> bytes:
        """Nobody was asked, so nobody is known to have it."""
        return encode.array((encode.ZERO, encode.ZERO)) if len(self._whole.args) > _WAIT else encode.ZERO
