"""A request that needs a connection for itself: WATCH, a transaction, or a command that may be answered with several
frames."""

from collections.abc import Callable, Collection
from secrets import token_hex
from typing import Protocol

from proxy import server_errors
from proxy.backends.dedicated_pool import Lease
from proxy.backends.dedicated_request import DedicatedRequest, Fate, RequestPolicy
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import ASKED, DISCARD
from proxy.planning import exec_block
from proxy.planning.planner import FIRST_SHARD
from proxy.planning.proof import Doubt
from proxy.planning.refusals import ASKING, NOSCRIPT, Refusal
from proxy.resp import encode
from proxy.session.script_cache import calls_by_digest
from proxy.session.session import Session
from proxy.sharding.topology import NOBODY, Shard, Topology

_ANSWER, _PART, _FENCE, _AHEAD = range(4)
"""The tokens of replies: to the request or EXEC, to the commands before EXEC, to the fence, and to a twin
(``proxy.planning.proof``) that was sent ahead of the request."""
_NONCE_BYTES = 16


class Requester(Protocol):
    """The client that a dedicated connection is asked for."""

    @property
    def session(self) -> Session:
        """The client's session."""

    @property
    def window(self) -> object:
        """The client's reply window."""

    @property
    def holder(self) -> str:
        """The user and the address of the client."""


Then = Callable[[Lease | None, Fate, bytes], None]
"""Gets the lease if the connection is still open, to be given back or kept; and the reply, or the error that words the
fate."""


class ExecRequest(DedicatedRequest):
    """One request, or the block of one transaction, for the primary of its slots.

    ``lease``: the request is sent over this connection only, and once; without it, over one that is asked for.
    ``repeat``: the request may be sent twice. ``fenced``: the server may answer with more than one frame, so an ECHO of
    a random text is sent behind the request, and the connection is closed if the second frame is not that text.
    """

    __slots__ = (
        "_client",
        "_doubt",
        "_fenced",
        "_forestalled",
        "_frame",
        "_given",
        "_nonce",
        "_rejected",
        "_reply",
        "_slots",
        "_then",
        "_tried",
    )

    policy = RequestPolicy("closed the connection before it answered")

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
        super().__init__(upstream, client.holder, repeat=repeat, limit=upstream.timing.request_timeout)
        self._client = client
        self._slots = slots
        self._frame = frame
        self._then = then
        self._given = lease
        self._rejected = b""
        """The first error in reply to a command before EXEC."""
        self._fenced = fenced
        self._nonce = b""
        self._reply = b""
        """The reply to the request, while the reply to the fence is missing."""
        self._doubt: Doubt | None = None
        """The last error that may be a refusal; its twin is sent ahead of the next attempt."""
        self._forestalled: Refusal | None = None
        """The refusal with which the server answered the twin."""
        self._tried: Refusal | None = None
        """The refusal of the attempt before."""
        self.asking = asking

    @property
    def owner(self) -> object:
        """The window of the client that the request belongs to."""
        return self._client.window

    def start(self) -> None:
        """Send the request over the connection that was given, or ask for one."""
        if self._given is None:
            super().start()
        else:
            self.send(self._given)

    # ---- the hooks

    def where(self) -> Place | Refusal | bytes:
        """Return the primary of the slots, or the server that a redirection named."""
        upstream = self.upstream
        shard = serving(upstream.topology, self._slots)
        if shard is None:
            return Refusal("", encode.error(server_errors.nobody(upstream.topology.cluster)))
        if upstream.holds(shard.name):
            return Refusal("", encode.error(server_errors.failing_over(shard.name)))
        node = self.node or shard.primary
        session = self._client.session
        user = session.route.server_user
        return self.usable(
            Place(upstream.topology.called(node), node, True, session.protocol, session.db, 0, user=user)
        )

    def write(self, lease: Lease, now: float) -> float | None:
        """Write the request, with the scripts and the twin that go ahead of it, and the fence behind it."""
        upstream = self.upstream
        self._rejected = b""
        self._forestalled = None
        # A fenced request often calls a script by its digest: which scripts a server has loaded is remembered.
        for load in upstream.scripts.ahead(lease.place.node if self._fenced else None, calls_by_digest(self._frame)):
            lease.send(DISCARD, 0, load, now)
        if self._doubt is None and upstream.redirections.unsettled:
            self._doubt = upstream.events.doubt(self._frame)
        if self._doubt is not None:
            self.ask(lease, self, _AHEAD, self._doubt.twin, now)
        if self.asking:
            lease.send(ASKED, 0, ASKING, now)
        if exec_block.is_block(self._frame):
            for _ in range(exec_block.replies(self._frame) - 1):
                lease.inflight.push(self, _PART, b"", 0, 0, now)
        lease.send(self, _ANSWER, self._frame, now)
        if self._fenced:
            self._nonce = token_hex(_NONCE_BYTES).encode()
            lease.send(self, _FENCE, encode.request((b"ECHO", self._nonce)), now)
        return self.limit

    def ended(self, fate: Fate, reply: bytes, lease: Lease | None) -> None:
        """Pass on the outcome of the request."""
        self._then(lease, fate, reply)

    def final(self, refusal: Refusal) -> Fate | None:
        """Return the outcome of a request that had to go over one connection, or whose script is missing though it was
        loaded."""
        if self._given is not None:
            return Fate.REFUSED
        if refusal.kind == NOSCRIPT and refusal == self._tried and not refusal.pause:
            # A script that is missing after it was loaded can not be loaded.
            return Fate.ANSWERED
        self._tried = refusal
        return None

    def retry(self, error: bytes, refusal: Refusal | None = None, *, idle: bool = False) -> None:
        """Try again, unless the request was bound to a given connection."""
        if self._given is None:
            super().retry(error, refusal, idle=idle)
        else:
            self.finish(Fate.REFUSED, error)

    # ---- the replies

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
        elif token == _FENCE:
            self._answered(lease, self._reply, clean=reply == encode.bulk(self._nonce))
        elif self._fenced and self._nonce in reply:
            self._end(lease, reply, clean=False)  # the fence's reply was taken for an element of the answer
        elif self._fenced:
            self._reply = reply
        else:
            self._answered(lease, reply, clean=True)

    def _answered(self, lease: Lease, reply: bytes, *, clean: bool) -> None:
        """Judge the answer. ``clean``: it was one frame."""
        if not clean:
            self._end(lease, reply, clean=False)
            return
        if reply.startswith(b"-"):
            block = exec_block.is_block(self._frame)
            if block and exec_block.lacks_multi(reply):
                self.uncertain(lease.place, server_errors.multi_refused(self._rejected))
                return
            why = exec_block.reason(reply, self._rejected) if block else reply
            found = self.upstream.events.refusal(why, lease.place.node, self._frame)
            if isinstance(found, Doubt):
                doubt = self._doubt = found
                found = None if doubt.kind == NOSCRIPT else self._forestalled
                if found is None:
                    self.prove(lease, doubt, lambda: self._end(lease, doubt.error, clean=True))
                    return
            if found is not None:
                self.refused(lease, found)
                return
            if why is not reply:
                reply = exec_block.aborted(why)
        self._end(lease, reply, clean=True)

    def _end(self, lease: Lease, reply: bytes, *, clean: bool) -> None:
        """End the request with ``reply``. Other than one frame, of which the first is no error, means that nobody can
        know the answer."""
        if clean:
            self.let_go(lease)
            self.finish(Fate.ANSWERED, reply, lease)
        elif reply.startswith(b"-"):
            self.finish(Fate.ANSWERED, reply)
        else:
            self.uncertain(lease.place, "answered with other than one reply")


def serving(topology: Topology, slots: Collection[int]) -> Shard | None:
    """The shard that serves ``slots`` (any shard if there are none); None if none does."""
    index = FIRST_SHARD if topology.single or not slots else topology.slot_shard[next(iter(slots))]
    if index == NOBODY or not topology.shards:
        return None
    return topology.shards[index]
