"""The base of all requests that have a connection for themselves while they run.

::

    ask the pool for a connection ──▶ write ──▶ answered
        ▲                               ├──▶ refused (MOVED, LOADING ...), or lost before a server has read it ──┐
        │                               ├──▶ lost, and it may be sent twice ─────────────────────────────────────┤
        │                               └──▶ lost, or not answered in time: -UNCERTAIN                           │
        └──────────────── a moment later, until the retry deadline ──────────────────────────────────────────────┘

A subclass says by three hooks where the request belongs (``where``), what is written (``write``) and what is done with
the answer (``ended``); its ``policy`` states the other differences between the kinds of requests.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from proxy import errors, server_errors
from proxy.backends.dedicated_pool import Claim, Lease
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import ASKED, Sink, WholeReplySink
from proxy.planning.proof import Doubt, Proof
from proxy.planning.refusals import ASKING, NOSCRIPT, READONLY, Refusal
from proxy.resp import encode
from proxy.sharding.topology import Node
from proxy.transport.clock import Deadline

FORCED = "UNBLOCKED"
"""The error kind with which a server ends a blocking command because the server's role has changed."""
_CLOSING = frozenset((READONLY, FORCED))
"""The refusals after which a connection is not used any more."""


class Fate(Enum):
    """The outcome of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """The server refused the request, which could be sent to no other server."""
    FAILED = "failed"
    """The request was not carried out anywhere."""
    LOST = "lost"
    """The request may have been carried out."""


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """The differences between the kinds of requests when an attempt fails."""

    loss: str
    """The reason in ``-UNCERTAIN`` when the connection was lost; ``{reason}`` stands for the reason of the loss."""
    lasting: bool = False
    """Whether a server may keep the request waiting on purpose. If so, the retry deadline begins with each new trouble;
    otherwise it begins with the request."""
    idle_ends: int = 0
    """The number of idle connections in a row that may turn out to be closed before the retries slow down."""


class DedicatedRequest(WholeReplySink):
    """One request over dedicated connections, until ``ended`` is called or the request is cancelled.

    ``holder``: the user and the address that the connection is for. ``repeat``: the request may be sent twice.
    ``limit``: the seconds that a server may take, as error texts give them.
    """

    __slots__ = (
        "_claim",
        "_hops",
        "_over",
        "_patience",
        "_proving",
        "_timer",
        "asking",
        "holder",
        "lease",
        "limit",
        "node",
        "repeat",
        "trouble",
        "upstream",
    )

    policy: ClassVar[RequestPolicy]

    def __init__(self, upstream: Upstream, holder: str, *, repeat: bool, limit: float) -> None:
        self.upstream = upstream
        self.holder = holder
        self.repeat = repeat
        self.limit = limit
        self.lease: Lease | None = None
        """The connection that the request was sent over."""
        self.node: Node | None = None
        """The server that a redirection named."""
        self.asking = False
        """Whether ASKING has to be sent ahead of the request."""
        self.trouble: float | None = None if self.policy.lasting else upstream.turn.now()
        """The time since which the request can not be carried out; None if there is no trouble."""
        self._claim: Claim | None = None
        self._timer: asyncio.TimerHandle | None = None
        """The timer of the next attempt."""
        self._patience: Deadline | None = None
        """The deadline of the server's reply."""
        self._proving: Doubt | None = None
        """The error that may be a refusal, kept until the server has said whether it is one."""
        self._hops = 0
        """The number of attempts that failed since ``trouble``."""
        self._over = False

    # ---- methods of the subclass

    def where(self) -> Place | Refusal | bytes:
        """Return the place where the request belongs now; a refusal if the request can not be sent now; or the error
        reply if it can not be sent any more."""
        raise NotImplementedError

    def write(self, lease: Lease, now: float) -> float | None:
        """Write the request, and return the seconds that the server may take; None means without limit."""
        raise NotImplementedError

    def ended(self, fate: Fate, reply: bytes, lease: Lease | None) -> None:
        """Take the reply, or the error that words the ``fate``. ``lease``: the connection, to be given back or kept, if
        it is still open."""
        raise NotImplementedError

    def final(self, refusal: Refusal) -> Fate | None:
        """Return the fate of a request that is not sent again after ``refusal``; None if the request is sent again."""
        return None

    def sleep(self, seconds: float, refusal: Refusal | None) -> None:
        """Try again in ``seconds``; ``refusal`` is the reason if a server refused the request."""
        self._timer = self.upstream.loop.call_later(seconds, self.start)

    # ---- attempts

    def start(self) -> None:
        """Ask for a connection to the server where the request belongs now."""
        self._timer = None
        place = self.where()
        if isinstance(place, Refusal):
            self.retry(place.error)
        elif isinstance(place, bytes):
            self.finish(Fate.FAILED, place)
        else:
            claim = self.upstream.leases.ask(place, self._got, self.holder)
            self._claim = None if claim.cancelled else claim

    def cancel(self) -> None:
        """End the request at once, at the server too, because nobody waits for the reply any more."""
        self.stop()

    def stop(self) -> None:
        """Make no further attempts, and close the connection that the request still has."""
        self._over = True
        self._rest()
        if self._claim is not None:
            self._claim.cancel()
            self._claim = None
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.drop()

    def finish(self, fate: Fate, reply: bytes, lease: Lease | None = None) -> None:
        """End the request. ``lease``: the connection that may be used further; any other connection of the request is
        closed."""
        if not self._over:
            self.stop()
            self.ended(fate, reply, lease)

    def usable(self, place: Place) -> Place | bytes:
        """Return ``place``, or the error reply if its server has been unreachable for long."""
        shared = self.upstream.shared(place)
        return place if shared.usable else shared.down_error()

    def send(self, lease: Lease) -> None:
        """Write the request over ``lease``."""
        now = self.upstream.turn.now()
        self.lease = lease
        lease.on_lost = self._lost
        patience = self.write(lease, now)
        if patience is not None:
            self._patience = self.upstream.turn.clock.call_later(patience, self._expired)

    def ask(self, lease: Lease, sink: Sink, token: int, frame: bytes, now: float) -> None:
        """Send ``frame``, with ASKING ahead of the frame where the server requires ASKING."""
        if self.asking:
            lease.send(ASKED, 0, ASKING, now)
        lease.send(sink, token, frame, now)

    def prove(self, lease: Lease, doubt: Doubt, otherwise: Callable[[], None]) -> None:
        """Ask the server whether its error is a refusal, because the error may also come from a script; call
        ``otherwise`` if the error is no refusal."""

        def told(reply: bytes) -> None:
            if self.lease is not lease:
                return
            self._proving = None
            if (other := doubt.denied(reply)) is not None:
                self.prove(lease, other, otherwise)
                return
            found = doubt.judge(reply, lease.place.node)
            if found is None:
                otherwise()
            else:
                self.refused(lease, found)

        self._proving = doubt
        self.ask(lease, Proof(told), 0, doubt.twin, self.upstream.turn.now())

    def let_go(self, lease: Lease) -> None:
        """Detach the request from its connection."""
        self.lease = None
        lease.on_lost = None
        self._rest()

    def refused(self, lease: Lease, refusal: Refusal) -> None:
        """Send the request to where it belongs now, because a server has refused it."""
        self.let_go(lease)
        upstream, place = self.upstream, lease.place
        upstream.counters.redirect(refusal.kind)
        if refusal.kind != NOSCRIPT:
            upstream.events.hint(refusal.hint)
        if refusal.kind == READONLY:
            upstream.events.demoted(place)
        fate = self.final(refusal)
        if fate is not None:
            self.finish(fate, refusal.error, lease)
            return
        if refusal.kind in _CLOSING:
            lease.drop()
        else:
            upstream.leases.give_back(lease, untouched=True)
        self.node, self.asking = refusal.node, refusal.asks
        error = refusal.error
        if refusal.node is not None:
            said = errors.text(error[1:-2])
            error = encode.error(server_errors.redirected(place.shard, place.node.address, said, self._hops + 1))
        self.retry(error, refusal)

    def retry(self, error: bytes, refusal: Refusal | None = None, *, idle: bool = False) -> None:
        """Try again a little later; after the deadline, ``error`` is the answer. ``idle``: an idle connection turned
        out to be closed, and others may be open."""
        if self._over:
            return
        now = self.upstream.turn.now()
        if self.trouble is None:
            self.trouble = now
            self._hops = 0
        hops = self._hops
        self._hops += 1
        if now - self.trouble >= self.upstream.timing.retry_deadline:
            self.finish(Fate.FAILED, error)
        elif idle and hops < self.policy.idle_ends:
            self.sleep(0.0, None)
        else:
            self.sleep((refusal or Refusal("", error)).wait(hops), refusal)

    def uncertain(self, place: Place, reason: str) -> None:
        """Answer ``-UNCERTAIN``: the request may have been carried out at ``place``. ``reason``: why nobody can
        know."""
        self.upstream.counters.uncertain += 1
        self.finish(Fate.LOST, encode.error(server_errors.uncertain(place.shard, place.node.address, reason)))

    def _got(self, found: Lease | str) -> None:
        """Take the connection that was asked for, or the error text that says why there is no connection."""
        self._claim = None
        if isinstance(found, Lease):
            self.send(found)
        elif found.startswith("SHARDDOWN"):
            self.node, self.asking = None, False
            self.retry(encode.error(found))
        else:  # All connections are in use: a retry would wait for other clients, not for the server.
            self.finish(Fate.FAILED, encode.error(found))

    def _lost(self, reason: str, sent: bool) -> None:
        """Handle the loss of the connection. ``sent``: a written request was not answered."""
        lease, self.lease = self.lease, None
        assert lease is not None
        self._rest()
        if self._proving is not None:
            self.finish(Fate.ANSWERED, self._proving.error)
            return
        place = lease.place
        self.node, self.asking = None, False
        if sent:
            self.upstream.events.hint(None)
            self.upstream.counters.retries += self.repeat
        if sent and not self.repeat:
            self.uncertain(place, self.policy.loss.format(reason=reason))
        else:
            self.retry(encode.error(server_errors.shard_down(place.shard, place.node.address, reason)), idle=not sent)

    def _expired(self) -> None:
        """End the request, as the server has not answered in time."""
        lease, self.lease = self.lease, None
        assert lease is not None
        self._patience = None
        lease.drop()
        self.upstream.counters.timeouts += 1
        place = lease.place
        if self._proving is not None:
            self.finish(Fate.ANSWERED, self._proving.error)
        elif self.repeat:
            self.finish(Fate.FAILED, encode.error(server_errors.timed_out(place.shard, place.node.address, self.limit)))
        else:
            self.uncertain(place, f"did not answer within {self.limit:g} s")

    def _rest(self) -> None:
        """Cancel the timers."""
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        self._timer = self._patience = None
