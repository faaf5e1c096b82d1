"""A request that needs a connection for itself, on its way: WATCH, or a transaction.

A ``ExecRequest`` takes a request to the primary of its slot over a lease, and again if it is refused there::

    ask for a lease ──▶ send ──▶ answered: ``then``
         ▲                 └──▶ refused (MOVED, LOADING ...), or lost before it can have done anything
         └── a moment later, until ``retry_deadline`` ──┘
"""

import asyncio
from collections.abc import Callable, Collection
from enum import Enum
from secrets import token_hex
from typing import Protocol

from proxy import errors
from proxy.backends.dedicated_pool import Claim, Lease
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import DISCARD, WholeReplySink
from proxy.planning import exec_block
from proxy.planning.planner import FIRST_SHARD
from proxy.planning.proof import Doubt
from proxy.planning.refusals import ASKING, NOSCRIPT, READONLY, Refusal
from proxy.resp import encode
from proxy.session.script_cache import calls_by_digest
from proxy.session.session import Session
from proxy.sharding.topology import NOBODY, Node, Shard, Topology
from proxy.transport.clock import Deadline

_ANSWER, _PART, _FENCE, _AHEAD, _PROOF = range(5)
"""The tokens of replies: to the request or EXEC, to what stands before EXEC, to the fence, to a twin
(``proxy.planning.proof``)
that went ahead of the request or came behind it."""
_NONCE_BYTES = 16


class Requester(Protocol):
    """The client that a dedicated connection is asked for."""

    @property
    def session(self) -> Session:
        """Its state."""

    @property
    def window(self) -> object:
        """Whose the replies are."""

    @property
    def holder(self) -> str:
        """Its user and address."""


class Fate(Enum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """By a server that it had to go to and no other."""
    FAILED = "failed"
    """It was not carried out anywhere."""
    LOST = "lost"
    """It may have been carried out."""


Then = Callable[[Lease | None, Fate, bytes], None]
"""Gets the lease if there still is one, to be given back or kept; and the reply, or the error that tells the fate."""


class ExecRequest(WholeReplySink):
    """One request, or one transaction's block, on its way over a lease.

    ``lease``: over this one and no other, once; else over one that is asked for. ``repeat``: it may be sent again when
    it was sent and its connection is lost. ``fenced``: the server may answer with more than one frame; behind it goes
    an ECHO of what nobody can guess, and if that is not the second frame, the connection is closed.
    """

    __slots__ = (
        "_claim",
        "_client",
        "_doubt",
        "_fenced",
        "_forestalled",
        "_frame",
        "_given",
        "_hops",
        "_node",
        "_nonce",
        "_proving",
        "_rejected",
        "_repeat",
        "_reply",
        "_slots",
        "_then",
        "_timer",
        "_tried",
        "_until",
        "_upstream",
        "asking",
        "lease",
    )

    def __init__(
        self,
        upstream: Upstream,
        client: Requester,
        slots: Collection[int],
        frame: bytes,
        then: Then,
        *,
        lease: Lease | None = None,
        asking: bool = False,
        repeat: bool = False,
        fenced: bool = False,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._slots = slots
        self._frame = frame
        self._then = then
        self._given = lease is not None
        self._repeat = repeat
        self._claim: Claim | None = None
        self._timer: asyncio.TimerHandle | Deadline | None = None
        self._node: Node | None = None
        self._hops = 0
        self._rejected = b""
        self._fenced = fenced
        self._nonce = b""
        self._reply = b""
        self._doubt: Doubt | None = None
        """What may have refused it last; its twin goes ahead when it is sent again."""
        self._forestalled: Refusal | None = None
        """What the twin was refused that went ahead."""
        self._proving = False
        """Whether the twin that came behind has yet to be answered."""
        self._tried: Refusal | None = None
        """What refused it before."""
        self.lease = lease
        self.asking = asking
        """Whether the server serves the slot only when it is asked to."""
        self._until = upstream.turn.now() + upstream.timing.retry_deadline

    def start(self) -> None:
        """Set out."""
        if self.lease is None:
            self._look()
        else:
            self._send(self.lease)

    @property
    def owner(self) -> object:
        """The client's."""
        return self._client.window

    def abandon(self) -> None:
        """Nobody waits for it any more, nor must it be carried out."""
        if self.lease is not None:
            self.lease.drop()
        if self._claim is not None:
            self._claim.cancel()
        self._end_timer()

    def _look(self) -> None:
        """Ask for a lease to the server that has the slot now."""
        self._timer = None
        client = self._client
        upstream = self._upstream
        shard = serving(upstream.topology, self._slots)
        if shard is None:
            self._again(encode.error(errors.nobody(upstream.topology.cluster)), None)
            return
        if upstream.holds(shard.name):
            self._again(encode.error(errors.failing_over(shard.name)), None)
            return
        node = self._node or shard.primary
        session = client.session
        place = Place(upstream.topology.called(node), node, True, session.protocol, session.db, 0)
        shared = upstream.shared(place)
        if shared.usable:
            self._claim = upstream.leases.ask(place, self._got, client.holder)
        else:  # it has been away for long
            self._then(None, Fate.FAILED, shared.down_error())

    def _got(self, found: Lease | str) -> None:
        self._claim = None
        if not isinstance(found, str):
            self._send(found)
        elif found.startswith("SHARDDOWN"):
            self._node, self.asking = None, False
            self._again(encode.error(found), None)
        else:  # there are too many connections: to wait for one would not be to wait for the server
            self._then(None, Fate.FAILED, encode.error(found))

    def _send(self, lease: Lease) -> None:
        upstream = self._upstream
        now = upstream.turn.now()
        self.lease = lease
        self._rejected = b""
        self._forestalled = None
        lease.on_lost = self._lost
        # A fenced one is often a script by its digest: it is remembered of the server that it was loaded there.
        for load in upstream.scripts.ahead(lease.place.node if self._fenced else None, calls_by_digest(self._frame)):
            lease.send(DISCARD, 0, load, now)
        if self._doubt is None and upstream.redirections.unsettled:
            self._doubt = upstream.events.doubt(self._frame)
        if self._doubt is not None:
            self._ask(lease, _AHEAD, self._doubt.twin, now)
        if self.asking:
            lease.send(DISCARD, 0, ASKING, now)
        if exec_block.is_block(self._frame):
            for _ in range(exec_block.replies(self._frame) - 1):
                lease.inflight.push(self, _PART, b"", 0, 0, now)
        lease.send(self, _ANSWER, self._frame, now)
        if self._fenced:
            self._nonce = token_hex(_NONCE_BYTES).encode()
            lease.send(self, _FENCE, encode.request((b"ECHO", self._nonce)), now)
        self._timer = upstream.turn.clock.call_later(upstream.timing.request_timeout, self._late)

    def _ask(self, lease: Lease, token: int, twin: bytes, now: float) -> None:
        """Have the twin of the request refused or answered, as the request is asked for."""
        if self.asking:
            lease.send(DISCARD, 0, ASKING, now)
        lease.send(self, token, twin, now)

    def take(self, token: int, reply: bytes) -> None:
        """Take a reply."""
        lease = self.lease
        assert lease is not None
        if token == _PART:
            if reply.startswith(b"-") and not self._rejected:
                self._rejected = reply
        elif token == _AHEAD:
            assert self._doubt is not None
            self._forestalled = self._doubt.judge(reply, lease.place.node)
        elif token == _PROOF:
            self._proven(lease, reply)
        elif token == _FENCE:
            self._answered(lease, self._reply, clean=reply == encode.bulk(self._nonce))
        elif self._fenced:
            self._reply = reply
        else:
            self._answered(lease, reply, clean=True)

    def _answered(self, lease: Lease, reply: bytes, *, clean: bool) -> None:
        """The whole answer is there; ``clean``: it was one frame."""
        if not clean:
            self._end(lease, reply, clean=False)
            return
        if reply.startswith(b"-"):
            block = exec_block.is_block(self._frame)
            if block and exec_block.lacks_multi(reply):
                self._let_go(lease)
                lease.drop()
                self._uncertain(lease.place, errors.multi_refused(self._rejected))
                return
            why = exec_block.reason(reply, self._rejected) if block else reply
            found = self._upstream.events.refusal(why, lease.place.node, self._frame)
            if isinstance(found, Doubt):
                self._doubt = found
                found = None if found.kind == NOSCRIPT else self._forestalled
                if found is None:
                    self._proving = True
                    self._ask(lease, _PROOF, self._doubt.twin, self._upstream.turn.now())
                    return
            if found is not None:
                self._refused(lease, found)
                return
            if why is not reply:
                reply = exec_block.aborted(why)
        self._end(lease, reply, clean=True)

    def _proven(self, lease: Lease, reply: bytes) -> None:
        """The twin that came behind is answered."""
        self._proving = False
        doubt = self._doubt
        assert doubt is not None
        found = doubt.judge(reply, lease.place.node)
        if found is None:
            self._end(lease, doubt.error, clean=True)
        else:
            self._refused(lease, found)

    def _end(self, lease: Lease, reply: bytes, *, clean: bool) -> None:
        """It is answered. Behind a first frame that is no error there could only be more if that was not whole."""
        self._let_go(lease)
        if clean:
            self._then(lease, Fate.ANSWERED, reply)
            return
        lease.drop()
        if reply.startswith(b"-"):
            self._then(None, Fate.ANSWERED, reply)
        else:
            self._uncertain(lease.place, "answered with more than one reply")

    def _unproven(self) -> None:
        """Nobody says whether it was refused: it is what it looks like to its client."""
        assert self._doubt is not None
        self._then(None, Fate.ANSWERED, self._doubt.error)

    def _let_go(self, lease: Lease) -> None:
        self.lease = None
        lease.on_lost = None
        self._end_timer()

    def _refused(self, lease: Lease, refusal: Refusal) -> None:
        self._let_go(lease)
        upstream = self._upstream
        upstream.counters.redirect(refusal.kind)
        if refusal.kind != NOSCRIPT:
            upstream.events.hint(refusal.hint)
        if refusal.kind == READONLY:
            upstream.events.demoted(lease.place)
        if self._given:
            self._then(lease, Fate.REFUSED, refusal.error)
            return
        if refusal.kind == NOSCRIPT and refusal == self._tried and not refusal.pause:
            # A script that is not there once it was loaded can not be loaded.
            self._then(lease, Fate.ANSWERED, refusal.error)
            return
        self._tried = refusal
        if refusal.kind == READONLY:
            lease.drop()
        else:
            upstream.leases.give_back(lease, untouched=True)
        self._node = refusal.node
        self.asking = refusal.asks
        error = refusal.error
        if refusal.node is not None:
            place, said = lease.place, errors.text(error[1:-2])
            error = encode.error(errors.redirected(place.shard, place.node.address, said, self._hops + 1))
        self._again(error, refusal)

    def _lost(self, reason: str, sent: bool) -> None:
        lease, self.lease = self.lease, None
        assert lease is not None
        self._end_timer()
        place = lease.place
        if self._proving:
            self._unproven()
        elif not sent and self._given:
            self._then(None, Fate.REFUSED, encode.error(errors.shard_down(place.shard, place.node.address, reason)))
        elif not sent or self._repeat:
            self._node, self.asking = None, False
            self._again(encode.error(errors.shard_down(place.shard, place.node.address, reason)), None)
        else:
            self._uncertain(place, "closed the connection before it answered")

    def _late(self) -> None:
        lease, self.lease = self.lease, None
        assert lease is not None
        lease.drop()
        self._timer = None
        place = lease.place
        upstream = self._upstream
        upstream.counters.timeouts += 1
        seconds = upstream.timing.request_timeout
        if self._proving:
            self._unproven()
        elif self._repeat:
            error = errors.timed_out(place.shard, place.node.address, seconds)
            self._then(None, Fate.FAILED, encode.error(error))
        else:
            self._uncertain(place, f"did not answer within {seconds:g} s")

    def _uncertain(self, place: Place, reason: str) -> None:
        self._upstream.counters.uncertain += 1
        error = errors.uncertain(place.shard, place.node.address, reason)
        self._then(None, Fate.LOST, encode.error(error))

    def _again(self, error: bytes, refusal: Refusal | None) -> None:
        """Try once more, a little later; ``error`` is the answer if it is too late for that."""
        upstream = self._upstream
        if upstream.turn.now() >= self._until:
            self._then(None, Fate.FAILED, error)
            return
        wait = (refusal or Refusal("", error)).wait(self._hops)
        self._hops += 1
        self._timer = upstream.loop.call_later(wait, self._look)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def serving(topology: Topology, slots: Collection[int]) -> Shard | None:
    """The shard that has these slots (or that any will do for, of none); None if nobody has."""
    index = FIRST_SHARD if topology.single or not slots else topology.slot_shard[next(iter(slots))]
    if index == NOBODY or not topology.shards:
        return None
    return topology.shards[index]
