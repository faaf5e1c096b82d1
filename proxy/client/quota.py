"""The limits of one client by its user and its address, and before its login.

::

    request_loop ──▶ Quota.allowed    how much may be carried out now, by the user's Allowance and the address's
                 ──▶ ... carried out, on any path ...
                 ──▶ Quota.charge     takes it from both
    nothing is allowed ──▶ the client waits (``delay``): it is not read from until an Allowance has more
                      └──▶ the request is refused (``refuse``)

What was carried out is counted by the numbers of the window, once for each batch of requests, so that the paths
themselves count nothing. A client without limits has no ``Quota``. When a client gets another user, all that it asked
for before has been answered (``features.login.may_change_user``), and counts for the user who asked for it.
"""

from proxy.client.allowance import PLENTY, Allowance, AllowanceWorker, BoundClient

_PLENTY = PLENTY


class Quota:
    """The limits of one client: the ``allowances`` of its user and address, and the bounds of a client that is a
    ``stranger``, which has to log in: so many commands, of so many bytes in all. 0 is no limit."""

    __slots__ = (
        "_before",
        "_client",
        "_commands",
        "_issued",
        "_most_bytes",
        "_most_commands",
        "_over",
        "_received",
        "_window",
        "_worker",
        "_written",
        "allowances",
        "stranger",
    )

    def __init__(
        self,
        client: BoundClient,
        worker: AllowanceWorker,
        allowances: list[Allowance],
        stranger: bool = False,
        most_commands: int = 0,
        most_bytes: int = 0,
        before: "Quota | None" = None,
    ) -> None:
        self._before = before
        """The quota that the client had before, until the reply to the request that changed the user was taken."""
        self._client = client
        self._worker = worker
        self._window = client.window
        self.allowances = allowances
        self.stranger = stranger
        self._most_commands = most_commands
        self._most_bytes = most_bytes
        self._issued = -1
        """How many requests of the client were counted; negative as long as the request that made the quota, which was
        counted by the quota before, may not have its number yet."""
        self._written = 0
        """The most bytes of replies that were taken: all bytes that were written, less those of push messages, which
        are known before they are written."""
        self._commands = 0
        self._received = 0
        """The number of the requests, and their bytes, since the quota was made."""
        self._over: Allowance | None = None
        """The allowance that allowed nothing the last time."""
        for one in allowances:
            one.clients[client.number] = client

    def __repr__(self) -> str:
        return f"Quota({self.allowances}, {'not logged in' if self.stranger else 'logged in'})"

    def leave(self) -> "Quota | None":
        """Give the allowances up, as the client has another user now or is gone. What was carried out is taken first;
        the size of the requests that are carried out at this moment still comes (``charge``), and so does the reply to
        them, from the quota that the client gets now. Returns the quota of which that is to take it."""
        if self._issued >= 0:
            self.charge(0)
            self.settle()
        for one in self.allowances:
            one.leave(self._client.number)
        return self if self._issued >= 0 else self._before

    def settle(self) -> None:
        """Take the replies that the client has got, also those that are not written yet."""
        answered = self._answered()
        if answered > self._written:
            for one in self.allowances:
                one.take(0, answered - self._written, 0)
            self._written = answered

    def _answered(self) -> int:
        window = self._window
        return window.written + window.unwritten() - window.pushed

    def allowed(self, now: float) -> int:
        """How many requests may be carried out now; those of more than ``CREDIT`` bytes count more than once. The
        replies that were written to the client lately are taken first."""
        most = _PLENTY
        window = self._window
        if self._issued < 0:
            self._issued = window.issued
            self._written = self._answered()
            if self._before is not None:
                self._before.settle()
                self._before = None
        elif self._written < window.written - window.pushed:
            self.charge(0)
        for one in self.allowances:
            some = one.allowed(now)
            if some <= 0:
                self._over = one
                return 0
            most = min(most, some)
        return 1 if self.stranger else most

    def charge(self, size: int) -> None:
        """Take from the allowances what was carried out since the last time: requests of ``size`` bytes, and the
        replies that were written to the client meanwhile. Messages that others caused do not count."""
        window = self._window
        commands = window.issued - self._issued
        self._issued += commands
        self._received += size
        self._commands += commands
        written = window.written - window.pushed
        if written > self._written:
            size += written - self._written
            self._written = written
        in_flight = min(commands, window.pending)
        for one in self.allowances:
            one.take(commands, size, in_flight)

    def answered(self) -> None:
        """Let the client go on if it waits for its own replies, or for those of others, and some were written."""
        for one in self.allowances:
            one.answered()

    def over(self, now: float) -> str:
        """Return the error for a request that is refused; empty if the client waits, now that nothing is allowed."""
        over = self._over
        assert over is not None
        key, limit = over.exceeded(now)
        if over.delays or not limit:
            self._worker.hold(key)
            over.wait(self._client)
            return ""
        self._worker.refuse(key)
        return f"ERR {over.who} is over its limit of {limit}"

    def skip(self) -> None:
        """Take nothing for the request that was refused."""
        issued = self._window.issued
        self._commands += issued - self._issued
        self._issued = issued

    def before_login(self, more: bool, coming: int) -> str:
        """Return the error if a stranger exceeds its bounds, having sent ``more`` requests or a part of one, of at
        least ``coming`` bytes; else empty."""
        if more and self._most_commands and self._commands >= self._most_commands:
            return f"ERR more than {self._most_commands} commands before the login (limits.auth_commands)"
        if self._most_bytes and self._received + coming > self._most_bytes:
            return f"ERR more than {self._most_bytes} bytes before the login (limits.auth_bytes)"
        return ""
