"""One connection to a server that one client has for itself for a while; ``proxy.backends.dedicated_pool`` owns all of
them."""

from collections.abc import Callable
from typing import Any

from proxy import server_errors
from proxy.backends.connection import ServerConnection
from proxy.backends.settings import BackendSettings, Place
from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.reply_reader import ReplyReader
from proxy.engine.sink import Sink
from proxy.metrics import Counters
from proxy.resp import encode
from proxy.resp.replies import BadReply
from proxy.transport.addresses import first_that_serves
from proxy.transport.transports import is_over

_UNMEASURED = Counters(measure=False)
"""The latency of these replies says nothing about the servers: blocking commands are answered late on purpose."""

OnLost = Callable[[str, bool], None]
"""Called with the reason in words, and with whether a written request is unanswered."""


class Lease(ServerConnection):
    """An open connection to ``place``. Replies are delivered to the sinks unchanged; the holder judges errors.

    ``shared``: the holder uses the connection for many clients. ``at_busy``: see ``Greeting``. ``on_lost`` is called
    once if the server closes the connection, and never after ``drop``. ``on_push`` gets the push messages of the
    server.
    """

    __slots__ = (
        "_at_busy",
        "_dirty",
        "_on_gone",
        "_reader",
        "_reason",
        "_shared",
        "client_id",
        "holder",
        "inflight",
        "on_error",
        "on_lost",
        "on_push",
        "since",
        "stray",
    )

    def __init__(
        self,
        place: Place,
        settings: BackendSettings[Any],
        on_gone: Callable[["Lease"], None],
        *,
        shared: bool = False,
        at_busy: bool = False,
    ) -> None:
        super().__init__(place, settings)
        self.holder: str | None = None
        """The user and the address that have the connection; None: nobody has."""
        self.client_id = 0
        """The connection's id at the server, for CLIENT UNBLOCK and CLIENT TRACKING REDIRECT."""
        self.inflight = InFlight()
        self.on_lost: OnLost | None = None
        self.on_push: Callable[[bytes], None] | None = None
        self.on_error: Callable[[bytes], bool] | None = None
        """Gets each error first, and returns whether it took the oldest request out of ``inflight`` and handled the
        error."""
        self.since = 0.0
        """The time at which the connection became idle, or its check began."""
        self.stray = 0.0
        """The time since which the server has another role than the connection was made for; 0 if the role is right."""
        self._on_gone = on_gone
        self._shared = shared
        self._at_busy = at_busy
        self._reader = ReplyReader(
            self.inflight, _UNMEASURED, self._erred, self._pushed, settings.max_reply, self._too_large
        )
        self._dirty = False
        self._reason = ""

    def __repr__(self) -> str:
        return f"Lease({self.place.node.address} db{self.place.db} {self.inflight!r})"

    async def connect(self) -> None:
        """Connect and make the handshake. Raises ``BackendError``, ``OSError``, ``TimeoutError``, ``ValueError``."""
        settings, place = self._settings, self.place
        gate = settings.gates.to(place.node, place.primary, place.user)
        # A waiting request is told at once that the server is down, and finds out where it belongs now.
        await gate.attempt(
            lambda: first_that_serves(place.node, settings.timing.connect_timeout, self._greet), patient=False
        )

    async def _greet(self, address: str, seconds: float) -> None:
        greeting = self._settings.greeting(self.place, at_busy=self._at_busy, identify=True, shared=self._shared)
        await self.greet(address, seconds, greeting)
        self.client_id = greeting.client_id
        if self._shared:
            self.takes_messages()

    def send(self, sink: Sink, token: int, frame: bytes, since: float) -> None:
        """Send one request; its bytes are written at the end of this turn of the loop."""
        self.inflight.push(sink, token, frame, 0, len(frame), since)
        if not self._dirty:
            self._dirty = True
            self._settings.turn.add(self)

    def flush(self) -> None:
        """Write the unsent requests; over a shared connection no more than the server keeps for it without closing it,
        until it has answered. An idle connection that the server has closed is aborted instead: a request written to it
        would be lost, and nobody could say whether the server had read it."""
        self._dirty = False
        if self._transport is None or not self.inflight.unsent:
            return
        if not self.inflight.written and is_over(self._transport):
            self.abort()
        elif self._shared:
            self.inflight.write_upto(self._transport, self._settings.query.unanswered)
        else:
            self.inflight.write_to(self._transport)

    def drop(self) -> None:
        """Close the connection without calling the holder's callbacks."""
        self.on_lost = self.on_push = self.on_error = None
        self.inflight.drain()
        self.abort()
        self._on_gone(self)

    def lose(self, reason: str) -> None:
        """Close the connection as if the server had closed it; the holder is told ``reason``."""
        self._reason = reason
        self.abort()

    def read(self, on: bool) -> None:
        """Resume or pause reading from the server."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    @property
    def busy(self) -> bool:
        """Whether a request is in flight, or the rest of an abandoned reply has yet to arrive."""
        return len(self.inflight) > 0 or self._reader.streaming

    @property
    def standing(self) -> bool:
        """Whether the connection is open."""
        return self._transport is not None and self._lost is not None and not self._lost.done()

    # ---- events of the transport

    def data_received(self, data: bytes) -> None:
        """Deliver the replies in ``data`` to their sinks."""
        if self._greeting is not None:
            self._greeting.feed(data)
            return
        try:
            self._reader.feed(data, self._settings.turn.now())
        except BadReply as error:
            self._reason = f"its replies can not be read: {error}"
            self.abort()
        if self.inflight.unsent and not self._dirty:
            self._dirty = True
            self._settings.turn.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the holder that the connection is lost."""
        self._transport = None
        self.mark_lost()
        self._reader.reset()
        if self._greeting is not None:
            self._greeting.lost(exc)
            return
        sent = self.inflight.written > 0
        self.inflight.drain()
        on_lost, self.on_lost = self.on_lost, None
        self._on_gone(self)
        if on_lost is not None:
            on_lost(self._reason or (str(exc) if exc else "the server closed the connection"), sent)

    def pause_writing(self) -> None:
        """Do nothing: the holder bounds the bytes that wait while the server reads slowly."""

    def resume_writing(self) -> None:
        """Do nothing: the holder bounds the bytes that wait while the server reads slowly."""

    def _pushed(self, frame: bytes) -> None:
        if self.on_push is not None:
            self.on_push(frame)

    def _erred(self, error: bytes) -> bool:
        return self.on_error is not None and self.on_error(error)

    def _too_large(self, entry: Entry) -> bytes:
        settings = self._settings
        settings.counters.too_large += 1
        return encode.error(
            server_errors.reply_too_large(settings.max_reply, not settings.events.look(entry.frame).readonly)
        )
