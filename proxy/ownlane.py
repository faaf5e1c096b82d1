"""The own lane: what the proxy answers itself to a client that is in the middle of nothing, without the way through
hiredis, the table of commands and the modes.

Whoever can connect can send such requests at any rate, so they must cost no more than a server's own answers::

    PING\\r\\n PING\\r\\n PING\\r\\n ...     the request of before, byte for byte: answered as it was (``repeat``)
    ECHO 1, ECHO 2 ...                 split here, found by its name: answered by its function (``answer``)

What is remembered of a request is its answer where that depends on nothing but the request and on whether the client
has logged in, else the function that makes it. Whatever is not here goes the long way (``Conversation.request``).
"""

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from proxy import allclients, clientcmds, errors
from proxy.commands.facts import Fact, Handling
from proxy.metrics import CommandCounter, Counters
from proxy.resp import encode
from proxy.resp.requests import ProtocolError, split_inline, split_short
from proxy.session import Session
from proxy.turn import OWN, Turn

if TYPE_CHECKING:
    from proxy.conversation import Conversation

LONGEST = 64
"""Bytes of a request that is remembered. No secret ever is."""
_NOTHING = b"no request begins so"
_LONG_WAY = frozenset({"client|reply", "quit", "reset"})
"""What does more than to answer and to change the session."""
_SECRET = frozenset({"auth", "hello"})
_FIXED = frozenset({"ping", "echo"})
"""Their answers depend on the request alone."""
_CHANGING = frozenset({"auth", "hello", "select", "readonly", "readwrite"})
"""What may change how the client's requests go on."""
_OWN = OWN
_HTTP = frozenset({"post", "host:"})

Answer = Callable[[Session, list[bytes]], bytes]


class Call:
    """A command, or a subcommand: what the own lane knows of it. ``run`` is None if it is not the proxy's own."""

    __slots__ = ("arity", "changing", "counter", "fixed", "name", "no_auth", "run", "secret", "subcommands")

    def __init__(self, fact: Fact, counter: CommandCounter, run: Answer | None) -> None:
        self.name = fact.name
        self.arity = fact.arity
        self.counter = counter
        self.no_auth = "no_auth" in fact.flags
        self.run = run
        self.fixed = fact.name in _FIXED
        self.changing = fact.name in _CHANGING
        self.secret = fact.name in _SECRET
        self.subcommands: dict[bytes, Call] | None = None


class OwnLane:
    """All commands by name, for one table; and the request that was answered last, by any client's."""

    __slots__ = ("args", "authenticated", "call", "calls", "now", "refused", "reply", "text")

    def __init__(self, facts: Iterable[Fact], absent: Collection[str], counters: Counters) -> None:
        self.calls: dict[bytes, Call] = {}
        """By name, in lower and in upper case."""
        self.now = 0.0
        self.text = _NOTHING
        """The request that was answered last ..."""
        self.authenticated = False
        """... by a client that had or had not logged in; ..."""
        self.call: Call | None = None
        """... its command, None if it is unknown, or asked for nothing; ..."""
        self.args: list[bytes] = []
        self.reply: bytes | None = None
        """... its answer, None if that has to be made anew; ..."""
        self.refused = False
        """... and whether that is a refusal."""
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
        if fact.privileged:
            return None
        known = clientcmds.command(fact.name)
        if known is not None:
            return known
        return lambda session, args: clientcmds.run(session, fact.name, args, self.now)

    def forget(self) -> None:
        """Remember nothing of the request that was answered last."""
        self.text = _NOTHING

    def keep(self, text: bytes, call: "Call | None", args: list[bytes], reply: bytes | None, refused: bool) -> None:
        """Remember a request that was answered."""
        self.text = text
        self.call = call
        self.args = args
        self.reply = reply
        self.refused = refused


def repeat(client: "Conversation", data: bytes, pos: int, turn: Turn, more: bool) -> int:
    """Answer the requests at ``data[pos:]`` that are the one of before, for as long as the turn's credit lasts.

    Returns the offset of the first that is another one. ``more``: others come behind ``data``.
    """
    lane = client.service.own_lane
    text = lane.text
    if not data.startswith(text, pos):
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
    if call is not None:
        lane.now = client.last_active
        client.latest = None
        session.last_command = call.name
    while turn.credit > 0 and data.startswith(text, pos):
        turn.credit -= _OWN
        pos += step
        window.gathers = more or pos < size
        if call is not None:
            if lane.refused:
                call.counter.rejected += 1
            else:
                call.counter.calls += 1
        if fixed is not None:
            window.answer(fixed)
        elif call is None or not carry_out(client, session, call, lane.args):
            break
    return pos


def carry_out(client: "Conversation", session: Session, call: Call, args: list[bytes]) -> bool:
    """Answer ``call`` by its function. False if what follows has to be looked at anew."""
    run = call.run
    assert run is not None
    if not call.changing:
        reply = run(session, args)
        if reply.startswith(b"-"):
            call.counter.failed += 1
        client.window.answer(reply)
        return True
    authenticated, db = session.authenticated, session.db
    protocol, reads_replicas = session.protocol, session.reads_replicas
    reply = run(session, args)
    if reply.startswith(b"-"):
        call.counter.failed += 1
    client.window.answer(reply)
    moved = db != session.db or protocol != session.protocol or reads_replicas is not session.reads_replicas
    if not moved and authenticated is session.authenticated:
        return True
    client.changed(moved)
    return False


def answer(client: "Conversation", frame: bytes, inline: bool) -> bool:
    """Answer the request in ``frame`` if the proxy answers it itself. False if it has to go the long way."""
    lane = client.service.own_lane
    try:
        args = split_inline(frame) if inline else split_short(frame)
    except ProtocolError:
        return False
    if not args:
        return False
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
        return False
    keeps = len(frame) <= LONGEST and not call.secret
    if keeps:
        lane.authenticated = session.authenticated
    else:
        lane.forget()
    client.latest = None
    session.last_command = call.name
    if refusal:
        call.counter.rejected += 1
        client.window.answer(refusal)
        if keeps:
            lane.keep(frame, call, args, refusal, True)
        return True
    call.counter.calls += 1
    lane.now = client.last_active
    if call.fixed:
        reply = call.run(session, args)
        if reply.startswith(b"-"):
            keeps = False
            lane.forget()
            call.counter.failed += 1
        client.window.answer(reply)
        if keeps:
            lane.keep(frame, call, args, reply, False)
        return True
    if keeps:
        lane.keep(frame, call, args, None, False)
    carry_out(client, session, call, args)
    return True


_NOAUTH = encode.error(errors.NOAUTH)
