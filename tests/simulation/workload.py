"""What a simulated client says, and what must be answered: every reply can belong to one request only."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import hiredis

from proxy.resp import encode
from proxy.sharding.slots import key_slot
from tests.simulation.keys import Log, Outcome, Register, Tally, Write

Reply = object
Check = Callable[[Reply], str | None]
"""Takes a decoded reply; what is wrong with it, or None."""

_LARGE = 200_000


@dataclass(slots=True)
class Request:
    """A request that is sent, and the check of its reply; None if nothing may be answered."""

    frame: bytes
    check: Check | None
    writes: list[Write] = field(default_factory=list)
    large: bool = False
    """Its reply may be so long that it is passed on in pieces."""
    others: list["Request"] = field(default_factory=list)
    """What is sent in one piece with it, each with a reply of its own; their frames are in its own."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What a run has to reckon with."""

    stormy: bool
    """Servers and connections fail, so that errors are answered."""
    stale: bool
    """Replicas are read from, which a client's own writes reach later."""
    single: bool
    """There is one shard, so that nothing is cross-slot."""
    refusals: frozenset[str] = frozenset()
    """Errors, by their first words, that say that nothing was executed."""
    cluster: bool = False
    """The servers are a Redis Cluster, which has one database."""


class Workload:
    """The conversation of client ``number``; ``next`` says the next thing and remembers what it means.

    With ``tags``, hash tags, its keys are in so few slots; else nearly each has its own.
    """

    def __init__(self, number: int, rng: Random, weather: Weather, tags: Sequence[bytes] = ()) -> None:
        self._number = number
        self._tags = tags
        self._rng = rng
        self._weather = weather
        self._said = 0
        self._keys = rng.choice((1, 3, 6))
        self._db = 0
        self._protocol = 2
        self._mode = "on"
        self._name = b""
        self._registers: defaultdict[bytes, Register] = defaultdict(Register)
        self._logs: defaultdict[bytes, Log] = defaultdict(Log)
        self._tallies: defaultdict[bytes, Tally] = defaultdict(Tally)
        choices = [
            (self._set, 20), (self._get, 20), (self._append, 10), (self._read_log, 5), (self._incr, 6),
            (self._read_tally, 3), (self._mset, 5), (self._mget, 5), (self._del, 4), (self._exists, 2),
            (self._dbsize, 1), (self._echo, 6), (self._ping, 3), (self._unknown, 1), (self._arity, 1),
            (self._crossslot, 1), (self._setname, 1), (self._getname, 2), (self._select, 1.0), (self._hello, 1.0),
            (self._client_reply, 1.5), (self._client_pause, 0.1), (self._transaction, 8),
        ]  # fmt: skip
        if weather.cluster:
            choices.remove((self._select, 1.0))
        self._choices: list[Callable[[], Request]] = [choice for choice, _ in choices]
        self._weights = [weight for _, weight in choices]

    @property
    def muted(self) -> bool:
        """Whether nothing is answered now."""
        return self._mode != "on"

    def next(self) -> Request:
        """The next request."""
        self._said += 1
        if self._mode == "off" and self._rng.random() < 0.4:
            return self._client_reply_on()
        (choice,) = self._rng.choices(self._choices, self._weights)
        mode = self._mode
        request = choice()
        if mode != "on":
            request.check = None
            request.others.clear()
            for write in request.writes:
                write.outcome = Outcome.UNCERTAIN
            if self._mode == "skip" and mode == "skip":
                self._mode = "on"
        return request

    def last_words(self) -> tuple[Request, bool]:
        """A request after which the proxy closes, and whether it is one at all (else the client only hangs up)."""
        if self.muted or self._rng.random() < 0.5:
            return Request(b"", None), False
        if self._rng.random() < 0.5:
            return self._answered(("QUIT",), _equal(b"OK")), True
        return Request(b"*1\r\nbad\r\n", _error("ERR Protocol error: expected '$', got 'b'")), True

    def writes(self) -> list[Write]:
        """Every write that was ever sent, increments left out."""
        return [write for keys in (self._registers, self._logs) for key in keys.values() for write in key.writes]

    def abandon(self) -> None:
        """The connection is gone: what was not answered may have been executed."""
        for keys in (self._registers, self._logs, self._tallies):
            for key in keys.values():
                for write in key.writes:
                    if write.outcome is Outcome.PENDING:
                        write.outcome = Outcome.UNCERTAIN

    # ---- commands for the servers

    def _transaction(self) -> Request:
        """Some commands on one key, perhaps behind a WATCH of it, which nobody else changes."""
        if self._mode == "skip":
            return self._ping()
        kind = self._rng.choice((b"r", b"l", b"t"))
        key = self._key(kind)
        choices = {
            b"r": (self._set, self._get),
            b"l": (self._append, self._read_log),
            b"t": (self._incr, self._read_tally),
        }
        watches = self._rng.random() < 0.3
        parts = []
        said = [self._read(("WATCH", key), _equal(b"OK"))] if watches else []
        for _ in range(self._rng.randint(0, 4)):
            self._said += 1
            parts.append(self._rng.choice(choices[kind])(key))
        said.append(self._answered(("MULTI",), _equal(b"OK")))
        said += [Request(part.frame, _equal(b"QUEUED")) for part in parts]
        said.append(self._answered(("EXEC",), self._result(parts, watches)))
        whole = b"".join(request.frame for request in said)
        return Request(whole, said[0].check, [write for part in parts for write in part.writes], others=said[1:])

    def _result(self, parts: list[Request], watches: bool) -> Check:
        """The check of the reply to EXEC."""

        def check(reply: Reply) -> str | None:
            writing = [part for part in parts if part.writes]
            if isinstance(reply, hiredis.ReplyError):
                checked = writing or [self._read(("EXEC",), _equal(None))]
                return next(filter(None, [part.check(reply) for part in checked if part.check is not None]), None)
            if reply is None and watches and (self._weather.stormy or self._weather.cluster):
                for part in writing:
                    for write in part.writes:
                        write.outcome = Outcome.REFUSED
                return None
            if not isinstance(reply, list) or len(reply) != len(parts):
                return f"not {len(parts)} results"
            problems = [part.check(one) for part, one in zip(parts, reply, strict=True) if part.check is not None]
            return next(filter(None, problems), None)

        return check

    def _set(self, key: bytes = b"") -> Request:
        key = key or self._key(b"r")
        write = self._registers[key].write(key, self._value())
        return self._write(("SET", key, write.value or b""), [write], _equal(b"OK"))

    def _mset(self) -> Request:
        keys = self._some(b"r")
        writes = [self._registers[key].write(key, self._value()) for key in keys]
        args = [part for write in writes for part in (write.key, write.value or b"")]
        return self._write(("MSET", *args), writes, _equal(b"OK"))

    def _del(self) -> Request:
        keys = self._some(b"r")
        writes = [self._registers[key].write(key, None) for key in keys]
        return self._write(("DEL", *keys), writes, _between(0, len(keys)))

    def _get(self, key: bytes = b"") -> Request:
        key = key or self._key(b"r")
        return self._read(("GET", key), self._expect_register(key), large=True)

    def _mget(self) -> Request:
        keys = self._some(b"r")
        expected = [self._expect_register(key) for key in keys]

        def check(reply: Reply) -> str | None:
            if not isinstance(reply, list) or len(reply) != len(keys):
                return f"not {len(keys)} values"
            return next(filter(None, (expect(value) for expect, value in zip(expected, reply, strict=True))), None)

        return self._read(("MGET", *keys), check)

    def _exists(self) -> Request:
        keys = self._some(b"r")
        return self._read(("EXISTS", *keys), _between(0, len(keys)))

    def _append(self, key: bytes = b"") -> Request:
        key = key or self._key(b"l")
        write = self._logs[key].write(key, self._token() + b";")
        return self._write(("APPEND", key, write.value or b""), [write], _between(1, 10**6))

    def _read_log(self, key: bytes = b"") -> Request:
        key = key or self._key(b"l")
        log = self._logs[key]
        sent = len(log.writes)

        def check(reply: Reply) -> str | None:
            if not isinstance(reply, bytes | None):
                return "no string"
            return log.check(reply, sent, stale=self._weather.stale)

        return self._read(("GET", key), check)

    def _incr(self, key: bytes = b"") -> Request:
        key = key or self._key(b"t")
        tally = self._tallies[key]
        write = tally.write(key)
        sent = len(tally.writes)
        # The outcome is noted before the check, so this increment counts as done there.
        return self._write(("INCR", key), [write], lambda reply: tally.check(_integer(reply), sent))

    def _read_tally(self, key: bytes = b"") -> Request:
        key = key or self._key(b"t")
        tally = self._tallies[key]
        sent = len(tally.writes)
        stale = self._weather.stale
        return self._read(("GET", key), lambda reply: tally.check(_text(reply), sent, stale=stale))

    def _dbsize(self) -> Request:
        return self._read(("DBSIZE",), _between(0, 10**6))

    # ---- commands that the proxy answers

    def _echo(self) -> Request:
        token = self._token()
        if self._rng.random() < 0.2:
            return Request(b"ECHO %b\r\n" % token, _equal(token))
        return self._answered(("ECHO", token), _equal(token))

    def _ping(self) -> Request:
        token = self._token()
        return self._answered(("PING", token), _equal(token))

    def _unknown(self) -> Request:
        token = self._token()
        expected = f"ERR unknown command 'NonSense', with args beginning with: '{token.decode()}' "
        return self._answered((b"NonSense", token), _error(expected))

    def _arity(self) -> Request:
        return self._answered(("GET", self._token(), "x"), _error("ERR wrong number of arguments for 'get' command"))

    def _crossslot(self) -> Request:
        if self._weather.single:
            return self._ping()
        one = two = self._token()
        while key_slot(two) == key_slot(one):
            two += b"x"
        return self._answered(("MSETNX", one, "1", two, "2"), _error("CROSSSLOT"))

    def _setname(self) -> Request:
        if not self.muted:
            self._name = self._token()
            return self._answered(("CLIENT", "SETNAME", self._name), _equal(b"OK"))
        return self._ping()

    def _getname(self) -> Request:
        return self._answered(("CLIENT", "GETNAME"), _equal(self._name or None))

    def _select(self) -> Request:
        self._db = self._rng.choice((0, 0, 1))
        return self._answered(("SELECT", str(self._db)), _equal(b"OK"))

    def _hello(self) -> Request:
        protocol = self._protocol = self._rng.choice((2, 3))

        def check(reply: Reply) -> str | None:
            fields = reply if isinstance(reply, dict) else {}
            if isinstance(reply, list):
                fields = dict(zip(reply[::2], reply[1::2], strict=True))
            return None if fields.get(b"proto") == protocol else f"not protocol {protocol}"

        return self._answered(("HELLO", str(protocol)), check)

    def _client_reply(self) -> Request:
        if self._mode != "on":
            return self._ping()
        self._mode = self._rng.choice(("off", "skip"))
        return Request(encode.request(("CLIENT", "REPLY", self._mode)), None)

    def _client_reply_on(self) -> Request:
        self._mode = "on"
        return self._answered(("CLIENT", "REPLY", "ON"), _equal(b"OK"))

    def _client_pause(self) -> Request:
        milliseconds = self._rng.randint(1, 100)
        mode = self._rng.choice(("WRITE", "ALL"))
        return self._answered(("CLIENT", "PAUSE", str(milliseconds), mode), _equal(b"OK"))

    # ---- parts

    def _token(self) -> bytes:
        return b"c%d.%d" % (self._number, self._said)

    def _value(self) -> bytes:
        size = 0
        if self._rng.random() < 0.1:
            size = self._rng.choice((3, 90, 100, 5000, _LARGE))
        return b"%b/%d;" % (self._token(), self._rng.randrange(10**9)) + b"x" * size

    def _scope(self) -> bytes:
        # In a storm a write that timed out may be executed after one that went over another connection.
        protocol = self._protocol if self._weather.stormy else 0
        return b"c%d:d%dp%d:" % (self._number, self._db, protocol)

    def _key(self, kind: bytes) -> bytes:
        name = b"%b%b%d" % (self._scope(), kind, self._rng.randrange(self._keys))
        if self._tags:
            # The same key has the same tag.
            return b"%b{%b}" % (name, self._tags[sum(name) % len(self._tags)])
        return name if name[-1:] != b"2" else b"{%b}tagged" % name

    def _some(self, kind: bytes) -> list[bytes]:
        return sorted({self._key(kind) for _ in range(self._rng.randint(1, 5))})

    def _expect_register(self, key: bytes) -> Check:
        register = self._registers[key]
        sent = len(register.writes)

        def check(reply: Reply) -> str | None:
            possible = register.possible(sent, stale=self._weather.stale)
            if reply in possible:
                return None
            known = [None if value is None else value[:40] for value in possible]
            return f"{key!r} should be one of {known}"

        return check

    def _frame(self, args: tuple[bytes | str, ...]) -> bytes:
        name = args[0]
        if isinstance(name, str):
            name = self._rng.choice((name, name, name.lower(), name.capitalize()))
        return encode.request((name, *args[1:]))

    def _answered(self, args: tuple[bytes | str, ...], check: Check) -> Request:
        return Request(self._frame(args), check)

    def _read(self, args: tuple[bytes | str, ...], check: Check, *, large: bool = False) -> Request:
        def checked(reply: Reply) -> str | None:
            if isinstance(reply, hiredis.ReplyError):
                code = str(reply).partition(" ")[0]
                lost = code == "UNCERTAIN" and str(reply).endswith("the read was not repeated")
                stormy = code in ("SHARDDOWN", "TIMEOUT") or lost
                known = code in self._weather.refusals or (self._weather.stormy and stormy)
                return None if known else "an error that nothing explains"
            return check(reply)

        return Request(self._frame(args), checked, large=large)

    def _write(self, args: tuple[bytes | str, ...], writes: list[Write], check: Check) -> Request:
        def checked(reply: Reply) -> str | None:
            outcome = Outcome.DONE
            if isinstance(reply, hiredis.ReplyError):
                outcome = self._excuse(str(reply))
                if outcome is Outcome.PENDING:
                    return "an error that nothing explains"
            for write in writes:
                write.outcome = outcome
            return check(reply) if outcome is Outcome.DONE else None

        return Request(self._frame(args), checked, writes)

    def _excuse(self, error: str) -> Outcome:
        """What became of a write that was answered so; pending, if that was no answer."""
        code = error.partition(" ")[0]
        weather = self._weather
        if code in weather.refusals or (weather.stormy and code == "SHARDDOWN"):
            return Outcome.REFUSED
        # Of a split write a part may have run, and the other not.
        parts = bool(weather.refusals) and error.startswith("UNCERTAIN partial")
        return Outcome.UNCERTAIN if code == "UNCERTAIN" and (weather.stormy or parts) else Outcome.PENDING

    def wrong(self, value_of: Callable[[bytes], bytes | None]) -> list[str]:
        """What is wrong with what the servers keep in the end; ``value_of`` a key."""
        found = []
        for key, register in self._registers.items():
            if value_of(key) not in register.possible(len(register.writes)):
                found.append(f"{key!r} is {str(value_of(key))[:60]} in the end")
        for key, log in self._logs.items():
            if problem := log.check(value_of(key), len(log.writes)):
                found.append(f"{key!r} in the end: {problem}")
        for key, tally in self._tallies.items():
            if problem := tally.check(value_of(key), len(tally.writes)):
                found.append(f"{key!r} in the end: {problem}")
        return found


def _equal(expected: object) -> Check:
    return lambda reply: None if reply == expected else f"should be {expected!r}"


def _error(beginning: str) -> Check:
    def check(reply: Reply) -> str | None:
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(beginning):
            return None
        return f"should be the error {beginning!r}"

    return check


def _between(least: int, most: int) -> Check:
    return lambda reply: None if isinstance(reply, int) and least <= reply <= most else f"not in {least} to {most}"


def _integer(reply: Reply) -> int:
    return reply if isinstance(reply, int) else -1


def _text(reply: Reply) -> bytes | None:
    return reply if isinstance(reply, bytes) else None
