"""One connection to a server that one client has for itself for a while; ``proxy.backends.dedicated_pool`` has all of
them."""

from collections.abc import Callable
from typing import Any

from proxy import errors
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
"""How long these replies take says nothing about the servers: who blocks is answered late on purpose."""

OnLost = Callable[[str, bool], None]
"""Called with the reason, in words, and whether anything was written that is not answered."""


class Lease(ServerConnection):
    """A connection to ``place`` that stands. Replies come to the sinks as they are: errors are the holder's to judge.

    ``shared``: its holder uses it for many clients. ``at_busy``: see ``Greeting``. ``on_lost`` is called once when the
    server closes it, never after ``drop``. ``on_push`` gets what it says unasked.
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
        """Who has it; None: nobody."""
        self.client_id = 0
        """Its id at the server, as CLIENT UNBLOCK and CLIENT TRACKING REDIRECT name it."""
        self.inflight = InFlight()
        self.on_lost: OnLost | None = None
        self.on_push: Callable[[bytes], None] | None = None
        self.on_error: Callable[[bytes], bool] | None = None
        """Gets each error first: whether it took the oldest request out of ``inflight``, and the error with it."""
        self.since = 0.0
        """When it became idle, or its check began."""
        self.stray = 0.0
        """Since when its server does not have the role any more that it was connected for; 0: it has."""
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
        """Connect and greet. Raises ``BackendError``, ``OSError``, ``TimeoutError``, ``ValueError``."""
        settings, place = self._settings, self.place
        gate = settings.gates.to(place.node, place.primary)
        # Who waits for it can be told that the server is away, and looks then where its request belongs now.
        await gate.attempt(
            lambda: first_that_serves(place.node, settings.timing.connect_timeout, self._greet), patient=False
        )

    async def _greet(self, address: str, seconds: float) -> None:
        greeting = self._settings.greeting(self.place, at_busy=self._at_busy, identify=True, shared=self._shared)
        await self.greet(address, seconds, greeting)
        self.client_id = greeting.client_id

    def send(self, sink: Sink, token: int, frame: bytes, since: float) -> None:
        """Send one request; it is written at the end of this turn."""
        self.inflight.push(sink, token, frame, 0, len(frame), since)
        if not self._dirty:
            self._dirty = True
            self._settings.turn.add(self)

    def flush(self) -> None:
        """Write what is to be sent. Behind the end of an idle connection nothing is written: it would be lost, and
        nobody could say that it was."""
        self._dirty = False
        if self._transport is None or not self.inflight.unsent:
            return
        if not self.inflight.written and is_over(self._transport):
            self.abort()
        else:
            self.inflight.write_to(self._transport)

    def drop(self) -> None:
        """Close it; nothing of it is heard any more."""
        self.on_lost = self.on_push = self.on_error = None
        self.inflight.drain()
        self.abort()
        self._on_gone(self)

    def lose(self, reason: str) -> None:
        """Close it as if the server had; its holder is told ``reason``."""
        self._reason = reason
        self.abort()

    def read(self, on: bool) -> None:
        """Take what the server says, or leave it where it is for a while."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    @property
    def busy(self) -> bool:
        """Whether something is in flight, or the rest of a reply that nobody waits for."""
        return len(self.inflight) > 0 or self._reader.streaming

    @property
    def standing(self) -> bool:
        """Whether it is connected."""
        return self._transport is not None and self._lost is not None and not self._lost.done()

    # ---- the transport's side

    def data_received(self, data: bytes) -> None:
        """Hand the replies to those who wait for them."""
        if self._greeting is not None:
            self._greeting.feed(data)
            return
        try:
            self._reader.feed(data, self._settings.turn.now())
        except BadReply as error:
            self._reason = f"its replies can not be read: {error}"
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
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
        """The server reads slowly: what is sent over a lease is its holder's, and bounded by it."""

    def resume_writing(self) -> None:
        """The server reads again."""

    def _pushed(self, frame: bytes) -> None:
        if self.on_push is not None:
            self.on_push(frame)

    def _erred(self, error: bytes) -> bool:
        return self.on_error is not None and self.on_error(error)

    def _too_large(self, entry: Entry) -> bytes:
        settings = self._settings
        settings.counters.too_large += 1
        return encode.error(errors.reply_too_large(settings.max_reply, not settings.events.look(entry.frame).readonly))
