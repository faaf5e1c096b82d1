"""Commands that block: each uses a connection that its client has for itself meanwhile
(``proxy.backends.blocking_request``).

A blocked client's socket is still read, so that its disconnect is seen; the requests that it sends wait. When it
disconnects, the dedicated connection is closed, which ends the block at the server.
"""

import math
from collections.abc import Sequence

from proxy.backends.blocking_request import UNBLOCKED, BlockingRequest
from proxy.backends.settings import Place
from proxy.commands.facts import Fact
from proxy.commands.getkeys import xread_block_at
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.planning.planner import Pin, Reject
from proxy.planning.xread_ends import closed, end_said, open_ends, question
from proxy.resp import encode
from proxy.transport.flow_control import Stop

_FIRST = frozenset({"blmpop", "bzmpop"})
"""The commands whose first argument is the timeout in seconds. The other commands have it last, and XREAD has BLOCK."""
_LAST = frozenset({"blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax"})
_STREAMS = frozenset({"xread", "xreadgroup"})


def begin(modes: Modes, request: Request, shard: int) -> bool:
    """Carry out a command that may block, on ``shard``. Returns False if the command must wait until all earlier
    requests of its client are answered."""
    client = modes.client
    if not client.alone():
        return False
    if client.flow.ended:
        # As in Redis, an element must not be given to a client that has disconnected.
        client.drain()
        return True
    halt = Halt(modes, request.fact)
    halt.pending.sink = client.writing((shard,), not request.fact.readonly, halt.pending.sink)
    Block(modes, request, halt).start()
    return True


class Halt:
    """Stops a client until its command is answered.

    The client counts as blocked as long as a server has the command, and not earlier: another client may wait for that,
    and then send the command that unblocks it.
    """

    __slots__ = ("_counted", "_modes", "_reads", "leaving", "pending")

    def __init__(self, modes: Modes, fact: Fact) -> None:
        client = modes.client
        self._modes = modes
        self._reads = fact.readonly
        self.pending = client.hold(fact)
        self.leaving = False
        """Whether the client is being closed, so that an error of the proxy would tell it nothing."""
        self._counted = False
        client.flow.stop(Stop.BLOCKED)
        client.adopt_session()

    def waits(self, on: bool) -> None:
        """Note whether a server has the client's command."""
        if on is not self._counted:
            self._counted = on
            client = self._modes.client
            client.session.blocked = on
            client.service.clients.count_blocked(1 if on else -1)

    def end(self) -> None:
        """End the wait of the client."""
        self._modes.block = None
        self.waits(False)

    def answer(self, reply: bytes) -> None:
        """Answer the command, and let the client go on."""
        self.end()
        self.pending.answer(b"" if self.leaving and reply == UNBLOCKED else reply)
        if self._reads:
            self._modes.read_untracked()


class Block(BlockingRequest):
    """One blocking command of a client."""

    __slots__ = ("_asked", "_ends", "_halt", "_modes", "_open", "_request")

    def __init__(self, modes: Modes, request: Request, halt: Halt) -> None:
        fact, args = request.fact, request.args
        client = modes.client
        super().__init__(client.service.upstream, client.holder, seconds(fact.name, args), readonly=fact.readonly)
        self._modes = modes
        self._request = request
        self._halt = halt
        self._open = open_ends(args) if fact.name == "xread" else {}
        self._ends: dict[int, bytes] = {}
        """The ids that replace ``$``, by the index of the argument, as far as they are known."""
        self._asked: list[int] = []
        """The indexes of the ``$`` for which the server is being asked now, in the order of the requests."""
        modes.block = self

    def place(self) -> Place | bytes | None:
        """Return the place of the keys."""
        request = self._request
        plan = self._modes.client.service.planner.plan(request.fact, request.args, request.frame)
        if isinstance(plan, Reject):
            return encode.error(plan.text)
        assert isinstance(plan, Pin)
        session = self._modes.client.session
        return self.upstream.primary(plan.shard, session.protocol, session.db, session.route.server_user)

    def requests(self, remaining: float | None) -> Sequence[bytes]:
        """Return the command, preceded by requests for the last id of each stream that is read from ``$`` on."""
        request = self._request
        frame = request.frame
        if remaining is not None or self._ends:
            args = closed(request.args, self._ends)
            frame = encode.request(args if remaining is None else shortened(request.fact.name, args, remaining))
        self._asked = [at for at in self._open if at not in self._ends]
        return (*(question(self._open[at]) for at in self._asked), frame)

    def heard(self, index: int, reply: bytes) -> bool:
        """Take the last id of a stream. If the server does not give it, ``$`` stands for the last id of the moment at
        which a server gets the command."""
        at = self._asked[index]
        end = end_said(reply)
        if end is not None:
            self._ends[at] = end
        else:
            del self._open[at]
        return True

    def waits(self, on: bool) -> None:
        """Note whether the client is blocked."""
        self._halt.waits(on)

    def nothing(self) -> bytes:
        """Return the null that a command whose time is over is answered."""
        return b"_\r\n" if self._modes.client.session.protocol >= 3 else b"*-1\r\n"

    def answer(self, reply: bytes) -> None:
        """Pass the reply on."""
        self._halt.answer(reply)

    def leave(self) -> None:
        """Unblock the client, as it is to be closed; an element that is given to it at this moment is still
        delivered."""
        self._halt.leaving = True
        self.unblock(True)

    def cancel(self) -> None:
        """End the command, as the client is gone."""
        self._halt.end()
        super().cancel()


def seconds(name: str, args: Sequence[bytes]) -> float:
    """The seconds that a command may block; ``math.inf`` if there is no limit, or none that can be read."""
    at = _timeout_at(name, args)
    if at is None:
        return math.inf
    try:
        value = float(args[at])
    except ValueError:
        return math.inf
    if name in _STREAMS:
        value /= 1000
    return value if value > 0 else math.inf


def shortened(name: str, args: Sequence[bytes], remaining: float) -> list[bytes]:
    """The arguments of the command with a timeout of ``remaining`` seconds."""
    changed = list(args)
    at = _timeout_at(name, args)
    assert at is not None
    changed[at] = b"%d" % math.ceil(remaining * 1000) if name in _STREAMS else b"%.3f" % remaining
    return changed


def _timeout_at(name: str, args: Sequence[bytes]) -> int | None:
    """The index of the timeout among the arguments, or None."""
    if name in _FIRST:
        return 1
    if name in _LAST:
        return len(args) - 1
    if name in _STREAMS:
        return xread_block_at(args)
    return None
