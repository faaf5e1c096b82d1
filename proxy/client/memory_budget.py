"""The budget of memory that the clients of a worker share. No I/O, no clock: bytes only.

::

    total of all clients   below soft    all clients are read from
                           above soft    the clients that hold the most are not read from (``withheld``)
                           above hard    the client that holds the most is closed, and the next one, until it is below

Small clients are always read from. A request that is being read frees its memory only when it is complete, so not all
of its kind may be stopped: those that need the fewest bytes are read from, as long as the bytes that are missing of all
of them fit below ``hard``. A total that stays above ``soft`` and does not shrink for ``PATIENCE`` seconds closes the
client that holds the most, apart from its subscriptions: it does not read, or sends its request too slowly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

SOFT, HARD = 0.6, 0.8
"""The parts of the budget from which clients are not read from, and from which the greediest is closed. The rest is for
what is not counted: the overhead of the C library, and what arrives between two judgements."""
_RESUME = 0.75
"""The part of ``soft`` below which all clients are read from again: with less room they would stop and go on all the
time."""
_OTHERS = 0.5
"""The part of ``soft`` that clients which are read from may hold together while the total is above ``soft``."""
SMALL = 64 * 1024
"""Bytes: clients that hold no more are always read from."""
PATIENCE = 5.0
_PROGRESS = 64
"""The part (1 / 64) of ``soft`` by which the total has to shrink within ``PATIENCE`` seconds."""


class Holding(NamedTuple):
    """The bytes that a client holds, by kind."""

    input: int = 0
    """Requests that are incomplete, or that wait to be carried out."""
    sent: int = 0
    """Requests that were sent to servers in large pieces and may be unanswered."""
    output: int = 0
    """Replies and messages that the client has not read."""
    kept: int = 0
    """Replies that have to be kept: they arrive, or wait for their turn."""
    queued: int = 0
    """Commands that wait for EXEC."""
    names: int = 0
    """The names of the client's subscriptions."""

    def words(self) -> str:
        """The bytes by kind, as the log shows them."""
        return " ".join(f"{kind}={size}" for kind, size in zip(KINDS, self, strict=True))


KINDS = Holding._fields

ClientT = TypeVar("ClientT")


@dataclass(frozen=True, slots=True)
class MemoryHolder(Generic[ClientT]):
    """A client, what it holds, and the bytes that are missing of the large request that it sends (0: none)."""

    client: ClientT
    holding: Holding
    total: int
    missing: int = 0


@dataclass(frozen=True, slots=True)
class MemoryVerdict(Generic[ClientT]):
    """The clients that are not read from now, and the clients to close, the greediest first."""

    withheld: Sequence[MemoryHolder[ClientT]] = ()
    closed: Sequence[MemoryHolder[ClientT]] = ()


def _stuck(holder: MemoryHolder[ClientT]) -> int:
    """The bytes that a client would free if it sent the rest of its request, or read its replies."""
    return holder.total - holder.holding.names


class MemoryBudget:
    """The budget of a worker's clients: ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.soft = int(limit * SOFT)
        self.hard = int(limit * HARD)
        self.total = 0
        """The bytes that all clients held at the last judgement, and ``kinds`` by kind."""
        self.kinds = dict.fromkeys(KINDS, 0)
        self._short = False
        """Whether clients are withheld."""
        self._lowest = 0
        """The lowest total since the clients were last seen to free memory, at the time ``_since``."""
        self._since = 0.0

    def __repr__(self) -> str:
        return f"MemoryBudget({self.total} of {self.limit} bytes{', short' * self._short})"

    @property
    def short(self) -> bool:
        """Whether clients are not read from, so that what they hold has to be looked at often."""
        return self._short

    def count(self, holdings: Iterable[Holding]) -> None:
        """Take the holdings of all clients as they are now."""
        sizes = [sum(of_kind) for of_kind in zip(*holdings, strict=True)] or [0] * len(KINDS)
        self.kinds = dict(zip(KINDS, sizes, strict=True))
        self.total = sum(sizes)

    def judge(self, holders: Iterable[MemoryHolder[ClientT]], now: float) -> MemoryVerdict[ClientT]:
        """Decide about ``holders`` at the time ``now`` in seconds: the clients that hold more than ``SMALL``, and while
        memory is ``short`` all. The holdings of all clients were passed to ``count`` before."""
        if not self._short:
            if self.total <= self.soft:
                return MemoryVerdict()
            self._short = True
            self._progress(now)
        elif self.total <= self.soft * _RESUME:
            self._short = False
            return MemoryVerdict()
        order = sorted(holders, key=lambda holder: holder.total, reverse=True)
        closed = self._to_close(order, now)
        gone = {id(holder) for holder in closed}
        order = [holder for holder in order if id(holder) not in gone]
        left = self.total - sum(holder.total for holder in closed)
        greedy = 0
        rest = left
        while greedy < len(order) and order[greedy].total > SMALL and rest > self.soft * _OTHERS:
            rest -= order[greedy].total
            greedy += 1
        return MemoryVerdict(self._withheld(order[:greedy], self.hard - left), closed)

    def _to_close(self, order: Sequence[MemoryHolder[ClientT]], now: float) -> Sequence[MemoryHolder[ClientT]]:
        """The clients to close, from the greediest on: those above ``hard``, or one if the total does not shrink."""
        left, count = self.total, 0
        while count < len(order) and left > self.hard:
            left -= order[count].total
            count += 1
        if self.total <= self._lowest - self.soft // _PROGRESS or self.total <= self.soft:
            self._progress(now)
        elif now - self._since >= PATIENCE and not count:
            self._progress(now)
            stuck = max(order, key=_stuck, default=None)
            return [] if stuck is None or _stuck(stuck) <= SMALL else [stuck]
        if count:
            self._progress(now)
        return order[:count]

    def _progress(self, now: float) -> None:
        self._lowest, self._since = self.total, now

    def _withheld(self, greedy: Sequence[MemoryHolder[ClientT]], room: int) -> list[MemoryHolder[ClientT]]:
        """Of the ``greedy`` clients those that are not read from: all but those whose requests can be completed in the
        ``room`` that is left."""
        reading = set()
        for holder in sorted((each for each in greedy if each.missing), key=lambda each: each.missing):
            room -= holder.missing
            if room < 0:
                break
            reading.add(id(holder))
        return [holder for holder in greedy if id(holder) not in reading]
