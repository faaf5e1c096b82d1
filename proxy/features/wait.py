"""WAIT and WAITAOF: the number of replicas that have what a client wrote, on every shard that it wrote to.

A server counts the replicas that have everything up to the last write of the asking connection. The client's writes
went over shared connections, so a dedicated connection replicates a command without effect behind them, and waits for
that. For several shards the reply is the smallest number.
"""

import math
from collections.abc import Sequence

from proxy import errors, server_errors
from proxy.backends.blocking_request import UNBLOCKED, BlockingRequest
from proxy.backends.settings import Place
from proxy.features.blocking import Halt
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.resp.replies import BadReply, elements

_PING = encode.request(("PING",))
"""Servers before 7.2 wait for everything replicated before the connection's last command, whatever that command was."""
_SWAP = encode.request(("SWAPDB", 0, 0))
"""Replicated although it has no effect; not available in a cluster."""
_RESTORE = encode.request(("FUNCTION", "RESTORE", b"\n\x00]\x9b\\@\x0f\x7f\xa2\xda", "APPEND"))
"""Replicated although it adds no function (the payload is FUNCTION DUMP's reply of an empty Redis 7.0)."""
_UNKNOWN = b"-ERR unknown"
_WAIT = 3
"""The number of WAIT's arguments; WAITAOF has one more, and is answered with two numbers."""
_MOST = 64


def begin(modes: Modes, request: Request) -> bool:
    """Carry out a WAIT or WAITAOF. Returns False if it must wait until all earlier requests of its client are
    answered."""
    client = modes.client
    if not client.alone():
        return False
    if client.flow.ended:
        client.drain()
        return True
    service = client.service
    shards = len(service.topology.shards)
    if not shards:
        client.refuse(request.fact, server_errors.nobody(service.topology.cluster))
        return True
    wrote = client.wrote or modes.waited
    every = range(shards)
    # Writes to slots that no shard serves may belong to none of the shards: then all shards are asked.
    asked = [shard for shard in every if wrote >> (shard % _MOST) & 1] or every
    WaitRequest(modes, request, asked, wrote != 0).start()
    return True


class WaitRequest:
    """One WAIT or WAITAOF of a client, on all its shards."""

    def __init__(self, modes: Modes, request: Request, shards: Sequence[int], wrote: bool) -> None:
        self.modes = modes
        self.args = request.args
        self.frame = request.frame
        self.wrote = wrote
        self._halt = Halt(modes, request.fact)
        self._counts: list[list[int]] = []
        self._waits = 0
        """The number of shards that have the command."""
        self._over = False
        modes.block = self
        milliseconds = parse_integer(request.args[-1]) or 0
        seconds = milliseconds / 1000 if milliseconds > 0 else math.inf
        self._parts = [ShardWait(self, modes.client.service.topology.shards[shard].name, seconds) for shard in shards]

    def start(self) -> None:
        """Send the command to all shards."""
        for part in self._parts:
            if not self._over:
                part.start()

    def unblock(self, error: bool) -> None:
        """End the command with the shards' numbers of this moment, or with an ``error``."""
        if error:
            self._finish(UNBLOCKED)
            return
        for part in self._parts:
            part.unblock(False)

    def leave(self) -> None:
        """End the command, as the client is to be closed."""
        self._halt.leaving = True
        self._finish(UNBLOCKED)

    def cancel(self) -> None:
        """End the command, as the client is gone."""
        self._over = True
        self._halt.end()
        self._drop()

    def waits(self, change: int) -> None:
        """Count one more shard that has the command (1), or one less (-1)."""
        self._waits += change
        if not self._over:
            self._halt.waits(self._waits == len(self._parts))

    def take(self, reply: bytes) -> None:
        """Take the reply of a shard."""
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
        # The wanted numbers are the arguments before the timeout, in the same order.
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
    """The part of a WAIT or WAITAOF for one shard."""

    __slots__ = ("_shard", "_waits", "_whole")

    def __init__(self, whole: WaitRequest, shard: str, seconds: float) -> None:
        client = whole.modes.client
        super().__init__(client.service.upstream, client.holder, seconds, readonly=True)
        self._whole = whole
        self._shard = shard
        self._waits = False

    def place(self) -> Place | bytes | None:
        """Return the place of the shard's primary."""
        upstream = self.upstream
        index = upstream.topology.index(self._shard)
        if index < 0:
            return encode.error(server_errors.shard_left(self._shard))
        session = self._whole.modes.client.session
        # The command ahead is the proxy's own, for which the client's user at the servers may have no rights.
        user = "" if self._whole.wrote else session.route.server_user
        return upstream.primary(index, session.protocol, session.db, user)

    def requests(self, remaining: float | None) -> Sequence[bytes]:
        """Return the replicated command without effect, and the command."""
        whole = self._whole
        frame = whole.frame
        if remaining is not None:
            frame = encode.request((*whole.args[:-1], math.ceil(remaining * 1000)))
        if not whole.wrote:
            return (frame,)
        return (_PING, _RESTORE if self.upstream.topology.cluster else _SWAP, frame)

    def heard(self, index: int, reply: bytes) -> bool:
        """Take the reply to the command ahead. If it failed, nothing can be said about the replicas, except on servers
        too old to know it: these do not need it."""
        return reply[:1] != b"-" or reply.startswith(_UNKNOWN)

    def waits(self, on: bool) -> None:
        """Note whether the shard has the command."""
        if on is not self._waits:
            self._waits = on
            self._whole.waits(1 if on else -1)

    def answer(self, reply: bytes) -> None:
        """Pass on the number of replicas."""
        self._whole.take(reply)

    def nothing(self) -> bytes:
        """Return zeros, as no server was asked."""
        return encode.array((encode.ZERO, encode.ZERO)) if len(self._whole.args) > _WAIT else encode.ZERO
