"""One request to one server, over a connection of its own that is then closed: the request may change the connection's
state."""

from proxy.backends.dedicated import Lease
from proxy.backends.dedicated_request import DedicatedRequest, Fate, RequestPolicy
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import Sink
from proxy.planning.refusals import Refusal
from proxy.transport.clock import Deadline

_PAUSE = 0.05
"""Seconds until the next attempt at a server that did not answer."""


class SingleRequest(DedicatedRequest):
    """Sends ``frame`` to ``place``, and delivers to ``sink`` under ``token`` the reply, or the error that says why
    there is none. ``patient``: a server that is reachable but does not answer is tried again, as it may run a
    script."""

    __slots__ = ("_deadline", "_frame", "_patient", "_place", "_refusal", "_sink", "_token")

    policy = RequestPolicy("closed the connection ({reason})")

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
        super().__init__(upstream, holder, repeat=False, limit=upstream.timing.request_timeout)
        self._patient = patient
        self._refusal = b""
        """The error of the last attempt, while the request could not be sent."""
        self._place = place
        self._sink = sink
        self._token = token
        self._frame = frame
        self._deadline: Deadline = upstream.turn.clock.call_later(self.limit, self._expire)
        """The deadline of all attempts together."""
        self.start()

    @property
    def owner(self) -> object:
        """The client that ``sink`` belongs to."""
        return self._sink.owner

    def kept(self, token: int, size: int) -> int:
        """How many bytes are kept for the request, as the sink counts them."""
        return self._sink.kept(self._token, size)

    def where(self) -> Place:
        """Return the server that the request is for."""
        return self._place

    def write(self, lease: Lease, now: float) -> None:
        """Write the request; the deadline began with the first attempt."""
        self._refusal = b""
        lease.on_push = self._answer  # SUBSCRIBE is answered by a push in RESP3
        lease.send(self, 0, self._frame, now)

    def stop(self) -> None:
        """Make no further attempts, and cancel the deadline."""
        self._deadline.cancel()
        super().stop()

    def take(self, token: int, reply: bytes) -> None:
        """Take the server's reply."""
        self._answer(reply)

    def ended(self, fate: Fate, reply: bytes, lease: Lease | None) -> None:
        """Deliver the reply to the sink."""
        self._sink.deliver(self._token, reply, 0, len(reply))

    def retry(self, error: bytes, refusal: Refusal | None = None, *, idle: bool = False) -> None:
        """Try again if nothing was sent and the server may be reachable."""
        if idle:
            self.start()
            return
        self._refusal = error
        if self._patient and self._reached():
            self.sleep(_PAUSE, None)
        else:
            self.finish(Fate.FAILED, error)

    def _reached(self) -> bool:
        """Whether a shared connection to the server is ready."""
        node = self._place.node
        return any(backend.ready and backend.place.node == node for backend in self.upstream.pool)

    def _expire(self) -> None:
        """End the request at its deadline."""
        if self._refusal:
            self.finish(Fate.FAILED, self._refusal)
        else:
            self.uncertain(self._place, f"did not answer within {self.limit:g} s")

    def _answer(self, reply: bytes) -> None:
        """End the request with the first frame that the server sends."""
        self.finish(Fate.ANSWERED, reply)
