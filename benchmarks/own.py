"""``python -m benchmarks.own``: the CPU that the proxy's own answers take, as multiples of Redis's for the same bytes.

Whoever can connect can send these commands, and no server helps to answer them: what each costs is what a stranger can
have of the proxy's time. One connection sends a command over and over, hundreds in a write, to the proxy and to a plain
server in turn, on one CPU; the figures are medians of paired slices.
"""

import argparse
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Self

import hiredis

from benchmarks.figures import MET, MISSED, NONE, table
from benchmarks.loadgen import RunFailed
from benchmarks.lockstep import one_cpu
from benchmarks.peers import Slotgate, Target
from benchmarks.proc import own_cpu_ns
from benchmarks.processes import direct, started
from proxy.devservers.servers import LOOPBACK, LocalServer, free_port, start_many
from proxy.errors import SlotgateError
from proxy.resp.encode import request
from proxy.session.users import DEFAULT_RULES

_TARGET: Final = 3.0
_PASSWORD: Final = "benchmark"
_PIECE: Final = 8 * 1024
"""Bytes of a slice's write: many commands, and less than either side takes at once."""
_STRANGERS: Final = 900
_WRITES: Final = 8
_PAIRS: Final = 15
_QUICK_PAIRS: Final = 3
_WARM_UP: Final = 2
_TIMEOUT: Final = 10.0
_CHUNK: Final = 256 * 1024
_SETTLE: Final = 0.0005
"""Seconds until the process has gone to sleep."""

BEFORE: Final = "before AUTH"
PLAIN: Final = "plain"
RESP3: Final = "RESP3"
MULTI: Final = "in MULTI"
SUBSCRIBED: Final = "subscribed"
STATES: Final = (BEFORE, PLAIN, RESP3, MULTI, SUBSCRIBED)
_ALWAYS: Final = frozenset(STATES)
_GREETINGS: Final = {
    BEFORE: (),
    PLAIN: (("AUTH", _PASSWORD),),
    RESP3: (("AUTH", _PASSWORD), ("HELLO", 3)),
    MULTI: (("AUTH", _PASSWORD),),
    SUBSCRIBED: (("AUTH", _PASSWORD), ("SUBSCRIBE", "channel")),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One command, or some in rotation, as bytes; in which states it is measured."""

    name: str
    data: bytes
    count: int = 1
    """How many requests ``data`` is."""
    states: frozenset[str] = frozenset((BEFORE, PLAIN, RESP3, MULTI))


def _row(*words: str | int, name: str = "", states: Sequence[str] = (BEFORE, PLAIN, RESP3, MULTI)) -> Row:
    return Row(name or " ".join(map(str, words)), request(words), states=frozenset(states))


def _some(name: str, *requests: Sequence[str | int], states: Sequence[str] = (PLAIN, RESP3)) -> Row:
    return Row(name, b"".join(map(request, requests)), len(requests), frozenset(states))


_OUTSIDE: Final = (BEFORE, PLAIN, RESP3)
ROWS: Final = (
    _row("PING", states=STATES),
    Row("PING, inline", b"PING\r\n", states=_ALWAYS),
    _row("PING", "x", name="PING x", states=STATES),
    _row("ECHO", "hello"),
    _row("SELECT", 0),
    _row("AUTH", "wrong", name="AUTH, wrong"),
    _row("AUTH", _PASSWORD, name="AUTH, right", states=(PLAIN, RESP3)),
    _row("HELLO", states=_OUTSIDE),
    _row("HELLO", 2, states=(BEFORE, PLAIN)),
    _some("HELLO 3, HELLO 2", ("HELLO", 3), ("HELLO", 2), states=(PLAIN,)),
    _some("RESET, AUTH", ("RESET",), ("AUTH", _PASSWORD), states=(PLAIN,)),
    _row("CLIENT", "ID"),
    _row("CLIENT", "GETNAME"),
    _row("CLIENT", "SETNAME", "me"),
    _row("CLIENT", "INFO"),
    _row("CLIENT", "LIST", states=_OUTSIDE),
    _row("CLIENT", "NO-EVICT", "OFF"),
    _row("CLIENT", "REPLY", "ON", states=_OUTSIDE),
    _row("CLIENT", "GETREDIR"),
    _row("CLIENT", "TRACKINGINFO"),
    _row("CLIENT", "NOSUCH", name="CLIENT NOSUCH"),
    _row("ROLE"),
    _row("ACL", "WHOAMI"),
    _row("READONLY"),
    _row("ASKING"),
    _row("CLUSTER", "INFO"),
    _row("CLUSTER", "KEYSLOT", "k"),
    _some("MULTI, DISCARD", ("MULTI",), ("DISCARD",)),
    _some("MULTI, EXEC", ("MULTI",), ("EXEC",)),
    _some("MULTI, PING, EXEC", ("MULTI",), ("PING",), ("EXEC",)),
    _row("EXEC", name="EXEC without MULTI", states=_OUTSIDE),
    _row("SET", "k", "v", name="SET (refused, or queued)", states=(BEFORE, MULTI, SUBSCRIBED)),
    _row("GET", "k", name="GET (refused, or queued)", states=(BEFORE, MULTI, SUBSCRIBED)),
    _row("UNSUBSCRIBE", "x", states=(BEFORE, PLAIN, RESP3, SUBSCRIBED)),
    _row("NOSUCH", "x", name="unknown command", states=STATES),
    _row("GET", name="wrong arity", states=STATES),
    Row("empty line", b"\r\n", 0, _ALWAYS),
    Row("*0", b"*0\r\n", 0, _ALWAYS),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU a request: the proxy's and the server's."""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


class Guarded(Slotgate):
    """Slotgate whose one user has a password, before one server with the same."""

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        file = directory / "own.toml"
        file.write_text(
            f'listen = "{LOOPBACK}:{port}"\nadmin = "{LOOPBACK}:{free_port()}"\n'
            "limits.auth_commands = 0\nlimits.auth_bytes = '0b'\nlimits.auth_delay_max = '0s'\n"
            f'backend.password = "{_PASSWORD}"\n[[users]]\nname = "default"\npassword = "{_PASSWORD}"\n'
            + "".join(f'[[shards]]\nprimary = "{shard.address}"\n' for shard in shards)
        )
        return ["serve", "-c", str(file)]


class Repeated:
    """A connection to ``target`` in a state, that sends ``row`` over and over."""

    def __init__(self, target: Target, row: Row, state: str) -> None:
        self._target = target
        self._inside = state == MULTI
        # What has no reply is followed by something that has.
        self._end = b"" if row.count else b"PING\r\n"
        self._reader = hiredis.Reader()
        self._socket = socket.create_connection((target.host, target.port), _TIMEOUT)
        for words in _GREETINGS[state]:
            self._socket.sendall(request(words))
            self._read(1)
        times = max(1, min(_PIECE // len(row.data), 1000))
        if state == BEFORE and row.count:
            # Redis closes a client that has more than 1 KB of replies waiting before it has logged in.
            self._socket.sendall(row.data)
            times = max(1, min(times, _STRANGERS // len(self._socket.recv(_CHUNK))))
        self._data = row.data * times
        self._replies = row.count * times
        self._requests = max(row.count, 1) * times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def cpu(self) -> float:
        """One slice; the process's CPU time per request in microseconds. Raises RunFailed, OSError."""
        spent = 0
        for _ in range(_WRITES):
            if self._inside:
                self._socket.sendall(request(("MULTI",)))
                self._read(1)
                time.sleep(_SETTLE)
            before = own_cpu_ns(self._target.pid)
            self._socket.sendall(self._data + self._end)
            self._read(self._replies + bool(self._end))
            time.sleep(_SETTLE)
            spent += own_cpu_ns(self._target.pid) - before
            if self._inside:
                self._socket.sendall(request(("DISCARD",)))
                self._read(1)
        return spent / self._requests / _WRITES / 1000

    def _read(self, count: int) -> None:
        while count:
            while count and self._reader.gets() is not False:
                count -= 1
            if count:
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise RunFailed(f"{self._target.name} closed a connection")
                self._reader.feed(data)


Costs = dict[tuple[str, str], Cost]
"""By the row's name and the state."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own", description="What the proxy's own answers cost.")
    parser.add_argument("--quick", action="store_true", help="fewer slices: for a first impression")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this in it")
    options = parser.parse_args(argv)
    try:
        costs = measure(quick=options.quick, only=options.only)
    except (SlotgateError, OSError) as error:
        print(f"benchmarks.own: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(costs)))
    return 0


def measure(*, quick: bool = False, only: str = "") -> Costs:
    """All rows, in all their states. Raises SlotgateError, OSError."""
    guarded = Guarded()
    command = guarded.find()
    assert command is not None
    pairs = _QUICK_PAIRS if quick else _PAIRS
    with start_many(1, 0, password=_PASSWORD) as shards, started(guarded, command, shards) as ours:
        # The proxy's user is no admin, and the server's has the same rules: both check each command, or neither does.
        shards.primaries[0].ask("ACL", "SETUSER", "default", *DEFAULT_RULES.split())
        theirs = direct(shards)
        with one_cpu([ours.pid, theirs.pid]):
            return {
                (row.name, state): _cost(ours, theirs, row, state, pairs)
                for row in ROWS
                if only.lower() in row.name.lower()
                for state in STATES
                if state in row.states
            }


def _cost(ours: Target, theirs: Target, row: Row, state: str, pairs: int) -> Cost:
    with Repeated(ours, row, state) as one, Repeated(theirs, row, state) as other:
        for _ in range(_WARM_UP):
            one.cpu(), other.cpu()
        slices = [(one.cpu(), other.cpu()) for _ in range(pairs)]
    return Cost(median(slice_[0] for slice_ in slices), median(slice_[1] for slice_ in slices))


def lines(costs: Costs) -> Iterator[str]:
    """A section."""
    yield "## The proxy's own answers (CPU, multiples of Redis's for the same bytes)"
    yield ""
    yield "One connection, hundreds of requests in a write; in parentheses microseconds of the proxy for each request."
    worst = sum(cost.ratio > _TARGET for cost in costs.values())
    yield f"The target is ≤ {_TARGET:.2f} for each: {MET if not worst else f'{MISSED} by {worst} of {len(costs)}'}."
    yield ""
    names = list(dict.fromkeys(name for name, _ in costs))
    yield from table(
        ["request", *STATES], ([name, *(_cell(costs.get((name, state))) for state in STATES)] for name in names)
    )


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return NONE
    text = f"{cost.ratio:.2f} ({cost.ours:.2f})"
    return text if cost.ratio <= _TARGET else f"**{text}**"


if __name__ == "__main__":
    sys.exit(main())
