"""A parsed request on the slow path, and the reply that its client waits for."""

from proxy.backends.dispatch import Muted
from proxy.commands.facts import Fact
from proxy.engine.sink import Sink
from proxy.engine.window import ReplyWindow
from proxy.metrics import CommandCounter


class Request:
    """One request whose command is known. The fast paths make no such object.

    ``frame`` is the request in RESP, ``args`` its arguments, the command's name first; ``now`` is the time at which it
    was taken, in seconds of the loop's clock. A request is not changed: one that is carried out in another form is a
    new ``Request``.
    """

    __slots__ = ("args", "fact", "frame", "now")

    def __init__(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> None:
        self.fact = fact
        self.args = args
        self.frame = frame
        self.now = now

    def __repr__(self) -> str:
        return f"Request({self.fact.name}, {len(self.args)} arguments, {len(self.frame)} bytes)"


class PendingReply:
    """The reply to one request that is carried out: its place among its client's replies, and whether the client wants
    it (CLIENT REPLY).

    ``Host.called`` and ``Host.hold`` make one for each request, which counts the call. Either ``answer`` is called
    once, or a server's reply is delivered to ``sink`` under ``token``.
    """

    __slots__ = ("_answered", "_counter", "_window", "muted", "sink", "token")

    def __init__(self, window: ReplyWindow, counter: CommandCounter, muted: bool) -> None:
        counter.calls += 1
        self._window = window
        self._counter = counter
        self._answered = False
        self.muted = muted
        """Whether the client does not want the reply."""
        self.sink: Sink = Muted(window) if muted else window
        """The sink of the reply; a module that has to see the reply first puts a sink of its own in front of this
        one."""
        self.token = -1
        """The place of the reply among those to the client; -1 until it is reserved."""

    def __repr__(self) -> str:
        return f"PendingReply({self._counter.name}, {self.token}{', muted' * self.muted})"

    def reserve(self) -> "PendingReply":
        """Reserve the next place among the client's replies: other requests may be carried out before this one is
        answered."""
        self.token = self._window.reserve()
        return self

    def unmute(self) -> None:
        """Send the reply although the client wants none."""
        self.muted = False
        self.sink = self._window

    def answer(self, reply: bytes) -> None:
        """Send ``reply`` to the client, and count it if it is an error."""
        assert not self._answered, f"{self!r} has its reply"
        self._answered = True
        if reply.startswith(b"-"):
            self._counter.failed += 1
        if self.token < 0:
            self.reserve()
        self.sink.deliver(self.token, reply, 0, len(reply))
