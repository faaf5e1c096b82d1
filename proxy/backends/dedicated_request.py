"""One request over a connection that it has for itself meanwhile: what all requests of that kind have in common.

::

    ask the pool for a connection ──▶ write ──▶ answered
        ▲                               ├──▶ refused (MOVED, LOADING ...), or lost before a server has read it ──┐
        │                               ├──▶ lost, and it may be sent twice ─────────────────────────────────────┤
        │                               └──▶ lost, or not answered in time: -UNCERTAIN                           │
        └──────────────── a moment later, until the retry deadline ──────────────────────────────────────────────┘

A subclass says by three hooks where the request belongs (``where``), what is written (``write``) and what becomes of
the answer (``ended``); its ``policy`` says in what else it differs from the others.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from proxy import errors
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
"""The kind of a refusal by a server that ended a block because it has another role now."""
_CLOSING = frozenset((READONLY, FORCED))
"""The refusals behind which a connection is not used any more."""


class Fate(Enum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """A server refused the request that it had to go to and no other."""
    FAILED = "failed"
    """The request was not carried out anywhere."""
    LOST = "lost"
    """The request may have been carried out."""


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """In what the requests of one kind differ from others when something goes wrong."""

    loss: str
    """Why a request is uncertain whose connection was lost; ``{reason}`` stands for why the connection was."""
    lasting: bool = False
    """Whether a server may keep the request waiting on purpose: then the retry deadline begins with each trouble that
    the request has, and not with the request."""
    idle_ends: int = 0
    """How many idle connections in a row may turn out to be closed before the retries slow down."""


class DedicatedRequest(WholeReplySink):
    """One request on its way over dedicated connections, until ``ended`` is called, or it is cancelled.

    ``holder``: the user and the address that the connection is for. ``repeat``: the request may be sent twice.
    ``limit``: the seconds that a server may take, as errors say them.
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
        """The connection that it was sent over."""
        self.node: Node | None = None
        """The server that a redirection named."""
        self.asking = False
        """Whether the server serves the slot only when it is asked to."""
        self.trouble: float | None = None if self.policy.lasting else upstream.turn.now()
        """Since when the request could not be carried out; None: there is no trouble."""
        self._claim: Claim | None = None
        self._timer: asyncio.TimerHandle | None = None
        """Runs until the request is tried again."""
        self._patience: Deadline | None = None
        """Runs until the server is given up."""
        self._proving: Doubt | None = None
        """What may have refused the request, while the server is asked whether it did."""
        self._hops = 0
        """How many attempts failed since ``trouble``."""
        self._over = False

    # ---- what a subclass says

    def where(self) -> Place | Refusal | bytes:
        """Say where the request belongs now; or what keeps it from being sent now; or the error reply, if it can be
        sent nowhere any more."""
        raise NotImplementedError

    def write(self, lease: Lease, now: float) -> float | None:
        """Write the request, and return how many seconds the server may take; None: for ever."""
        raise NotImplementedError

    def ended(self, fate: Fate, reply: bytes, lease: Lease | None) -> None:
        """Take the reply, or the error that tells the ``fate``; ``lease``: the connection, to be given back or kept, if
        there still is one."""
        raise NotImplementedError

    def final(self, refusal: Refusal) -> Fate | None:
        """The fate of a request that is not sent again after ``refusal``; None: it is."""
        return None

    def sleep(self, seconds: float, refusal: Refusal | None) -> None:
        """Try again in ``seconds``, because of ``refusal`` if a server refused the request."""
        self._timer = self.upstream.loop.call_later(seconds, self.start)

    # ---- its life

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
        """Nobody waits for the request any more: end it at once, at the server too."""
        self.stop()

    def stop(self) -> None:
        """Try no more, and close the connection that the request still has."""
        self._over = True
        self._rest()
        if self._claim is not None:
            self._claim.cancel()
            self._claim = None
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.drop()

    def finish(self, fate: Fate, reply: bytes, lease: Lease | None = None) -> None:
        """The request is over; ``lease``: the connection that it leaves as it should be. Any other is closed."""
        if not self._over:
            self.stop()
            self.ended(fate, reply, lease)

    def usable(self, place: Place) -> Place | bytes:
        """``place``, or the error reply if its server has been away for long."""
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
        """Send ``frame`` with ASKING ahead of it, where the server wants that."""
        if self.asking:
            lease.send(ASKED, 0, ASKING, now)
        lease.send(sink, token, frame, now)

    def prove(self, lease: Lease, doubt: Doubt, otherwise: Callable[[], None]) -> None:
        """Ask the server whether it refused the request, as its error may also be data; ``otherwise`` is called if it
        is."""

        def told(reply: bytes) -> None:
            if self.lease is not lease:
                return
            self._proving = None
            found = doubt.judge(reply, lease.place.node)
            if found is None:
                otherwise()
            else:
                self.refused(lease, found)

        self._proving = doubt
        self.ask(lease, Proof(told), 0, doubt.twin, self.upstream.turn.now())

    def let_go(self, lease: Lease) -> None:
        """The request does not need its connection any more."""
        self.lease = None
        lease.on_lost = None
        self._rest()

    def refused(self, lease: Lease, refusal: Refusal) -> None:
        """The request was not carried out: send it where it belongs now."""
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
            error = encode.error(errors.redirected(place.shard, place.node.address, said, self._hops + 1))
        self.retry(error, refusal)

    def retry(self, error: bytes, refusal: Refusal | None = None, *, idle: bool = False) -> None:
        """Try again a little later; ``error`` is the answer if it is too late for that. ``idle``: a connection that
        nobody used turned out to be closed, and others may be there."""
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
        """The request may have been carried out at ``place``; ``reason``: why nobody can say."""
        self.upstream.counters.uncertain += 1
        self.finish(Fate.LOST, encode.error(errors.uncertain(place.shard, place.node.address, reason)))

    def _got(self, found: Lease | str) -> None:
        """Take the connection that was asked for, or the text of the error that says why there is none."""
        self._claim = None
        if isinstance(found, Lease):
            self.send(found)
        elif found.startswith("SHARDDOWN"):
            self.node, self.asking = None, False
            self.retry(encode.error(found))
        else:  # There are too many connections: to wait for one would not be to wait for the server.
            self.finish(Fate.FAILED, encode.error(found))

    def _lost(self, reason: str, sent: bool) -> None:
        """The connection is lost; ``sent``: some of what was written was not answered."""
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
            self.retry(encode.error(errors.shard_down(place.shard, place.node.address, reason)), idle=not sent)

    def _expired(self) -> None:
        """The server says nothing though it should."""
        lease, self.lease = self.lease, None
        assert lease is not None
        self._patience = None
        lease.drop()
        self.upstream.counters.timeouts += 1
        place = lease.place
        if self._proving is not None:
            self.finish(Fate.ANSWERED, self._proving.error)
        elif self.repeat:
            self.finish(Fate.FAILED, encode.error(errors.timed_out(place.shard, place.node.address, self.limit)))
        else:
            self.uncertain(place, f"did not answer within {self.limit:g} s")

    def _rest(self) -> None:
        """No timer goes on."""
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        self._timer = self._patience = None
