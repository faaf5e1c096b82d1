"""A transaction as bytes: the commands queued between MULTI and EXEC, the block that is sent, and its replies. No I/O.

A block is ``MULTI``, the queued requests and ``EXEC`` in one frame. It is written as one piece and answered by as many
replies as it has requests, of which only the last goes to the client::

    MULTI  SET k 1  INCR n  EXEC          one frame, one entry of the FIFO
    +OK    +QUEUED  +QUEUED *2 +OK :1     four replies: three are dropped, the last goes to the client

Source: https://redis.io/docs/latest/develop/interact/transactions/ and the replies of Redis 7.0.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum

from proxy.commands.facts import Fact, Handling
from proxy.planning import reply_counts
from proxy.planning.channels import BEGIN, END
from proxy.planning.scatter import Scatter
from proxy.planning.split import count_requests, skip_bulks
from proxy.resp import encode

MULTI = encode.request(("MULTI",))
EXEC = encode.request(("EXEC",))
QUEUED = b"+QUEUED\r\n"
NULLS = (b"*-1\r\n", b"_\r\n")
"""The reply to EXEC when a watched key was changed, in RESP2 and RESP3."""
_ABORTED = b"-EXECABORT"
_NO_MULTI = b"-ERR EXEC without MULTI"
_BECAUSE = b" because of: "

_EACH = 256
_EACH_ARGUMENT = 64
"""The memory that a command and each argument take beside their content, in bytes; it bounds many small arguments."""
_SESSION = Handling.SESSION
_ODD = reply_counts.NAMES
_OWN = frozenset({"unwatch", *BEGIN, *END})


class QueuedKind:
    """The ``count`` queued calls of one command. Facts are looked up once for all calls, since there may be thousands.
    ``odd`` says that the arguments decide whether a server answers with more than one frame."""

    __slots__ = ("count", "fact", "odd", "own", "scripting")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.count = 0
        self.own = answered_here(fact)
        self.odd = fact.name in _ODD
        self.scripting = fact.scripting


class Queued:
    """A command that waits for EXEC. ``own`` says that the proxy answers it itself. ``whole`` is the plan whose merge
    transforms the reply, if a client should not see one server's reply unchanged."""

    __slots__ = ("along", "args", "denied", "fact", "frame", "own", "run", "size", "whole")

    def __init__(
        self, fact: Fact, args: list[bytes], frame: bytes, whole: Scatter | None = None, own: bool | None = None
    ) -> None:
        self.fact = fact
        self.args = args
        self.frame = frame
        self.whole = whole
        self.own = answered_here(fact) if own is None else own
        self.run: Callable[..., bytes] | None = None
        """The function that answers the command, if nothing else has to be done for the command."""
        self.denied = b""
        """The error in place of the reply, if the client's user may no longer run the command."""
        self.along = b""
        """The request that a server gets in place of the proxy's own command, to change its state (SELECT, HELLO)."""
        self.size = len(frame) + _EACH + _EACH_ARGUMENT * len(args)
        """The approximate size of the command in memory, in bytes."""

    def __repr__(self) -> str:
        return f"Queued({self.args})"

    @property
    def taken(self) -> int:
        """The number of bytes that a server keeps for the command until EXEC."""
        return 0 if self.own else sum(map(len, self.args))


def answered_here(fact: Fact) -> bool:
    """Whether the proxy itself answers a command that waits for EXEC."""
    return fact.handling is _SESSION or fact.name in _OWN


class TransactionState(Enum):
    """The state of a transaction that MULTI has begun."""

    QUEUEING = "queueing"
    """The transaction's commands are queued until EXEC."""
    SPOILED = "spoiled"
    """A command was refused, so EXEC executes nothing."""
    EXECUTING = "executing"
    """EXEC was received, and nothing more is queued."""


class TransactionEvent(Enum):
    """An event that changes the state of a transaction.

    A discarded transaction has no event, since its queue is deleted. A transaction that ``proxy.client.own_fast_path``
    executes directly has none either.
    """

    QUEUED = "queued"
    """A command is queued until EXEC."""
    REFUSED = "refused"
    """A command was refused, so it is not queued."""
    EXECUTED = "executed"
    """EXEC executes the transaction."""


_QUEUEING = TransactionState.QUEUEING

TRANSITIONS: Mapping[tuple[TransactionState, TransactionEvent], TransactionState] = {
    (TransactionState.QUEUEING, TransactionEvent.QUEUED): TransactionState.QUEUEING,
    (TransactionState.QUEUEING, TransactionEvent.REFUSED): TransactionState.SPOILED,
    (TransactionState.SPOILED, TransactionEvent.REFUSED): TransactionState.SPOILED,
    (TransactionState.QUEUEING, TransactionEvent.EXECUTED): TransactionState.EXECUTING,
}
"""The next state by state and event. A pair that is not in the table can not occur."""


class Queue:
    """The commands that a client has queued since MULTI. ``spoiled`` says that ``state`` is SPOILED: a command was
    refused, so that EXEC executes nothing."""

    __slots__ = (
        "_counted",
        "_held",
        "_kind",
        "allowed_by",
        "answered",
        "calls",
        "frames",
        "items",
        "kinds",
        "odd",
        "own",
        "size",
        "slots",
        "spoiled",
        "state",
        "wholes",
    )

    def __init__(self) -> None:
        self.items: list[Queued] = []
        self.frames: list[bytes] = []
        """The frames of the commands for a server."""
        self.kinds: dict[int, QueuedKind] = {}
        """The kinds of commands by the identity of their facts, so that EXEC need not go through all commands."""
        self._kind: QueuedKind | None = None
        self.calls: list[tuple[str, list[bytes]]] = []
        """The calls of scripts: the command's name and the arguments."""
        self.answered = True
        """Whether all commands have a function that answers them (``Queued.run``)."""
        self.own = 0
        """The number of commands that the proxy answers itself."""
        self.wholes = 0
        """The number of replies that are transformed before they are passed on."""
        self.odd = False
        """Whether any server may answer one of the commands with more than one frame."""
        self.slots: set[int] = set()
        """The slots of the keys of all commands."""
        self.size = 0
        """The approximate size of all commands in memory, in bytes."""
        self._counted = self._held = 0
        self.state = _QUEUEING
        self.spoiled = False
        self.allowed_by: object = None
        """The permissions that allowed all commands when they were queued; None if the permissions differ between
        commands."""

    def __repr__(self) -> str:
        return f"Queue({len(self.items)} commands, {self.size} bytes{', spoiled' * self.spoiled})"

    def happened(self, event: TransactionEvent) -> None:
        """Change the state. Raises ``RuntimeError`` if the event can not happen in the current state."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise RuntimeError(f"a transaction that is {self.state.value} can not be {event.value}")
        self.state = state
        self.spoiled = state is TransactionState.SPOILED

    def allow(self, permissions: object) -> None:
        """Note that the next command is allowed by the ``permissions`` of the client's user."""
        if not self.items:
            self.allowed_by = permissions
        elif self.allowed_by is not permissions:
            self.allowed_by = None

    def add(self, item: Queued, slots: Collection[int]) -> None:
        """Append ``item``, whose keys are in ``slots``. Raises ``RuntimeError`` if nothing may be queued any more."""
        if self.state is not _QUEUEING:
            self.happened(TransactionEvent.QUEUED)
        fact = item.fact
        self.items.append(item)
        if item.denied:
            self.own += 1
            self.answered = False
            return
        kind = self._kind
        if kind is None or kind.fact is not fact:
            kind = self._kind = self.kinds.setdefault(id(fact), QueuedKind(fact))
        kind.count += 1
        if item.run is None:
            self.answered = False
        if kind.own:
            self.own += 1
        else:
            self.frames.append(item.frame)
        if item.whole is not None:
            self.wholes += 1
        if kind.odd and not self.odd:
            self.odd = bool(reply_counts.of_its_own(fact.name, item.args, False))
        if kind.scripting:
            self.calls.append((fact.name, item.args))
        if slots:
            self.slots.update(slots)
        self.size += item.size

    def without(self, denied: Mapping[int, bytes]) -> "Queue":
        """Return the queue with the errors ``denied`` in place of the replies to the commands at these positions."""
        queue = Queue()
        for at, item in enumerate(self.items):
            if at in denied:
                item = Queued(item.fact, item.args, item.frame, None, True)
                item.denied = denied[at]
            queue.add(item, ())
        queue.slots = self.slots
        return queue

    def held(self) -> int:
        """The bytes that a server keeps for the queue until EXEC; counted on demand, since few queues are large."""
        self._held += sum(item.taken for item in self.items[self._counted :])
        self._counted = len(self.items)
        return self._held

    def drop(self) -> None:
        """Forget the commands of a transaction that will not be executed, and mark the queue as spoiled. Raises
        ``RuntimeError`` if the transaction is already executed."""
        self.happened(TransactionEvent.REFUSED)
        self.items.clear()
        self.frames.clear()
        self.kinds.clear()
        self._kind = None
        self.calls.clear()
        self.slots.clear()
        self.size = self.own = self.wholes = self._counted = self._held = 0
        self.odd = False

    @property
    def moves(self) -> bool:
        """Whether a command of the queue may change the database or the protocol."""
        return any(fact.name in ("select", "hello") for fact in self.facts)

    @property
    def facts(self) -> Iterator[Fact]:
        """Yield the facts of the queued commands, each once."""
        return (kind.fact for kind in self.kinds.values())


def block(frames: Iterable[bytes]) -> bytes:
    """Return the block that executes ``frames``."""
    return b"".join((MULTI, *frames, EXEC))


def is_block(frame: bytes) -> bool:
    """Whether ``frame`` is a block; no other request that the proxy sends begins with MULTI."""
    return frame.startswith(MULTI)


def requests(frame: bytes) -> Iterator[bytes]:
    """Yield the requests of a block, MULTI and EXEC included."""
    at = 0
    while at < len(frame):
        line = frame.index(b"\r\n", at)
        end = skip_bulks(frame, line + 2, int(frame[at + 1 : line]))
        if end < 0:
            raise AssertionError("a block holds what is no request")
        yield frame[at:end]
        at = end


def queued(frame: bytes) -> list[bytes]:
    """Return the requests of a block, without MULTI and EXEC."""
    return list(requests(frame))[1:-1]


def replies(frame: bytes) -> int:
    """Return the number of replies to a block, the reply to EXEC included."""
    return count_requests(frame)


def reason(error: bytes, first: bytes) -> bytes:
    """Return the error frame that says why nothing was executed. ``error`` is the reply to EXEC; ``first`` is the first
    error of a queued command, or empty."""
    if not error.startswith(_ABORTED):
        return error
    _, because, words = error.partition(_BECAUSE)
    return b"-" + words if because else first or error


def lacks_multi(error: bytes) -> bool:
    """Whether ``error``, the reply to EXEC, says that MULTI was refused, so that the commands behind it were executed
    one by one."""
    return error.startswith(_NO_MULTI)


def aborted(why: bytes) -> bytes:
    """Return the reply to EXEC if nothing was executed because of the error frame ``why``, in Redis's words."""
    if why.startswith(_ABORTED):
        return why
    return b"-EXECABORT Transaction discarded because of: " + why[1:]


def array(frames: Sequence[bytes], count: int) -> bytes:
    """Return the reply to EXEC with ``count`` elements, of which only ``frames`` are sent (CLIENT REPLY)."""
    return b"*%d\r\n%b" % (count, b"".join(frames))
