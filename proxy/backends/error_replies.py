"""Errors that a server answers over a shared connection: refusals are taken out, others are counted and passed on."""

from typing import Generic, Protocol, TypeVar

from proxy import server_errors
from proxy.backends.settings import BackendSettings, ConnectionOwner, Place
from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.sink import QUEUED, UNASKED
from proxy.planning import exec_block
from proxy.planning.proof import Proof
from proxy.resp import encode


class Placed(Protocol):
    """A connection to the server of a place."""

    @property
    def place(self) -> Place:
        """The place of the server."""


_Connection = TypeVar("_Connection", bound=Placed)


class ErrorReplies(Generic[_Connection]):
    """Judges the errors that arrive over ``backend``, whose requests are in ``inflight``. ``owner``: the only client of
    ``backend``."""

    __slots__ = ("_backend", "_inflight", "_owner", "_rejected", "_settings")

    def __init__(
        self,
        backend: _Connection,
        inflight: InFlight,
        settings: BackendSettings[_Connection],
        owner: ConnectionOwner[_Connection] | None,
    ) -> None:
        self._backend = backend
        self._inflight = inflight
        self._settings = settings
        self._owner = owner
        self._rejected = b""
        """The first error of a command of the transaction whose replies are arriving."""

    def reset(self) -> None:
        """Forget the transaction, as the connection is lost."""
        self._rejected = b""

    def judge(self, error: bytes) -> bool:
        """Judge the error that answers the oldest request. Returns whether the request was taken out: a refusal, or an
        error that may be one."""
        inflight = self._inflight
        entry = inflight.peek()
        if entry.sink is QUEUED:
            self._rejected = self._rejected or error
            return False
        rejected, self._rejected = self._rejected, b""
        if entry.sink in UNASKED or isinstance(entry.sink, Proof):
            return False
        events, backend = self._settings.events, self._backend
        # Only the reply to EXEC contains a reason; any other command with such an error is a script.
        why = exec_block.reason(error, rejected) if exec_block.is_block(entry.frame) else error
        refusal = events.refusal(why, backend.place.node, entry.frame)
        if refusal is not None:
            if self._owner is not None:
                self._owner.redirected()
            events.refused(backend, inflight.pop(), refusal)
            return True
        events.count_error(entry.sink, entry.frame)
        if not rejected and why is error:
            return False
        entry = inflight.pop()
        reply = self._not_executed(error, why, rejected)
        entry.sink.deliver(entry.token, reply, 0, len(reply))
        return True

    def too_large(self, entry: Entry) -> bytes:
        """The error for ``entry``, whose reply is too large to be kept; the request was carried out."""
        settings = self._settings
        settings.counters.too_large += 1
        settings.events.count_error(entry.sink, entry.frame)
        ran = not settings.events.look(entry.frame).readonly
        return encode.error(server_errors.reply_too_large(settings.max_reply, ran))

    def _not_executed(self, error: bytes, why: bytes, rejected: bytes) -> bytes:
        """The reply to a transaction that the server did not execute because of ``error``."""
        if exec_block.lacks_multi(error):
            place = self._backend.place
            return encode.error(
                server_errors.uncertain(place.shard, place.node.address, server_errors.multi_refused(rejected))
            )
        return exec_block.aborted(why)
