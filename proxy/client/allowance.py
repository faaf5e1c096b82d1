"""What the clients of one user, or of one address, may do together: rates of commands and bytes, requests in flight.

::

    Allowance.allowed    how many requests may be carried out now
    Allowance.take       what was carried out
    Allowance.wait       a client waits: until the buckets have more, or other requests are answered (``answered``)
"""

import logging
from collections.abc import Callable
from typing import Protocol

from proxy.engine.window import ReplyWindow
from proxy.transport.flow_control import Flow, Stop

log = logging.getLogger(__name__)

PLENTY = 2**40
"""As much as no client carries out at once."""
CREDIT = 256
"""The bytes of a request that count as much as one request, in what is allowed at once."""
_AT_ONCE = 100
"""The most waiting clients that go on before other work gets its turn."""
_SHORTEST = 0.005
"""Seconds: the shortest time after which waiting clients go on, when a bucket was empty."""
_RECOUNT = 0.001
"""Seconds: the longest time between two counts of the requests in flight while clients wait."""
_RECOUNT_EACH = 0.000002
"""Seconds: requests in flight are counted no more often than after this time for each client that is counted."""
_QUOTA = Stop.QUOTA
_PLENTY = PLENTY
_CREDIT = CREDIT


class BoundClient(Protocol):
    """A client whose user or address has limits."""

    @property
    def number(self) -> int:
        """The client's id."""

    @property
    def window(self) -> ReplyWindow:
        """The window of the client's replies."""

    @property
    def flow(self) -> Flow:
        """Decides when the client is read from."""

    def give_up(self) -> None:
        """Close the connection, since carrying out its requests has failed."""

    @property
    def modes(self) -> "MaybeBlocked | None":
        """The client's modes, if it has any."""


class MaybeBlocked(Protocol):
    """The modes of a client."""

    @property
    def blocked(self) -> bool:
        """Whether the client waits in a blocking command, which takes nothing from others."""


class TokenBucket:
    """Gives ``rate`` tokens a second, and keeps those of one second. What was taken beyond that is a debt."""

    __slots__ = ("_at", "_left", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._left = rate
        self._at = now

    def __repr__(self) -> str:
        return f"TokenBucket({self._left:.0f} of {self.rate:.0f})"

    def left(self, now: float) -> float:
        """The tokens that are left now."""
        if now > self._at:
            self._left = min(self._left + (now - self._at) * self.rate, self.rate)
            self._at = now
        return self._left

    def take(self, tokens: float) -> None:
        """Take tokens, even if fewer are left."""
        self._left -= tokens

    def wait(self, tokens: float) -> float:
        """The seconds until so many tokens are left."""
        return max(tokens - self._left, 0.0) / self.rate


class Allowance:
    """What the clients of one user, or of one address, may do together. ``kind`` is user or address."""

    __slots__ = (
        "_bytes",
        "_commands",
        "_counted_at",
        "_in_flight",
        "_latest",
        "_most_in_flight",
        "_soon",
        "_timer",
        "_waking",
        "_worker",
        "clients",
        "delays",
        "kind",
        "name",
        "waiting",
    )

    def __init__(
        self, kind: str, name: str, worker: "AllowanceWorker", rates: tuple[int, int, int], delays: bool
    ) -> None:
        commands, size, in_flight = rates
        now = worker.now()
        self.kind = kind
        self.name = name
        self._worker = worker
        self._commands = TokenBucket(commands, now) if commands else None
        self._bytes = TokenBucket(size, now) if size else None
        self._most_in_flight = in_flight
        self._in_flight = 0
        """At least the number of requests in flight: those of the last count, and those that were sent since."""
        self._counted_at = now
        self.delays = delays
        """Whether clients that are over a limit wait; else their requests are refused."""
        self.clients: dict[int, BoundClient] = {}
        """All clients that share the allowance, by id."""
        self.waiting: dict[int, BoundClient] = {}
        """The clients that wait until more is allowed, in their order."""
        self._latest = "", ""
        """The limit that was reached last, for clients that wait behind others."""
        self._waking = False
        self._soon = False
        """Whether the clients that wait go on without a delay."""
        self._timer: Cancellable | None = None

    @property
    def who(self) -> str:
        """The user or address in errors."""
        return f"user '{self.name}'" if self.kind == "user" else f"address {self.name}"

    def __repr__(self) -> str:
        return f"Allowance({self.who}, {len(self.clients)} clients, {len(self.waiting)} wait)"

    def allowed(self, now: float) -> int:
        """How many requests may be carried out now; those of more than ``CREDIT`` bytes count more than once."""
        if self.waiting and not self._waking:
            return 0
        most = _PLENTY
        commands = self._commands
        if commands is not None:
            most = int(commands.left(now))
        size = self._bytes
        if size is not None and most > 0:
            left = size.left(now)
            most = min(most, int(left) // _CREDIT + 1) if left > 0 else 0
        if self._most_in_flight and most > 0:
            most = min(most, self._free(now))
        return max(most, 0)

    def _free(self, now: float) -> int:
        """How many more requests may be in flight."""
        if self._in_flight >= self._most_in_flight and now >= self._counted_at + min(
            _RECOUNT, len(self.clients) * _RECOUNT_EACH
        ):
            self._counted_at = now
            self._in_flight = 0
            for client in self.clients.values():
                pending = client.window.pending
                if pending and (client.modes is None or not client.modes.blocked):
                    self._in_flight += pending
        return self._most_in_flight - self._in_flight

    def take(self, commands: int, size: int, in_flight: int) -> None:
        """Count what was carried out, and the requests among it that may be in flight."""
        if self._commands is not None:
            self._commands.take(commands)
        if self._bytes is not None:
            self._bytes.take(size)
        self._in_flight += in_flight

    def exceeded(self, now: float) -> tuple[str, str]:
        """Return the key of the limit that is reached, and the limit in words, which are empty for requests in
        flight."""
        commands, size = self._commands, self._bytes
        if commands is not None and commands.left(now) < 1:
            self._latest = f"max_command_rate_per_{self.kind}", f"{commands.rate:.0f} commands/s"
        elif size is not None and size.left(now) <= 0:
            self._latest = f"max_byte_rate_per_{self.kind}", f"{size.rate:.0f} bytes/s"
        elif not self.waiting:
            self._latest = f"max_in_flight_per_{self.kind}", ""
        return self._latest

    def full(self, now: float) -> bool:
        """Whether nothing was taken lately, so that a new allowance would be the same."""
        commands, size = self._commands, self._bytes
        return (commands is None or commands.left(now) >= commands.rate) and (
            size is None or size.left(now) >= size.rate
        )

    # ---- clients that wait

    def wait(self, client: BoundClient) -> None:
        """Do not read from ``client`` until more is allowed."""
        self.waiting[client.number] = client
        client.flow.stop(_QUOTA)
        if not self._waking:
            if self._timer is None:
                self._arm()
            elif self._most_in_flight and not self._soon:
                self.answered()

    def answered(self) -> None:
        """Let the clients that wait go on at the end of this turn, if fewer requests are in flight now."""
        if self._most_in_flight and self._timer is not None and not self._soon and self._seconds() == 0.0:
            self._timer.cancel()
            self._arm()

    def leave(self, number: int) -> None:
        """Forget a client, which has another user now or is gone."""
        self.clients.pop(number, None)
        self.waiting.pop(number, None)
        if not self.waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        seconds = self._seconds()
        self._soon = seconds == 0.0
        self._timer = self._worker.call_later(seconds, self._wake)

    def _seconds(self) -> float:
        """The seconds until clients that wait may go on."""
        seconds = 0.0
        if self._commands is not None:
            seconds = self._commands.wait(1.0)
        if self._bytes is not None:
            seconds = max(seconds, self._bytes.wait(1.0))
        if seconds > 0.0:
            return max(seconds, _SHORTEST)
        return _RECOUNT if self._most_in_flight and self._free(self._worker.now()) <= 0 else 0.0

    def _wake(self) -> None:
        """Let the clients that wait go on, one after the other, while anything is allowed."""
        self._timer = None
        self._waking = True
        try:
            for _ in range(min(len(self.waiting), _AT_ONCE)):
                if not self.waiting or self.allowed(self._worker.now()) <= 0:
                    break
                client = self.waiting.pop(next(iter(self.waiting)))
                try:
                    client.flow.go(_QUOTA)
                except Exception:
                    log.exception("requests failed client=%r", client)
                    client.give_up()
        finally:
            self._waking = False
            if self.waiting and self._timer is None:
                self._arm()


class Cancellable(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Cancel the call."""


class AllowanceWorker(Protocol):
    """The part of the worker that allowances use."""

    def now(self) -> float:
        """The time of this turn, in seconds."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Cancellable:
        """Call ``callback`` after so many seconds."""

    def hold(self, limit: str) -> None:
        """Count a client that waits because ``limit`` is reached."""

    def refuse(self, limit: str) -> None:
        """Count a request that is refused because ``limit`` is reached."""
