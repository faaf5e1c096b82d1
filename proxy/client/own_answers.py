"""What the own fast path knows: every command by name, and the request that was answered last
(``proxy.client.own_fast_path``)."""

from collections.abc import Callable, Collection, Iterable

from proxy.commands.facts import Fact, Handling
from proxy.metrics import CommandCounter, Counters
from proxy.planning.channels import END, Kind, nothing_ended
from proxy.planning.exec_block import QUEUED, Queued
from proxy.resp import encode
from proxy.session import commands
from proxy.session.cross_worker import CrossWorkerCommand
from proxy.session.own_command import SessionCommand
from proxy.session.session import ClientMode, Session

LONGEST = 64
"""Bytes of a request that is remembered. No secret ever is."""
_NOTHING = b"no request begins so"
_LONG_WAY = frozenset({"quit"})
"""What does more than to answer and to change the session."""
_LISTED = "client|list"
"""Of what is about all clients this only looks at them."""
_SECRET = frozenset({"auth", "hello"})
_FIXED = frozenset({"ping", "echo"})
"""Their answers depend on the request alone."""
_CHANGING = frozenset({"auth", "hello", "reset", "select", "readonly", "readwrite", "client|reply"})
"""What may change how the client's requests go on."""
_TRANSACTION = {"multi": encode.OK, "discard": encode.OK, "exec": encode.EMPTY_ARRAY}
"""What begins and ends a transaction, with the answer where nothing is queued."""
_HTTP = frozenset({"post", "host:"})

Answer = Callable[[Session, list[bytes]], bytes]


class Call:
    """A command, or a subcommand: what the own fast path knows of it. ``run`` is None if it is not the proxy's own."""

    __slots__ = (
        "arity",
        "changing",
        "counter",
        "ends",
        "fact",
        "fixed",
        "kind",
        "lists",
        "name",
        "no_auth",
        "resets",
        "restricted",
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
        self.kind = END.get(fact.name)
        """What it ends; it is answered here only to those who are subscribed to none of that."""
        self.lists = fact.name == _LISTED
        self.resets = fact.name == "reset"
        self.changing = fact.name in _CHANGING
        self.secret = fact.name in _SECRET
        self.restricted = "admin" in fact.categories
        """Whether a user that may not do everything has to ask for it the long way."""
        self.ends: bytes | None = _TRANSACTION.get(fact.name)
        """What it answers if it is MULTI, or EXEC or DISCARD of nothing."""
        self.subcommands: dict[bytes, Call] | None = None


def _standing(session: Session, kind: Kind) -> int:
    """What a client is subscribed to, as the end of a subscription of this kind counts it."""
    channels, patterns, shard_channels = session.listening
    return shard_channels if kind is Kind.SHARD else channels + patterns


class OwnAnswers:
    """All commands by name; and the request that was answered last, by any client's."""

    __slots__ = (
        "_counters",
        "args",
        "authenticated",
        "call",
        "calls",
        "counter",
        "fact",
        "frame",
        "mode",
        "most",
        "name",
        "now",
        "own",
        "planner",
        "queues",
        "refused",
        "reply",
        "run",
        "slots",
        "text",
    )

    def __init__(self, counters: Counters, most: int) -> None:
        self._counters = counters
        self.calls: dict[bytes, Call] = {}
        """By name, in lower and in upper case."""
        self.now = 0.0
        self.most = most
        """Bytes that a transaction may hold."""
        # The request that was answered last ...
        self.text = _NOTHING
        # ... by a client in this mode, that had or had not logged in; ...
        self.mode = ClientMode.LONG
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
        self.own = False
        self.run: Answer | None = None
        self.frame = b""
        self.slots: frozenset[int] = frozenset()
        self.planner: object | None = None
        """Who said so of its keys; None if it has none."""

    def learn(self, facts: Iterable[Fact], absent: Collection[str]) -> None:
        """Use these facts from now on, but for the commands ``absent``, which no backend has."""
        self.text = _NOTHING
        self.calls = {}
        for fact in facts:
            if fact.name not in absent and fact.name not in _HTTP:
                self._add(self.calls, fact.name, fact, absent)

    def _add(self, calls: dict[bytes, Call], name: str, fact: Fact, absent: Collection[str]) -> None:
        call = Call(fact, self._counters.command(fact.name), self._answer(fact))
        if fact.subcommands:
            call.subcommands = {}
            for sub, one in fact.subcommands.items():
                if one.name not in absent:
                    self._add(call.subcommands, sub.decode(), one, absent)
        calls[name.encode()] = calls[name.upper().encode()] = call

    def _answer(self, fact: Fact) -> Answer | None:
        """What answers a command that is the proxy's own, and whose answer is all there is to it."""
        kind = END.get(fact.name)
        if kind is not None:
            return lambda session, args: nothing_ended(kind, args[1:], _standing(session, kind), session.protocol)
        if fact.handling is not Handling.SESSION or fact.name in _LONG_WAY:
            return None
        row = commands.find(fact.name)
        if isinstance(row, CrossWorkerCommand) and fact.name != _LISTED:
            return None
        if fact.privileged or fact.for_admins is not None:
            return None
        if isinstance(row, SessionCommand):
            return row.answer
        return lambda session, args: row.run(session, args, self.now)

    def count(self, fact: Fact) -> None:
        """One more call of a command that was queued."""
        counter = self._counters.command(fact.name)
        counter.calls += 1

    def keep(
        self, session: Session, mode: int, text: bytes, call: Call | None, args: list[bytes], reply: bytes | None
    ) -> None:
        """Remember a request that was answered: by ``reply``, or by what ``call`` makes of ``args``. It was sent by the
        client of ``session``, in this mode."""
        self.text = text
        self.mode = mode
        self.authenticated = session.authenticated
        self.call = call
        self.counter = None if call is None else call.counter
        self.name = "" if call is None else call.name
        self.args = args
        self.reply = reply
        self.refused = self.queues = False

    def keep_refused(
        self, session: Session, mode: int, text: bytes, counter: CommandCounter | None, reply: bytes
    ) -> None:
        """Remember a request that was refused, as it always will be."""
        self.keep(session, mode, text, None, [], reply)
        self.counter = counter
        self.name = "" if counter is None else counter.name
        self.refused = True

    def keep_queued(
        self, session: Session, mode: int, text: bytes, item: Queued, slots: frozenset[int], planner: object | None
    ) -> None:
        """Remember a request that was queued; its keys are in ``slots``, as ``planner`` says."""
        self.keep(session, mode, text, None, item.args, QUEUED)
        self.queues = True
        self.fact = item.fact
        self.own = item.own
        self.run = item.run
        self.name = item.fact.name
        self.frame = item.frame
        self.slots = slots
        self.planner = planner
