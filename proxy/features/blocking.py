"""Commands that block: each over a connection that its client has for itself meanwhile
(``proxy.backends.blocking_request``).

While a client is blocked its socket is read, or nobody would see it leave; what it sends waits. When it leaves, the
connection is closed, which ends the block at the server.
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
"""Their first argument says how many seconds they may block; the last one of the others, but for XREAD's BLOCK."""
_LAST = frozenset({"blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax"})
_STREAMS = frozenset({"xread", "xreadgroup"})


def begin(modes: Modes, request: Request, shard: int) -> bool:
    """Carry out a command that may block, on ``shard``. False if it must wait until all that its client sent is
    answered."""
    client = modes.client
    if not client.alone():
        return False
    if client.flow.ended:
        # As Redis: what it waits for must not be given to somebody who is gone.
        client.drain()
        return True
    halt = Halt(modes, request.fact)
    halt.pending.sink = client.writing((shard,), not request.fact.readonly, halt.pending.sink)
    Block(modes, request, halt).start()
    return True


class Halt:
    """A client stops here until it is answered. It counts as blocked as long as a server has its command: whoever waits
    for that, and then does what it waits for, must not come before it."""

    __slots__ = ("_counted", "_modes", "_reads", "leaving", "pending")

    def __init__(self, modes: Modes, fact: Fact) -> None:
        client = modes.client
        self._modes = modes
        self._reads = fact.readonly
        self.pending = client.hold(fact)
        self.leaving = False
        """It is to be closed: an error of ours would tell it nothing."""
        self._counted = False
        client.flow.stop(Stop.BLOCKED)
        client.adopt_session()

    def waits(self, on: bool) -> None:
        """A server has its command, or has it no more."""
        if on is not self._counted:
            self._counted = on
            client = self._modes.client
            client.session.blocked = on
            client.service.clients.count_blocked(1 if on else -1)

    def end(self) -> None:
        """It does not wait any more."""
        self._modes.block = None
        self.waits(False)

    def answer(self, reply: bytes) -> None:
        """It goes on."""
        self.end()
        self.pending.answer(b"" if self.leaving and reply == UNBLOCKED else reply)
        if self._reads:
            self._modes.read_untracked()


class Block(BlockingRequest):
    """One command that blocks."""

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
        """What stands for ``$`` where it stood, once that is known."""
        self._asked: list[int] = []
        """Where those stand that are asked for now, in this order."""
        modes.block = self

    def place(self) -> Place | bytes | None:
        """Where its keys are."""
        request = self._request
        plan = self._modes.client.service.planner.plan(request.fact, request.args, request.frame)
        if isinstance(plan, Reject):
            return encode.error(plan.text)
        assert isinstance(plan, Pin)
        session = self._modes.client.session
        return self.upstream.primary(plan.shard, session.protocol, session.db)

    def requests(self, remaining: float | None) -> Sequence[bytes]:
        """The command; before it, at first, where the streams end that it reads on from there."""
        request = self._request
        frame = request.frame
        if remaining is not None or self._ends:
            args = closed(request.args, self._ends)
            frame = encode.request(args if remaining is None else shortened(request.fact.name, args, remaining))
        self._asked = [at for at in self._open if at not in self._ends]
        return (*(question(self._open[at]) for at in self._asked), frame)

    def heard(self, index: int, reply: bytes) -> bool:
        """Where a stream ends. If that is not said, it is where it ends when the command comes to a server again."""
        at = self._asked[index]
        end = end_said(reply)
        if end is not None:
            self._ends[at] = end
        else:
            del self._open[at]
        return True

    def waits(self, on: bool) -> None:
        """The client is blocked, or not."""
        self._halt.waits(on)

    def nothing(self) -> bytes:
        """The null that says that the time is over."""
        return b"_\r\n" if self._modes.client.session.protocol >= 3 else b"*-1\r\n"

    def answer(self, reply: bytes) -> None:
        """Pass it on."""
        self._halt.answer(reply)

    def leave(self) -> None:
        """The client is to be closed; what it is given at this moment it still gets."""
        self._halt.leaving = True
        self.unblock(True)

    def cancel(self) -> None:
        """The client is gone."""
        self._halt.end()
        super().cancel()


def seconds(name: str, args: Sequence[bytes]) -> float:
    """How long a command may block; ``math.inf`` if for ever, or if it does not say so in a way that is known here."""
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
    """The command, to block for ``remaining`` seconds."""
    changed = list(args)
    at = _timeout_at(name, args)
    assert at is not None
    changed[at] = b"%d" % math.ceil(remaining * 1000) if name in _STREAMS else b"%.3f" % remaining
    return changed


def _timeout_at(name: str, args: Sequence[bytes]) -> int | None:
    """Where a command says how long it may block."""
    if name in _FIRST:
        return 1
    if name in _LAST:
        return len(args) - 1
    if name in _STREAMS:
        return xread_block_at(args)
    return None
