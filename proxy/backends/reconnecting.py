"""A connection to a server that connects again whenever it is lost, and measures how long the server was
unreachable."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from proxy import errors, server_errors
from proxy.backends.connect_gate import Backoff
from proxy.backends.connection import ServerConnection, reason
from proxy.backends.handshake import Step
from proxy.backends.settings import BackendSettings, ConnectionState, Place
from proxy.resp import encode
from proxy.transport.addresses import first_that_serves

log = logging.getLogger(__name__)


class Event(Enum):
    """The events of such a connection."""

    STARTED = "started"
    """The connection is asked for."""
    STOOD = "stood"
    """The handshake has succeeded."""
    LOST = "lost"
    """The connection is lost."""
    BUSY = "busy"
    """The server is reachable, but too busy for the handshake."""
    GIVEN_UP = "given up"
    """A request has waited until the deadline."""
    CLOSED = "closed"
    """The connection is closed for good."""


TRANSITIONS: Mapping[tuple[ConnectionState, Event], ConnectionState] = {
    (ConnectionState.NEW, Event.STARTED): ConnectionState.HELD,
    (ConnectionState.HELD, Event.STOOD): ConnectionState.READY,
    (ConnectionState.FAILING, Event.STOOD): ConnectionState.READY,
    (ConnectionState.READY, Event.LOST): ConnectionState.HELD,
    (ConnectionState.HELD, Event.BUSY): ConnectionState.HELD,
    (ConnectionState.FAILING, Event.BUSY): ConnectionState.HELD,
    (ConnectionState.HELD, Event.GIVEN_UP): ConnectionState.FAILING,
    **{(state, Event.CLOSED): ConnectionState.CLOSED for state in ConnectionState},
}
"""The next state by state and event. A pair that is missing can not occur."""


class ReconnectingConnection(ServerConnection):
    """A connection that reconnects by itself. ``state`` is its state, ``ready`` whether it can be used now."""

    __slots__ = (
        "_closing",
        "_down_since",
        "_gate",
        "_loop",
        "_reason",
        "_runner",
        "_turn",
        "ready",
        "state",
        "unfit",
    )

    def __init__(self, place: Place, settings: BackendSettings[Any]) -> None:
        super().__init__(place, settings)
        self._turn = settings.turn
        self._loop = asyncio.get_running_loop()
        self._gate = settings.gates.to(place.node, place.primary, place.user)
        self._runner: asyncio.Task[None] | None = None
        self._closing = False
        self._down_since = self._turn.now()
        self._reason = "not connected yet"
        self.state = ConnectionState.NEW
        self.ready = False
        """Whether ``state`` is READY."""
        self.unfit = ""
        """Why a static primary is not used though it is reachable; empty if there is no such reason."""

    # ---- methods of the subclass

    async def steps(self) -> list[Step]:
        """The commands of the handshake that this connection adds. Raises ``BackendError``."""
        return []

    def stood(self) -> None:
        """Take notice that the handshake has succeeded."""
        raise NotImplementedError

    def turned_away(self, refusal: bytes) -> None:
        """Take notice that the server is reachable, but takes no requests now; ``refusal`` is its error."""
        raise NotImplementedError

    # ---- connecting

    @property
    def usable(self) -> bool:
        """Whether requests may be pushed: they are sent, or held for a while. If not, the answer is ``down_error``."""
        return self.state is not ConnectionState.FAILING and self.state is not ConnectionState.CLOSED

    def down_for(self, now: float) -> float:
        """The seconds for which the server has been unreachable; 0 while it is reachable."""
        return 0.0 if self.ready else now - self._down_since

    def down_error(self) -> bytes:
        """The error reply for a request that is not sent."""
        return encode.error(server_errors.shard_down(self.place.shard, self.place.node.address, self._reason))

    def start(self) -> None:
        """Connect, and reconnect after each loss."""
        if self._runner is None and not self._closing:
            if self.state is ConnectionState.NEW:
                self.state = TRANSITIONS[self.state, Event.STARTED]
            self._runner = self._loop.create_task(self._run(), name=f"backend {self.place.node.address}")

    async def close(self) -> None:
        """Close the connection for good."""
        self._closing = True
        self._reason = "the proxy is closing"
        runner, self._runner = self._runner, None
        self.abort()
        if runner is not None:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
        self.happened(Event.CLOSED)

    def happened(self, event: Event) -> None:
        """Change the state. Raises ``KeyError`` for an event that the state does not allow."""
        state = TRANSITIONS[self.state, event]
        if state is not self.state:
            self.state = state
            self.ready = state is ConnectionState.READY
            self._settings.events.on_state(self)

    def fell(self, error: Exception | None) -> None:
        """Take notice of the loss of a ready connection; ``error`` is the cause, if it is known."""
        if error is not None:
            self._reason = reason(error, 0.0)
        elif not self._reason:
            self._reason = "the server closed the connection"
        self._down_since = self._turn.now()
        self.happened(Event.LOST)

    async def _run(self) -> None:
        timing = self._settings.timing
        backoff = Backoff(timing.backoff_min, timing.backoff_max)
        while not self._closing:
            since = self._turn.now()
            paced = False
            """Whether the gate decides when the next attempt may be made."""
            try:
                steps = await self.steps()
                paced = True
                lost = await self._gate.attempt(lambda: self._connect(steps))  # noqa: B023 - it is called here
                paced = False
                since = self._turn.now()
                await lost
                self._gate.doubt()
            except (OSError, TimeoutError, ValueError, errors.BackendError) as error:
                # A ValueError means that the host name is invalid.
                paced = paced and not isinstance(error, errors.PlaceRefused)
                if isinstance(error, errors.ServerBusy):
                    backoff.reset()  # waiting requests are told so at each attempt
                self._not_connected(error)
            # A server that closes each new connection must not be tried without a pause.
            if self._turn.now() - since > timing.backoff_max + timing.connect_timeout:
                backoff.reset()
            if not paced:
                await asyncio.sleep(backoff.pause())

    def _not_connected(self, error: Exception) -> None:
        words = reason(error, self._settings.timing.connect_timeout)
        denied = self._settings.roles.alone and self.place.primary and isinstance(error, errors.WrongRole)
        self.unfit = str(error) if denied else ""
        if words != self._reason:
            self._reason = words
            # A fault of the server is logged once, and not for each connection to it.
            news = isinstance(error, errors.PlaceRefused) or self._gate.is_news(words)
            self.log(logging.WARNING if news else logging.DEBUG, "backend not reachable")
            if news and self.unfit:
                self.log(logging.ERROR, errors.REPLICA_AS_PRIMARY)
        if isinstance(error, errors.ServerBusy):
            # The server is reachable: at each attempt waiting requests get its error, however long that lasts.
            self._down_since = self._turn.now()
            self.happened(Event.BUSY)
            self.turned_away(encode.error(words))
        self._settings.events.hint(None)

    async def _connect(self, steps: Sequence[Step]) -> asyncio.Future[None]:
        """Connect and make the handshake. The returned future is done when the connection is lost."""
        timeout = self._settings.timing.connect_timeout
        return await first_that_serves(
            self.place.node, timeout, lambda address, seconds: self._greet(address, seconds, steps)
        )

    async def _greet(self, address: str, seconds: float, steps: Sequence[Step]) -> asyncio.Future[None]:
        """Connect to ``address``, one of the server's addresses, and make the handshake."""
        lost = await self.greet(address, seconds, self._settings.greeting(self.place, steps=steps))
        self._reason = self.unfit = ""
        level = logging.DEBUG if self.place.owner else logging.INFO
        log.log(level, "backend connected shard=%s address=%s", self.place.shard, self.place.node.address)
        self.stood()
        return lost

    def log(self, level: int, event: str) -> None:
        """Log ``event`` with the connection's place and its current reason."""
        place = self.place
        log.log(level, "%s shard=%s address=%s reason=%r", event, place.shard, place.node.address, self._reason)
