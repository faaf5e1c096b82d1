"""One request to one server, over a connection of its own that is then closed: so it may do anything to it."""

import asyncio

from proxy import errors
from proxy.backends.dedicated import Lease
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import Sink, WholeReplySink
from proxy.resp import encode
from proxy.transport.clock import Deadline

_PAUSE = 0.05
"""Seconds until a server is asked again that said nothing."""


class SingleRequest(WholeReplySink):
    """Sends ``frame`` to ``place``; ``sink`` gets what comes back under ``token``, or the error that says why nothing
    does. ``holder``: whose the connection is meanwhile. ``patient``: a server that can be reached and says nothing is
    asked again, as it may run a script."""

    __slots__ = (
        "_again",
        "_claim",
        "_frame",
        "_lease",
        "_patient",
        "_refused",
        "_sink",
        "_timer",
        "_token",
        "_upstream",
    )

    def __init__(
        self,
        upstream: Upstream,
        sink: Sink,
        token: int,
        place: Place,
        frame: bytes,
        holder: str,
        *,
        patient: bool = False,
    ) -> None:
        self._patient = patient
        self._refused = ""
        """Why it has not been sent yet, if that was tried."""
        self._again: asyncio.TimerHandle | None = None
        """Until that is tried again."""
        self._upstream = upstream
        self._sink = sink
        self._token = token
        self._frame = frame
        self._lease: Lease | None = None
        self._timer: Deadline | None = upstream.turn.clock.call_later(upstream.timing.request_timeout, self._expire)
        self._claim = upstream.leases.ask(place, self._go, holder)

    @property
    def owner(self) -> object:
        """The client's."""
        return self._sink.owner

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._again is not None:
            self._again.cancel()
        self._claim.cancel()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.drop()

    def take(self, token: int, reply: bytes) -> None:
        """The server answers."""
        self._answer(reply)

    def _go(self, lease: Lease | str) -> None:
        if isinstance(lease, str):
            self._refused = lease
            if self._patient and lease.startswith("SHARDDOWN") and self._reached():
                self._again = self._upstream.loop.call_later(_PAUSE, self._ask)
            else:
                self._answer(encode.error(lease))
            return
        self._refused = ""
        self._lease = lease
        lease.on_lost = self._lost
        lease.on_push = self._answer  # so is SUBSCRIBE answered in RESP3
        lease.send(self, 0, self._frame, self._upstream.turn.now())

    def _reached(self) -> bool:
        """Whether any connection to the server stands."""
        node = self._claim.place.node
        return any(backend.ready and backend.place.node == node for backend in self._upstream.pool)

    def _ask(self) -> None:
        self._again = None
        self._claim = self._upstream.leases.ask(self._claim.place, self._go, self._claim.holder)

    def _lost(self, reason: str, sent: bool) -> None:
        assert self._lease is not None
        place = self._lease.place
        if not sent:
            self._lease = None
            self._ask()
            return
        self._answer(
            encode.error(errors.uncertain(place.shard, place.node.address, f"closed the connection ({reason})"))
        )

    def _expire(self) -> None:
        if self._refused:
            self._answer(encode.error(self._refused))
            return
        place = self._claim.place
        seconds = self._upstream.timing.request_timeout
        words = f"did not answer within {seconds:g} s"
        self._answer(encode.error(errors.uncertain(place.shard, place.node.address, words)))

    def _answer(self, reply: bytes) -> None:
        self.cancel()
        self._sink.deliver(self._token, reply, 0, len(reply))
