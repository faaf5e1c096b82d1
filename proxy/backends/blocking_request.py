"""What one client asks a shard over a connection of its own, until it is answered there.

It is sent to the shard's primary, and again to whoever is that then, as long as it was not carried out: a failover or
a resharding is time that passes, not an error. What the servers may take on purpose (``seconds``) does not begin anew.
"""

import asyncio
import math
from collections.abc import Sequence

from proxy import errors
from proxy.backends.dedicated_pool import Claim, Lease
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import ASKED, WholeReplySink
from proxy.planning.proof import Doubt, Proof, runs_code
from proxy.planning.refusals import ASKING, READONLY, TRYAGAIN, Refusal, pause
from proxy.resp import encode
from proxy.transport.clock import Deadline

_FORCED = b"-UNBLOCKED force unblock"
"""How a server words that it has another role now (Redis 6.2 to 8, Valkey). Another UNBLOCKED is about data."""
_PING = encode.request(("PING",))
"""What tells that a server has the command: written ahead of it in one piece, it is answered when both are read."""
_IDLE_ENDS = 8
"""So many idle connections in a row may turn out to be over before it is tried again more slowly."""
_ONCE_MORE = 0.01
"""Seconds until a server is told again to unblock a client that it did not find blocked: its command is on the way."""
_LATE = 0.1
"""Seconds after which the time is told anew that a command may still block."""
_SHORTEST = 0.001
"""Seconds that a command may block whose time is over: the server words what that means."""
_STOOD = 1.0
"""A command that a server kept for so many seconds was accepted there: what refuses it then is a new trouble."""
UNBLOCKED = encode.error("UNBLOCKED client unblocked via CLIENT UNBLOCK")


class BlockingRequest(WholeReplySink):
    """One request. Who makes it says where to, what is sent and what becomes of the answer.

    ``readonly``: it may be sent twice. ``seconds``: how long it may be kept waiting on purpose, ``math.inf`` for ever.
    """

    __slots__ = (
        "_asking",
        "_began",
        "_claim",
        "_entries",
        "_error",
        "_first",
        "_hops",
        "_lease",
        "_over",
        "_patience",
        "_readonly",
        "_refusal",
        "_requests",
        "_seconds",
        "_sent",
        "_timer",
        "_trouble",
        "_unblocking",
        "upstream",
    )

    def __init__(self, upstream: Upstream, seconds: float, *, readonly: bool) -> None:
        self.upstream = upstream
        self._seconds = seconds
        self._readonly = readonly
        self._began = upstream.turn.now()
        self._claim: Claim | None = None
        self._lease: Lease | None = None
        self._asking = False
        """Whether the server serves the slot only when it is asked to."""
        self._entries = 0
        """How many replies are still to come."""
        self._first = 0
        """Which of the requests is the first of the maker's."""
        self._requests: Sequence[bytes] = ()
        """What was sent."""
        self._sent = 0.0
        self._timer: asyncio.TimerHandle | None = None
        """Until it is tried again."""
        self._patience: Deadline | None = None
        """Until the server is given up."""
        self._refusal: Refusal | None = None
        self._hops = 0
        self._trouble = 0.0
        """Since when it is refused; 0: it is not."""
        self._unblocking = False
        """CLIENT UNBLOCK has been sent."""
        self._error = False
        self._over = False

    # ---- what its maker says

    def place(self) -> Place | bytes | None:
        """Where it belongs now; an error reply if it can be sent nowhere any more; None if nobody knows yet."""
        raise NotImplementedError

    def holder(self) -> str:
        """Whose its connection is, of users at addresses."""
        raise NotImplementedError

    def requests(self, remaining: float | None) -> Sequence[bytes]:
        """What is sent in one piece; the last one's reply is the answer. ``remaining``: for how many seconds it may
        still be kept waiting, None if as long as it was told."""
        raise NotImplementedError

    def heard(self, index: int, reply: bytes) -> bool:
        """The reply to a request that is not the last one: whether the last one's is still wanted, else this is the
        answer."""
        return True

    def waits(self, on: bool) -> None:
        """A server has the command, and keeps it waiting, or will answer it at once; or, not ``on``, none has it."""

    def answer(self, reply: bytes) -> None:
        """It is over."""
        raise NotImplementedError

    def nothing(self) -> bytes:
        """The reply if it is unblocked before a server has it."""
        raise NotImplementedError

    # ---- its life

    def start(self) -> None:
        """Set out."""
        refusal, self._refusal = self._refusal, None
        self._timer = None
        place = self.place()
        if isinstance(place, bytes):
            self._finish(place)
            return
        if place is None:
            self._retry(encode.error(errors.nobody(self.upstream.topology.cluster)))
            return
        asking = False
        if refusal is not None and refusal.node is not None:
            place = Place(place.shard, refusal.node, True, place.protocol, place.db, 0)
            asking = refusal.asks
        shared = self.upstream.shared(place)
        if not shared.usable:
            self._finish(shared.down_error())
            return

        def then(found: Lease | str) -> None:
            self._claim = None
            if isinstance(found, Lease):
                self._send(found, asking)
            elif found.startswith("SHARDDOWN"):
                self._retry(encode.error(found))
            else:
                self._finish(encode.error(found))

        claim = self.upstream.leases.ask(place, then, self.holder())
        self._claim = None if claim.cancelled else claim

    def unblock(self, error: bool) -> None:
        """End it as CLIENT UNBLOCK does: as if its time were over, or by an ``error``."""
        self._error = error
        if self._lease is None:
            self._finish(UNBLOCKED if error else self.nothing())
        elif not self._unblocking:
            self._unblocking = True
            self._tell(self._lease)

    def cancel(self) -> None:
        """Nobody waits for it any more: end it at once, at the server too."""
        self._over = True
        self._rest()
        if self._claim is not None:
            self._claim.cancel()
        if self._lease is not None:
            self._lease.drop()
            self._lease = None

    def _send(self, lease: Lease, asking: bool) -> None:
        upstream = self.upstream
        now = self._sent = upstream.turn.now()
        self._lease = lease
        lease.on_lost = self._lost
        remaining: float | None = None
        if self._seconds < math.inf:
            left = max(self._began + self._seconds - now, _SHORTEST)
            if now - self._began > _LATE:
                remaining = left
            self._patience = upstream.turn.clock.call_later(left + upstream.timing.request_timeout, self._give_up)
        self._asking = asking
        requests = self.requests(remaining)
        self._first = int(len(requests) == 1)
        requests = self._requests = (_PING, *requests) if self._first else requests
        self._entries = len(requests)
        for index, frame in enumerate(requests):
            if asking and index >= self._first:
                lease.send(ASKED, 0, ASKING, now)
            lease.send(self, index, frame, now)

    def take(self, token: int, reply: bytes) -> None:
        """Take a reply."""
        self._entries -= 1
        if self._entries == 1:
            self.waits(True)
        if token < self._first:
            return
        lease = self._lease
        assert lease is not None
        if reply[:1] == b"-":
            frame = self._requests[token]
            refusal = self.upstream.events.refusal(reply, lease.place.node, frame)
            if isinstance(refusal, Doubt):
                self._prove(lease, refusal, token)
                return
            if refusal is not None:
                self._refused(refusal)
                return
            if reply.startswith(_FORCED) and not runs_code(self.upstream.inspector.resolve(frame)[0]):
                # It closes the connection.
                self._trouble = 0.0
                self._refused(Refusal("UNBLOCKED", reply))
                return
        self._take(lease, token, reply)

    def _prove(self, lease: Lease, doubt: Doubt, token: int) -> None:
        """A module's command was refused, or says so: the server is asked. ``token``: the request's."""

        def told(reply: bytes) -> None:
            if self._lease is not lease:
                return
            found = doubt.judge(reply, lease.place.node)
            if found is None:
                self._take(lease, token, doubt.error)
            else:
                self._refused(found)

        now = self.upstream.turn.now()
        lease.on_lost = lambda reason, sent: self._finish(doubt.error)
        if self._asking:
            lease.send(ASKED, 0, ASKING, now)
        lease.send(Proof(told), 0, doubt.twin, now)

    def _take(self, lease: Lease, token: int, reply: bytes) -> None:
        """It is no refusal."""
        if self._entries:
            if not self.heard(token - self._first, reply):
                self._lease = None
                lease.drop()
                self._finish(reply)
            return
        self._lease = None
        self._rest()
        # What blocks is about data: no connection is in another state behind it. A module may have said more.
        said = reply[:1] in (b"-", b"+") and runs_code(self.upstream.inspector.resolve(self._requests[token])[0])
        self.upstream.leases.give_back(lease, untouched=not said)
        self._finish(reply)

    def _refused(self, refusal: Refusal) -> None:
        """It was not carried out: where it belongs now, it will be."""
        upstream = self.upstream
        self.waits(False)
        lease, self._lease = self._lease, None
        assert lease is not None
        self._rest()
        if refusal.kind == READONLY:
            upstream.events.demoted(lease.place)
        if self._entries or refusal.kind in ("UNBLOCKED", READONLY):
            lease.drop()
        else:
            upstream.leases.give_back(lease, untouched=True)
        upstream.counters.redirect(refusal.kind)
        upstream.events.hint(refusal.hint)
        if upstream.turn.now() - self._sent > _STOOD:
            self._trouble = 0.0
        self._refusal = refusal if refusal.node is not None else None
        self._retry(refusal.error, refusal)

    def _lost(self, reason: str, sent: bool) -> None:
        lease, self._lease = self._lease, None
        assert lease is not None
        self._rest()
        self.waits(False)
        place = lease.place
        upstream = self.upstream
        down = encode.error(errors.shard_down(place.shard, place.node.address, reason))
        if not sent:
            self._retry(down, soon=True)
            return
        upstream.events.hint(None)
        if self._readonly:
            upstream.counters.retries += 1
            self._retry(down)
            return
        self._uncertain(place, reason)

    def _give_up(self) -> None:
        """The server says nothing though it should."""
        lease, self._lease = self._lease, None
        self._patience = None
        assert lease is not None
        lease.drop()
        self.upstream.counters.timeouts += 1
        place, seconds = lease.place, self._seconds + self.upstream.timing.request_timeout
        if self._readonly:
            self._finish(encode.error(errors.timed_out(place.shard, place.node.address, seconds)))
        else:
            self._uncertain(place, f"did not answer within {seconds:g} s")

    def _uncertain(self, place: Place, reason: str) -> None:
        self.upstream.counters.uncertain += 1
        self._finish(encode.error(errors.uncertain(place.shard, place.node.address, reason)))

    def _retry(self, error: bytes, refusal: Refusal | None = None, *, soon: bool = False) -> None:
        """Try again after a while, unless it has been refused for too long: then ``error`` is the answer. ``soon``: an
        idle connection was over, others may be there."""
        now = self.upstream.turn.now()
        if self._over:
            return
        if not self._trouble:
            self._trouble = now
            self._hops = 0
        self._hops += 1
        if now - self._trouble >= self.upstream.timing.retry_deadline:
            self._finish(error)
        elif self._unblocking:
            self._finish(UNBLOCKED if self._error else self.nothing())
        else:
            wait = pause(self._hops - 1) if refusal is None else refusal.wait(self._hops - 1)
            if soon and self._hops <= _IDLE_ENDS:
                wait = 0.0
            if refusal is not None and refusal.kind == TRYAGAIN:
                # The slot is served, and only its keys are apart: that is part of the time that was asked for.
                left = self._began + self._seconds - now
                if left <= 0:
                    self._finish(self.nothing())
                    return
                wait = min(wait, left)
            self._timer = self.upstream.loop.call_later(wait, self.start)

    def _tell(self, lease: Lease) -> None:
        """Have the server unblock it."""
        if self._lease is not lease:
            return
        upstream = self.upstream
        kind = "ERROR" if self._error else "TIMEOUT"
        frame = encode.request(("CLIENT", "UNBLOCK", lease.client_id, kind))
        upstream.shared(lease.place).send(_Unblocked(self, lease), 0, frame, upstream.turn.now(), None)

    def told(self, lease: Lease, reply: bytes) -> None:
        """The server has heard it; if it has not found the client blocked, it may be about to block. If it can not
        do it, the connection is closed, which it understands as well."""
        if reply.startswith(b":0"):
            self.upstream.loop.call_later(_ONCE_MORE, self._tell, lease)
        elif reply.startswith(b"-") and self._lease is lease:
            self._lease = None
            lease.drop()
            if self._readonly:
                self._finish(UNBLOCKED if self._error else self.nothing())
            else:
                self._uncertain(lease.place, f"does not unblock a client ({errors.text(reply[1:-2])})")

    def _rest(self) -> None:
        """No timer goes on."""
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        self._timer = self._patience = None

    def _finish(self, reply: bytes) -> None:
        if self._over:
            return
        self._over = True
        self._rest()
        if self._claim is not None:
            self._claim.cancel()
            self._claim = None
        self.answer(reply)


class _Unblocked(WholeReplySink):
    """Takes the answer to CLIENT UNBLOCK."""

    __slots__ = ("_lease", "_request")

    def __init__(self, request: BlockingRequest, lease: Lease) -> None:
        self._request = request
        self._lease = lease

    @property
    def counted(self) -> bool:
        """No client asked for it."""
        return False

    def take(self, token: int, reply: bytes) -> None:
        """Take it."""
        self._request.told(self._lease, reply)
