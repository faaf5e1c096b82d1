"""The data of the own fast path (``proxy.client.own_fast_path``): every command by name, and the request that was
answered last."""

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
"""The most bytes of a request that is remembered. A request with a password is never remembered."""
_NOTHING = b"no request begins so"
_LONG_WAY = frozenset({"quit"})
"""Commands that do more than answer and change the session: the slow path carries them out."""
_LISTED = "client|list"
"""The only command about all clients that merely reads their state."""
_SECRET = frozenset({"auth", "hello"})
_FIXED = frozenset({"ping", "echo"})
"""Commands whose answers depend on the request alone."""
_CHANGING = frozenset({"auth", "hello", "reset", "select", "readonly", "readwrite", "client|reply"})
"""Commands that may change how the client's next requests are carried out."""
_TRANSACTION = {"multi": encode.OK, "discard": encode.OK, "exec": encode.EMPTY_ARRAY}
"""The commands that begin and end a transaction, each with its answer if nothing is queued."""
_HTTP = frozenset({"post", "host:"})

Answer = Callable[[Session, list[bytes]], bytes]


class Call:
    """A command or subcommand in the own fast path. ``run`` makes its answer; None if the fast path has no answer."""

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
        """The kind of subscription that the command ends. The own fast path answers it only to clients without any."""
        self.lists = fact.name == _LISTED
        self.resets = fact.name == "reset"
        self.changing = fact.name in _CHANGING
        self.secret = fact.name in _SECRET
        self.restricted = "admin" in fact.categories
        """Whether the command is checked by itself for a user with restricted permissions (``Permissions.allows``)."""
        self.ends: bytes | None = _TRANSACTION.get(fact.name)
        """The answer of MULTI, or of EXEC or DISCARD with nothing queued; None for other commands."""
        self.subcommands: dict[bytes, Call] | None = None


def _standing(session: Session, kind: Kind) -> int:
    """The number of a client's subscriptions that the reply to an UNSUBSCRIBE of this ``kind`` counts."""
    channels, patterns, shard_channels = session.listening
    return shard_channels if kind is Kind.SHARD else channels + patterns


class OwnAnswers:
    """All commands by name, and the request that was answered last, whichever client sent it."""

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
        "permissions",
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
        """The commands by name, in lower and in upper case."""
        self.now = 0.0
        self.most = most
        """The most bytes that a transaction may hold."""
        # The request that was answered last.
        self.text = _NOTHING
        # The mode of the client that sent the request, and whether that client had logged in.
        self.mode = ClientMode.LONG
        self.authenticated = False
        # The request's command; None if the command is unknown, or the request is empty.
        self.call: Call | None = None
        self.counter: CommandCounter | None = None
        self.name = ""
        self.args: list[bytes] = []
        # The answer, None if there is none or it must be made each time; and whether the answer is a refusal.
        self.reply: bytes | None = None
        self.refused = False
        # Whether the request was queued (only counted in a spoiled transaction), by whose permissions, and what it was.
        self.queues = False
        self.permissions: object = None
        self.fact: Fact | None = None
        self.own = False
        self.run: Answer | None = None
        self.frame = b""
        self.slots: frozenset[int] = frozenset()
        self.planner: object | None = None
        """The planner that computed ``slots``; None if the request has no keys."""

    def learn(self, facts: Iterable[Fact], absent: Collection[str]) -> None:
        """Use the commands in ``facts`` from now on, except those in ``absent``, which no backend has."""
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
        """The function that answers a command of the proxy's own; None if the command does more than answer."""
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
        """Count one more call of a command that was queued."""
        counter = self._counters.command(fact.name)
        counter.calls += 1

    def keep(
        self, session: Session, mode: int, text: bytes, call: Call | None, args: list[bytes], reply: bytes | None
    ) -> None:
        """Remember a request that was answered by ``reply``, or else by the function of ``call`` with ``args``. The
        client of ``session`` sent the request, in this ``mode``."""
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
        """Remember a request that is always refused with ``reply``."""
        self.keep(session, mode, text, None, [], reply)
        self.counter = counter
        self.name = "" if counter is None else counter.name
        self.refused = True

    def keep_queued(
        self, session: Session, mode: int, text: bytes, item: Queued, slots: frozenset[int], planner: object | None
    ) -> None:
        """Remember a request that was queued, whose keys are in ``slots`` according to ``planner``."""
        self.keep(session, mode, text, None, item.args, QUEUED)
        self.queues = True
        self.permissions = session.permissions
        self.fact = item.fact
        self.own = item.own
        self.run = item.run
        self.name = item.fact.name
        self.frame = item.frame
        self.slots = slots
        self.planner = planner
