"""The fast lane: commands with one key, recognised by their first bytes and forwarded without being decoded.

What a request begins with, up to its key's length, says everything that is needed to forward it::

    *3\\r\\n$3\\r\\nSET\\r\\n$   7\\r\\nuser:42   \\r\\n$5\\r\\nhello\\r\\n
    └─── the head ────┘   └ hashed ┘   └ skipped by its length ┘

``heads`` has an entry for every head that Redis's facts allow: a known command in upper or lower case, with a number of
arguments that fits its arity, whose only key is its first argument. Whatever is not there goes the slow way.
"""

from binascii import crc_hqx
from collections.abc import Iterable
from typing import TYPE_CHECKING

from proxy.commands.facts import Fact, Handling
from proxy.metrics import CommandCounter, Counters
from proxy.slots import key_slot

if TYPE_CHECKING:
    from proxy.client import ClientConnection

_CR = 13
_LF = 10
_DOLLAR = 36
_ZERO = 48
_NINE = 57
_BRACE = 123
_SHORTEST = 20
"""Bytes of the shortest request that can be forwarded: a name of three letters, a key of one."""
MOST_ARGUMENTS = 9
_LONGEST_DIGITS = 12


_LEARNED = 16384
"""How many heads with a key's length may be learned: clients choose them."""


class Head:
    """What is known of a request by its head: how many arguments follow the key, and whether a replica may answer.

    Of a head with the key's length behind it also where the key lies: from ``start`` to ``end``, counted from the
    beginning of the request.
    """

    __slots__ = ("bulks", "counter", "end", "read", "start")

    def __init__(self, bulks: int, read: bool, counter: CommandCounter, start: int = 0, end: int = 0) -> None:
        self.bulks = bulks
        self.read = read
        self.counter = counter
        self.start = start
        self.end = end


def heads(facts: Iterable[Fact], counters: Counters) -> dict[bytes, Head]:
    """All heads of commands that the fast lane may forward."""
    found: dict[bytes, Head] = {}
    for fact in facts:
        for count in range(2, MOST_ARGUMENTS + 1):
            if fact.accepts(count) and _one_key(fact, count):
                head = Head(count - 2, fact.replica_ok, counters.command(fact.name))
                for name in (fact.name.upper(), fact.name):
                    found[b"*%d\r\n$%d\r\n%b\r\n$" % (count, len(name), name.encode())] = head
    return found


def _one_key(fact: Fact, count: int) -> bool:
    """Whether a call with ``count`` arguments has one key, the first argument, and may go to its shard as it is."""
    if fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD) or fact.blocking or fact.key_range is None:
        return False
    first, last, step = fact.key_range
    end = last if last >= 0 else count + last
    return first == 1 and first <= end < first + step and (fact.handling is Handling.KEYED or count == 1 + step)


def run(client: "ClientConnection", data: bytes, pos: int, now: float) -> int:
    """Forward the requests at ``data[pos:]`` for as long as they are whole and the fast lane's.

    Returns the offset of the first that is not forwarded. The client's session is in its plain state.
    """
    known = client.service.heads
    window = client.window
    routes = client.routes
    readers = routes.readers
    writers = routes.writers
    slot_shard = routes.slot_shard
    size = len(data)
    last = size - _SHORTEST
    token = window.issued
    most = window.head + client.most
    counter: CommandCounter | None = None
    while pos <= last and token < most:
        # A name's length is one digit, or two: the head's end follows from it. Most keys' lengths have two digits.
        at = pos + data[pos + 5] - 33
        entry = known.get(data[pos:at])
        if entry is None:
            entry = learn(known, data, pos)
            if entry is None:
                break
        start = pos + entry.start
        stop = pos + entry.end
        end = stop + 2
        if entry.bulks:
            end = skip_bulks(data, end, entry.bulks)
        if end > size or end < 0 or data[stop] != _CR or data[stop + 1] != _LF:
            break
        name = data[start:stop]
        slot = key_slot(name) if _BRACE in name else crc_hqx(name, 0) & 0x3FFF
        backend = (readers if entry.read else writers)[slot_shard[slot]]
        if backend is None:
            break
        backend.push(window, token, data, pos, end, now)
        token += 1
        window.issued = token
        counter = entry.counter
        counter.calls += 1
        pos = end
        if not backend.dirty:
            backend.schedule(client.flow)
            if client.flow.stopped:
                break
    if counter is not None:
        client.latest = counter
    return pos


def learn(known: dict[bytes, Head], data: bytes, pos: int) -> Head | None:
    """The head of the request at ``data[pos:]`` with its key's length; remembered in ``known`` where it can be found.

    None if the request is not the fast lane's, or not there to the end of its key's length.
    """
    at = pos + data[pos + 5] - 37
    head = known.get(data[pos:at])
    named = head is not None
    if head is None:
        at = pos + (data[pos + 5] - _ZERO) * 10 + data[pos + 6] - 36
        head = known.get(data[pos:at])
    if head is None or head.end or at + 5 > len(data):
        return None
    first, second = data[at], data[at + 1]
    if second == _CR and _ZERO <= first <= _NINE and data[at + 2] == _LF:
        start = at + 3 - pos
        return Head(head.bulks, head.read, head.counter, start, start + first - _ZERO)
    if data[at + 2] != _CR or data[at + 3] != _LF or not _ZERO < first <= _NINE or not _ZERO <= second <= _NINE:
        return None
    start = at + 4 - pos
    found = Head(head.bulks, head.read, head.counter, start, start + (first - _ZERO) * 10 + second - _ZERO)
    if named and len(known) < _LEARNED:
        known[data[pos : at + 4]] = found
    return found


def skip_bulks(data: bytes, at: int, count: int) -> int:
    """The offset behind ``count`` bulk strings that begin at ``at``; -1 if they are not all there or not well formed.

    Only lengths are looked at; the offset may lie behind the end of ``data`` when the last one is cut.
    """
    size = len(data)
    while count:
        if at + 5 > size or data[at] != _DOLLAR:
            return -1
        first = data[at + 1]
        second = data[at + 2]
        if second == _CR and _ZERO <= first <= _NINE:
            begin = at + 4
            at += first - _ZERO + 6
        elif data[at + 3] == _CR and _ZERO < first <= _NINE and _ZERO <= second <= _NINE:
            begin = at + 5
            at += (first - _ZERO) * 10 + second - _ZERO + 7
        else:
            end = data.find(b"\r", at + 1, at + _LONGEST_DIGITS)
            digits = data[at + 1 : end]
            if end < 0 or not digits.isdigit() or digits[0] == _ZERO:
                return -1
            begin = end + 2
            at = begin + int(digits) + 2
        if at > size:
            return at
        if data[begin - 1] != _LF or data[at - 2] != _CR or data[at - 1] != _LF:
            return -1
        count -= 1
    return at
