"""A request that a server may keep waiting: a command that blocks, or a shard's part of WAIT.

The request is sent to the shard's primary, and is sent again to the primary of that moment as long as no server has
carried it out: a failover or a resharding takes time, but is no error. The time for which the command may block
(``seconds``) runs on across the attempts.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from proxy import errors, server_errors
from proxy.backends.dedicated_pool import Lease
from proxy.backends.dedicated_request import FORCED, DedicatedRequest, Fate, RequestPolicy
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import WholeReplySink
from proxy.planning.proof import Doubt, runs_code
from proxy.planning.refusals import TRYAGAIN, Refusal
from proxy.resp import encode

_FORCED = b"-UNBLOCKED force unblock"
"""The beginning of the error of a server whose role has changed (Redis 6.2 to 8, Valkey). Other UNBLOCKED errors
concern data."""
_PING = encode.request(("PING",))
"""Written in one piece with the command and ahead of it: the reply to PING proves that the server has read both."""
_ONCE_MORE = 0.01
"""Seconds until CLIENT UNBLOCK is repeated when the server did not find the client blocked, as its command is on the
way."""
_LATE = 0.1
"""Seconds after which the remaining time of the command is computed anew for each attempt."""
_SHORTEST = 0.001
"""The time in seconds that is sent when no time remains: the server then words the reply of a command that timed
out."""
_STOOD = 1.0
"""Seconds after which a command that a server kept counts as accepted; a later refusal begins a new retry deadline."""
UNBLOCKED = encode.error("UNBLOCKED client unblocked via CLIENT UNBLOCK")


class BlockingRequest(DedicatedRequest):
    """One request that may be kept waiting. A subclass says where the request is sent, what is sent, and who gets the
    answer.

    ``readonly``: the request may be sent twice. ``seconds``: how long a server may keep the request waiting on purpose;
    ``math.inf`` means without limit.
    """

    __slots__ = ("_began", "_entries", "_error", "_first", "_requests", "_seconds", "_sent", "_unblocking")

    policy = RequestPolicy("{reason}", lasting=True, idle_ends=8)

    def __init__(self, upstream: Upstream, holder: str, seconds: float, *, readonly: bool) -> None:
        super().__init__(upstream, holder, repeat=readonly, limit=seconds + upstream.timing.request_timeout)
        self._seconds = seconds
        self._began = upstream.turn.now()
        self._entries = 0
        """The number of replies to the frames of this attempt that have not arrived yet."""
        self._first = 0
        """The index of the subclass's first frame in ``_requests``."""
        self._requests: Sequence[bytes] = ()
        """The frames of the last attempt."""
        self._sent = 0.0
        """The time of the last attempt."""
        self._unblocking = False
        """Whether CLIENT UNBLOCK has been sent."""
        self._error = False
        """Whether CLIENT UNBLOCK asks for an error."""

    # ---- methods of the subclass

    def place(self) -> Place | bytes | None:
        """Return the place where the request belongs now; an error reply if the request can not be sent any more; None
        if the place is not known yet."""
        raise NotImplementedError

    def requests(self, remaining: float | None) -> Sequence[bytes]:
        """Return the frames of one attempt, which are sent in one piece; the reply to the last frame is the answer.
        ``remaining``: the seconds for which the request may still be kept waiting; None means the time that the client
        gave."""
        raise NotImplementedError

    def heard(self, index: int, reply: bytes) -> bool:
        """Take the reply to a frame that is not the last one. Return whether the reply to the last frame is still
        wanted; if not, ``reply`` is the answer."""
        return True

    def waits(self, on: bool) -> None:
        """Note whether a server has the command (``on``): the server keeps the command waiting, or answers at once."""

    def answer(self, reply: bytes) -> None:
        """Take the answer to the request."""
        raise NotImplementedError

    def nothing(self) -> bytes:
        """Return the reply for a client that is unblocked before a server has its command."""
        raise NotImplementedError

    # ---- attempts

    def where(self) -> Place | Refusal | bytes:
        """Return the place that the subclass names; for one attempt, the server that a redirection named."""
        node, self.node = self.node, None
        place = self.place()
        if isinstance(place, bytes):
            return place
        if place is None:
            self.asking = False
            return Refusal("", encode.error(server_errors.nobody(self.upstream.topology.cluster)))
        if node is not None:
            place = replace(place, node=node, index=0)
        return self.usable(place)

    def write(self, lease: Lease, now: float) -> float | None:
        """Write the subclass's frames, with the time that remains."""
        self._sent = now
        remaining: float | None = None
        patience: float | None = None
        if self._seconds < math.inf:
            left = max(self._began + self._seconds - now, _SHORTEST)
            if now - self._began > _LATE:
                remaining = left
            patience = left + self.upstream.timing.request_timeout
        requests = self.requests(remaining)
        self._first = int(len(requests) == 1)
        requests = self._requests = (_PING, *requests) if self._first else requests
        self._entries = len(requests)
        for index, frame in enumerate(requests):
            if index < self._first:
                lease.send(self, index, frame, now)
            else:
                self.ask(lease, self, index, frame, now)
        return patience

    def ended(self, fate: Fate, reply: bytes, lease: Lease | None) -> None:
        """Give the connection back to the pool, and the answer to the subclass."""
        if lease is not None:
            # A blocking command handles data: it does not change the connection's state. The code of a module may have.
            said = reply[:1] in (b"-", b"+") and runs_code(self.upstream.inspector.resolve(self._requests[-1])[0])
            self.upstream.leases.give_back(lease, untouched=not said)
        self.answer(reply)

    def unblock(self, error: bool) -> None:
        """End the request as CLIENT UNBLOCK does: as if the time were over, or with an ``error``."""
        self._error = error
        if self.lease is None:
            self.finish(Fate.FAILED, self._unblocked())
        elif not self._unblocking:
            self._unblocking = True
            self._tell(self.lease)

    def take(self, token: int, reply: bytes) -> None:
        """Take the reply to the frame with the index ``token``."""
        self._entries -= 1
        if self._entries == 1:
            self.waits(True)
        if token < self._first:
            return
        lease = self.lease
        assert lease is not None
        if reply[:1] == b"-":
            frame = self._requests[token]
            refusal = self.upstream.events.refusal(reply, lease.place.node, frame)
            if isinstance(refusal, Doubt):
                error = refusal.error
                self.prove(lease, refusal, lambda: self._take(lease, token, error))
                return
            if refusal is not None:
                self.refused(lease, refusal)
                return
            if reply.startswith(_FORCED) and not runs_code(self.upstream.inspector.resolve(frame)[0]):
                # The server closes the connection.
                self.trouble = None
                self.refused(lease, Refusal(FORCED, reply))
                return
        self._take(lease, token, reply)

    def _take(self, lease: Lease, token: int, reply: bytes) -> None:
        """Take a reply that is no refusal."""
        if not self._entries:
            self.let_go(lease)
            self.finish(Fate.ANSWERED, reply, lease)
        elif not self.heard(token - self._first, reply):
            self.finish(Fate.ANSWERED, reply)

    def refused(self, lease: Lease, refusal: Refusal) -> None:
        """Send the request again. A server that had kept the request for a while had accepted it: the retry deadline
        begins anew."""
        self.waits(False)
        if self.upstream.turn.now() - self._sent > _STOOD:
            self.trouble = None
        super().refused(lease, refusal)

    def retry(self, error: bytes, refusal: Refusal | None = None, *, idle: bool = False) -> None:
        """Try again; meanwhile no server has the command."""
        self.waits(False)
        super().retry(error, refusal, idle=idle)

    def sleep(self, seconds: float, refusal: Refusal | None) -> None:
        """Try again in ``seconds``, unless the client was unblocked or the command's time is over."""
        if self._unblocking:
            self.finish(Fate.FAILED, self._unblocked())
            return
        if refusal is not None and refusal.kind == TRYAGAIN:
            # The slot is served, and only its keys are on two servers: the wait counts as the command's own time.
            left = self._began + self._seconds - self.upstream.turn.now()
            if left <= 0:
                self.finish(Fate.FAILED, self.nothing())
                return
            seconds = min(seconds, left)
        super().sleep(seconds, refusal)

    # ---- CLIENT UNBLOCK

    def _unblocked(self) -> bytes:
        """Return the reply that CLIENT UNBLOCK asks for."""
        return UNBLOCKED if self._error else self.nothing()

    def _tell(self, lease: Lease) -> None:
        """Send CLIENT UNBLOCK for the connection to its server."""
        if self.lease is not lease:
            return
        upstream = self.upstream
        kind = "ERROR" if self._error else "TIMEOUT"
        frame = encode.request(("CLIENT", "UNBLOCK", lease.client_id, kind))
        upstream.shared(lease.place).send(_Unblocked(self, lease), 0, frame, upstream.turn.now(), None)

    def told(self, lease: Lease, reply: bytes) -> None:
        """Take the server's reply to CLIENT UNBLOCK. A connection that was not blocked may be about to block, so the
        command is repeated. If a server refuses the command, the connection is closed."""
        if reply.startswith(b":0"):
            self.upstream.loop.call_later(_ONCE_MORE, self._tell, lease)
        elif reply.startswith(b"-") and self.lease is lease:
            if self.repeat:
                self.finish(Fate.FAILED, self._unblocked())
            else:
                self.uncertain(lease.place, f"does not unblock a client ({errors.text(reply[1:-2])})")


class _Unblocked(WholeReplySink):
    """Takes a server's reply to CLIENT UNBLOCK."""

    __slots__ = ("_lease", "_request")

    def __init__(self, request: BlockingRequest, lease: Lease) -> None:
        self._request = request
        self._lease = lease

    @property
    def counted(self) -> bool:
        """No client sent the command."""
        return False

    def take(self, token: int, reply: bytes) -> None:
        """Pass the reply to the request."""
        self._request.told(self._lease, reply)
