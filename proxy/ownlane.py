"""The own lane: what the proxy answers itself, without the way through hiredis, the table of commands and the modes.

Whoever can connect can send such requests at any rate, so they must cost no more than a server's own answers::

    PING\\r\\n PING\\r\\n PING\\r\\n ...     the request of before, byte for byte: answered as it was (``repeat``)
    ECHO 1, ECHO 2 ...                 split here, found by its name: answered by its function (``answer``)

A client's ``Manner`` says what it is in the middle of. What is remembered of a request is its answer where that depends
on nothing but the request, the manner and whether the client has logged in; else the function that makes it. Whatever
is not here goes the long way (``Conversation.request``).
"""

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from proxy import allclients, clientcmds, errors
from proxy.commands.facts import Fact, Handling
from proxy.metrics import CommandCounter, Counters
from proxy.resp import encode
from proxy.resp.requests import ProtocolError, split_inline, split_short
from proxy.session import ReplyMode, Session
from proxy.transaction import QUEUED, Queued
from proxy.turn import OWN, Turn

if TYPE_CHECKING:
    from proxy.conversation import Conversation


class Manner:
    """What a client is in the middle of, as far as it matters here. Plain integers: an enum's are dear to compare."""

    LONG = 0
    """Everything goes the long way: it is paused, watched, not answered, blocked, or tracks."""
    OWN = 1
    """Nothing."""
    QUEUES = 2
    """MULTI: commands are queued."""
    SPOILED = 3
    """MULTI, and one of its commands was refused: EXEC will execute nothing."""
    LISTENS = 4
    """It is subscribed in RESP2, where few commands are allowed."""


LONGEST = 64
"""Bytes of a request that is remembered. No secret ever is."""
_NOTHING = b"no request begins so"
_LONG_WAY = frozenset({"quit", "reset"})
"""What does more than to answer and to change the session."""
_SECRET = frozenset({"auth", "hello"})
_FIXED = frozenset({"ping", "echo"})
"""Their answers depend on the request alone."""
_CHANGING = frozenset({"auth", "hello", "select", "readonly", "readwrite", "client|reply"})
"""What may change how the client's requests go on."""
_TRANSACTION = {"multi": encode.OK, "discard": encode.OK, "exec": encode.EMPTY_ARRAY}
"""What begins and ends a transaction, with the answer where nothing is queued."""
_HTTP = frozenset({"post", "host:"})
_NOAUTH = encode.error(errors.NOAUTH)
_OWN = OWN
_IS_OWN = Manner.OWN
_QUEUES = Manner.QUEUES

Answer = Callable[[Session, list[bytes]], bytes]


class Call:
    """A command, or a subcommand: what the own lane knows of it. ``run`` is None if it is not the proxy's own."""

    __slots__ = (
        "arity",
        "changing",
        "counter",
        "ends",
        "fact",
        "fixed",
        "name",
        "no_auth",
        "run",
        "secret",
        "subcommands",
    )

    def __init__(self, fact: Fact, counter: CommandCounter, run: Answer | None) -> None:
        self.fact = fact
        self.name = fact.name
        self.arity = fact.arity
        self.counter = counter
        self.no_auth = "no_auth" in fact.flags
        self.run = run
        self.fixed = fact.name in _FIXED
        self.changing = fact.name in _CHANGING
        self.secret = fact.name in _SECRET
        self.ends: bytes | None = _TRANSACTION.get(fact.name)
        """What it answers if it is MULTI, or EXEC or DISCARD of nothing."""
        self.subcommands: dict[bytes, Call] | None = None


class OwnLane:
    """All commands by name, for one table; and the request that was answered last, by any client's."""

    __slots__ = (
        "args",
        "authenticated",
        "call",
        "calls",
        "counter",
        "fact",
        "frame",
        "manner",
        "most",
        "name",
        "now",
        "planner",
        "queues",
        "refused",
        "reply",
        "slots",
        "text",
    )

    def __init__(self, facts: Iterable[Fact], absent: Collection[str], counters: Counters, most: int) -> None:
        self.calls: dict[bytes, Call] = {}
        """By name, in lower and in upper case."""
        self.now = 0.0
        self.most = most
        """Bytes that a transaction may hold."""
        # The request that was answered last ...
        self.text = _NOTHING
        # ... by a client in this manner, that had or had not logged in; ...
        self.manner = Manner.LONG
        self.authenticated = False
        # ... its command, None if it is unknown, or asked for nothing; ...
        self.call: Call | None = None
        self.counter: CommandCounter | None = None
        self.name = ""
        self.args: list[bytes] = []
        # ... its answer, None if that has to be made anew, or there is none; and whether that is a refusal; ...
        self.reply: bytes | None = None
        self.refused = False
        # ... and if it was queued (or counted, where the transaction is spoiled), what was.
        self.queues = False
        self.fact: Fact | None = None
        self.frame = b""
        self.slots: frozenset[int] = frozenset()
        self.planner: object | None = None
        """Who said so of its keys; None if it has none."""
        for fact in facts:
            if fact.name not in absent and fact.name not in _HTTP:
                self._add(self.calls, fact.name, fact, absent, counters)

    def _add(
        self, calls: dict[bytes, Call], name: str, fact: Fact, absent: Collection[str], counters: Counters
    ) -> None:
        call = Call(fact, counters.command(fact.name), self._answer(fact))
        if fact.subcommands:
            call.subcommands = {}
            for sub, one in fact.subcommands.items():
                if one.name not in absent:
                    self._add(call.subcommands, sub.decode(), one, absent, counters)
        calls[name.encode()] = calls[name.upper().encode()] = call

    def _answer(self, fact: Fact) -> Answer | None:
        """What answers a command that is the proxy's own, and whose answer is all there is to it."""
        if fact.handling is not Handling.SESSION or fact.name in _LONG_WAY or fact.name in allclients.WIDE:
            return None
        if fact.privileged or fact.for_admins is not None:
            return None
        known = clientcmds.command(fact.name)
        if known is not None:
            return known
        return lambda session, args: clientcmds.run(session, fact.name, args, self.now)

    def forget(self) -> None:
        """Remember nothing of the request that was answered last."""
        self.text = _NOTHING

    def keep(
        self, client: "Conversation", text: bytes, call: Call | None, args: list[bytes], reply: bytes | None
    ) -> None:
        """Remember a request of ``client``'s that was answered: by ``reply``, or by what ``call`` makes of ``args``."""
        self.text = text
        self.manner = client.own
        self.authenticated = client.known_session().authenticated
        self.call = call
        self.counter = None if call is None else call.counter
        self.name = "" if call is None else call.name
        self.args = args
        self.reply = reply
        self.refused = self.queues = False

    def keep_refused(self, client: "Conversation", text: bytes, counter: CommandCounter | None, reply: bytes) -> None:
        """Remember a request of ``client``'s that was refused, as it always will be."""
        self.keep(client, text, None, [], reply)
        self.counter = counter
        self.name = "" if counter is None else counter.name
        self.refused = True

    def keep_queued(
        self,
        client: "Conversation",
        text: bytes,
        item: Queued,
        slots: frozenset[int],
        planner: object | None,
    ) -> None:
        """Remember a request of ``client``'s that was queued; its keys are in ``slots``, as ``planner`` says."""
        self.keep(client, text, None, item.args, QUEUED)
        self.queues = True
        self.fact = item.fact
        self.name = item.fact.name
        self.frame = item.frame
        self.slots = slots
        self.planner = planner


def repeat(client: "Conversation", data: bytes, pos: int, turn: Turn, more: bool) -> int:
    """Answer the requests at ``data[pos:]`` that are the one of before, for as long as the turn's credit lasts.

    Returns the offset of the first that is another one. ``more``: others come behind ``data``.
    """
    lane = client.service.own_lane
    text = lane.text
    if lane.manner != client.own or not data.startswith(text, pos):
        return pos
    session = client.known_session()
    if session.authenticated is not lane.authenticated:
        return pos
    size = len(data)
    step = len(text)
    call = lane.call
    fixed = lane.reply
    if call is None and fixed is None:
        while turn.credit > 0 and data.startswith(text, pos):
            turn.credit -= 1
            pos += step
        return pos
    window = client.window
    counter = lane.counter
    queues = lane.queues
    if queues and lane.planner is not None and lane.planner is not client.service.planner:
        return pos
    lane.now = client.last_active
    client.latest = None
    if lane.name:
        session.last_command = lane.name
    while turn.credit > 0 and data.startswith(text, pos):
        if queues and not _queue_again(client, session, lane):
            break
        turn.credit -= _OWN
        pos += step
        window.gathers = more or pos < size
        if counter is not None:
            if lane.refused:
                counter.rejected += 1
            else:
                counter.calls += 1
        if fixed is not None:
            window.answer(fixed)
        elif call is None or not carry_out(client, session, call, lane.args):
            break
    return pos


def _queue_again(client: "Conversation", session: Session, lane: OwnLane) -> bool:
    """Queue what was queued before. False if that can not be."""
    if lane.manner == _QUEUES:
        queue = client.queue()
        assert lane.fact is not None
        item = Queued(lane.fact, lane.args, lane.frame)
        if queue.size + item.size > lane.most:
            return False
        queue.add(item, lane.slots)
    session.queued += 1
    return True


def carry_out(client: "Conversation", session: Session, call: Call, args: list[bytes]) -> bool:
    """Answer ``call`` by its function. False if what follows has to be looked at anew."""
    run = call.run
    assert run is not None
    window = client.window
    if not call.changing:
        reply = run(session, args)
        if reply.startswith(b"-"):
            call.counter.failed += 1
        window.answer(reply)
        return True
    authenticated, db = session.authenticated, session.db
    protocol, reads_replicas = session.protocol, session.reads_replicas
    reply = run(session, args)
    if reply.startswith(b"-"):
        call.counter.failed += 1
    window.answer(reply)
    moved = db != session.db or protocol != session.protocol or reads_replicas is not session.reads_replicas
    if not moved and authenticated is session.authenticated and session.reply_mode is _ON:
        return True
    client.changed(moved)
    return False


def answer(client: "Conversation", frame: bytes, inline: bool) -> bool:
    """Answer the request in ``frame`` if the proxy answers it itself. False if it has to go the long way."""
    manner = client.own
    if manner > _QUEUES:
        return False
    try:
        args = split_inline(frame) if inline else split_short(frame)
    except ProtocolError:
        return False
    if not args:
        return False
    lane = client.service.own_lane
    call = lane.calls.get(args[0])
    if call is None:
        return False
    count = len(args)
    if call.subcommands is not None and count > 1:
        call = call.subcommands.get(args[1])
        if call is None:
            return False
    session = client.known_session()
    arity = call.arity
    refusal = b""
    if count != arity and (arity >= 0 or count < -arity):
        refusal = encode.error(errors.wrong_arity(call.name))
    elif not session.authenticated and not call.no_auth:
        refusal = _NOAUTH
    elif call.run is None:
        return call.ends is not None and _begin_or_end(client, session, call)
    keeps = len(frame) <= LONGEST and not call.secret
    if manner == _QUEUES:
        # What is refused spoils the transaction.
        return not refusal and _enqueue(client, session, lane, call, args, frame, inline, keeps)
    client.latest = None
    session.last_command = call.name
    window = client.window
    if refusal:
        call.counter.rejected += 1
        window.answer(refusal)
        if keeps:
            lane.keep_refused(client, frame, call.counter, refusal)
        return True
    call.counter.calls += 1
    lane.now = client.last_active
    if call.fixed:
        run = call.run
        assert run is not None
        reply = run(session, args)
        window.answer(reply)
        if reply.startswith(b"-"):
            call.counter.failed += 1
        elif keeps:
            lane.keep(client, frame, call, args, reply)
        return True
    carry_out(client, session, call, args)
    if keeps:
        lane.keep(client, frame, call, args, None)
    return True


def _enqueue(
    client: "Conversation",
    session: Session,
    lane: OwnLane,
    call: Call,
    args: list[bytes],
    frame: bytes,
    inline: bool,
    keeps: bool,
) -> bool:
    """Queue a command of the proxy's own. False if that can not be."""
    queue = client.queue()
    item = Queued(call.fact, args, encode.request(args) if inline else frame)
    if queue.size + item.size > lane.most:
        return False
    client.latest = None
    session.last_command = call.name
    queue.add(item, ())
    session.queued += 1
    client.window.answer(QUEUED)
    if keeps:
        lane.keep_queued(client, frame, item, frozenset(), None)
    return True


def _begin_or_end(client: "Conversation", session: Session, call: Call) -> bool:
    """MULTI; EXEC or DISCARD of a transaction that is empty and watches nothing. False if it is another one."""
    if call.name == "multi":
        if client.own != _IS_OWN:
            return False
        client.begin_queue()
    elif client.own != _QUEUES or not client.end_empty_queue():
        return False
    client.latest = None
    session.last_command = call.name
    call.counter.calls += 1
    assert call.ends is not None
    client.window.answer(call.ends)
    return True


_ON = ReplyMode.ON
