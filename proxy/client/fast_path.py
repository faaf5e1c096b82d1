"""The fast path: commands that are forwarded, or split by their keys, without being decoded.

The beginning of a request with one key, up to the key's length, determines how the request is forwarded::

    *3\\r\\n$3\\r\\nSET\\r\\n$   7\\r\\nuser:42   \\r\\n$5\\r\\nhello\\r\\n
    └─── the head ────┘   └ hashed ┘   └ skipped by its length ┘

``CommandLookup.heads`` has an entry for every head that Redis's facts allow: a known command in upper or lower case,
with a number of arguments that fits its arity, whose only key is its first argument. ``CommandLookup.splits`` has the
commands that are split (MGET, MSET, DEL ...), by their name's bulk string. All other requests take the slow path.
"""

from collections.abc import Sequence

from proxy.backends.routes import Routes
from proxy.client.client import Client
from proxy.client.fast_commands import NO_HEAD, Split
from proxy.engine.jobs import Job
from proxy.engine.sink import Sink
from proxy.planning.scatter import Scatter
from proxy.planning.split import Cut, Cutter, count_of, cut, cutting, skip_bulks
from proxy.sharding.slots import span_slot
from proxy.transport.write_batch import BYTES

_CR = 13
_LF = 10
_ZERO = 48
_STAR = 42
_SHORTEST = 20
"""Bytes of the shortest request that can be forwarded: a name of three letters and a key of one byte."""
_BYTES = BYTES
_NO_HEAD = NO_HEAD


def run(client: Client, data: bytes, pos: int, now: float, credit: int) -> int:
    """Carry out requests from ``data[pos:]`` until one is incomplete or not for the fast path, or ``credit`` is spent.

    Returns the offset of the first request that is not carried out. The client is ``plain``.
    """
    lookup = client.lookups.current
    measure = lookup.measure
    rules = lookup.rules
    known = lookup.heads
    window = client.window
    own_writes = client.own_writes
    routes = client.routes
    readers = routes.readers
    writers = routes.writers
    slot_shard = routes.slot_shard
    view = data
    size = len(data)
    last = min(size - _SHORTEST, pos + credit * _BYTES)
    token = window.issued
    most = min(window.head + client.most, token + credit)
    one = 1
    text = lookup.text
    entry = lookup.entry
    while pos <= last and token < most:
        # Pipelines often repeat a command: the head is looked up only if it differs from the one before.
        if not data.startswith(text, pos):
            length = view[pos + 5] - _ZERO
            at = pos + 11 + length
            if view[pos + 6] != _CR:
                at = pos + 12 + length * 10 + view[pos + 6] - _ZERO
            found = None
            if pos < at < size:
                text = view[pos:at]
                found = known.get(text)
            if found is None:
                end = split(client, data, pos, now)
                if end < 0:
                    break
                text = _NO_HEAD
                token = window.issued
                pos = end
                if client.flow.stopped:
                    break
                continue
            entry = lookup.entry = found
            lookup.text = text
        assert entry is not None
        # The key's length has one digit or two.
        at = pos + len(text)
        if at + 4 > size:
            break
        length = view[at] - _ZERO
        if length < 0 or length > 9:
            break
        if view[at + 1] == _CR:
            start = at + 3
        else:
            start = at + 4
            digit = view[at + 1] - _ZERO
            if not length or digit < 0 or digit > 9 or view[at + 2] != _CR:
                break
            length = length * 10 + digit
        stop = start + length
        end = stop + 2
        if end > size or view[start - 1] != _LF:
            break
        if view[stop] != _CR or view[stop + 1] != _LF:
            break
        if entry.bulks:
            end = skip_bulks(data, end, entry.bulks)
            if end < 0:
                break
        slot = span_slot(data, start, stop) if rules is None else rules.span_slot(data, start, stop)
        if slot < 0:
            break  # the client's user may not be allowed to use this key
        shard = slot_shard[slot]
        backend = readers[shard] if entry.read else writers[shard]
        if own_writes is not None and entry.read and own_writes.lately(shard, slot_shard, now):
            backend = writers[shard]
        if backend is None:
            break
        if entry.writes:
            client.wrote |= one << (shard & 63)
        if own_writes is not None and entry.writes:
            backend.inflight.push(own_writes.sink(shard, slot_shard), token, data, pos, end, now)
        else:
            backend.inflight.push(window, token, data, pos, end, now)
        token += 1
        window.issued = token
        if measure:
            entry.counter.calls += 1
        client.latest = entry.counter
        pos = end
        if not backend.dirty:
            backend.schedule(client.flow)
            if client.flow.stopped:
                break
    return pos


def split(client: Client, data: bytes, pos: int, now: float) -> int:
    """Carry out the request at ``data[pos:]`` if it is split by its keys. Returns the request's end, else -1."""
    lookup = client.lookups.current
    view = data
    size = len(data)
    if view[pos] != _STAR:
        return -1
    at = _line_end(data, pos, min(size, pos + 8))
    name_end = _line_end(data, _line_end(data, at, size), min(size, at + 20))
    if name_end < 0:
        return -1
    entry = lookup.splits.get(view[at:name_end])
    if entry is None:
        return watched(client, data, pos, name_end, now) if lookup.watching else -1
    tail = entry.way.tail
    count = count_of(data, pos, at) - 1 - tail
    if count < 1 or count % entry.step:
        return -1
    slot_shard = client.routes.slot_shard
    keys = count // entry.step
    found = cut(data, at, name_end, keys, entry.step, slot_shard, lookup.shards, lookup.by_slot, lookup.rules, tail)
    if found is None or (lookup.watching and _has_long(client, data, pos, found)):
        return -1
    send_parts(client, client.routes, entry, found, data, pos, now)
    return found.end


def watched(client: Client, data: bytes, pos: int, name_end: int, now: float) -> int:
    """Carry out the request at ``data[pos:]`` if some requests of its command have had very long replies, but not this
    request. Returns the request's end, else -1."""
    lookup = client.lookups.current
    service = client.service
    head = lookup.watched.get(data[pos : name_end + 1])
    if head is None:
        return -1
    key_end = skip_bulks(data, name_end, 1)
    end = -1 if key_end < 0 else skip_bulks(data, key_end, head.bulks)
    if end < 0:
        return -1
    frame = data[pos:end]
    if service.upstream.longs.any((frame,)):
        return -1
    start = data.index(b"\n", name_end) + 1
    rules = lookup.rules
    slot = span_slot(data, start, key_end - 2) if rules is None else rules.span_slot(data, start, key_end - 2)
    shard = client.routes.slot_shard[slot]
    routes = reading(client, (shard,), head.read, now)
    if (routes.readers if head.read else routes.writers)[shard] is None:
        return -1
    if lookup.measure:
        head.counter.calls += 1
    client.latest = head.counter
    service.dispatcher.send(shard, head.read, frame, routes, client.flow, client.window, client.window.reserve(), now)
    return end


def _has_long(client: Client, data: bytes, pos: int, found: Cut) -> bool:
    """Whether a part of the request at ``data[pos:]`` has had very long replies."""
    parts = found.parts
    frames = (data[pos : found.end],) if len(parts) == 1 else (part.frame for part in parts)
    return client.service.upstream.longs.any(frames)


def send_parts(client: Client, routes: Routes, entry: Split, found: Cut, data: bytes, pos: int, now: float) -> None:
    """Send the parts into which the request at ``data[pos:]`` was cut over ``routes``."""
    service = client.service
    lookup = client.lookups.current
    window = client.window
    if lookup.measure:
        entry.counter.calls += 1
    client.latest = entry.counter
    token = window.reserve()
    parts = found.parts
    dispatcher = service.dispatcher
    sink: Sink = window
    if client.own_writes is not None:
        routes = reading(client, [part.shard for part in parts], entry.way.read, now)
    if entry.way.changes:
        sink = client.writing([part.shard for part in parts], True, window)
    if len(parts) > 1:
        dispatcher.scatter(Scatter(entry.way, parts), routes, client.flow, sink, token, now)
    else:
        first = parts[0]
        frame = data[pos : found.end]
        dispatcher.send(first.shard, entry.way.read, frame, routes, client.flow, sink, token, now)


def splitting(client: Client, frame: bytes, now: float) -> Job[bool | None]:
    """Carry out the request ``frame``, of very many keys, if it is split by its keys, and return whether it is. None if
    the request must wait (nothing was done)."""
    service = client.service
    if not client.free() or len(frame) > service.query.limit:
        return False
    lookup = client.lookups.current
    name = frame.index(b"\n") + 1
    at = skip_bulks(frame, name, 1)
    entry = lookup.splits.get(frame[name:at])
    if entry is None:
        return False
    count = int(frame[1 : name - 2]) - 1 - entry.way.tail
    if count < 1 or count % entry.step:
        return False
    if client.for_large(frame) is None:
        return None
    slot_shard = client.routes.slot_shard
    cutter = Cutter()
    cutter.begin(frame, name, at, entry.step, slot_shard, lookup.shards, lookup.by_slot, lookup.rules)
    found = yield from cutting(cutter, count // entry.step, entry.way.tail)
    changed = client.routes.slot_shard is not slot_shard or client.lookups.current is not lookup
    if found is None or not client.free() or changed:
        return False  # a change meanwhile has made the parts invalid: the request takes the slow path
    routes = client.for_large(frame)
    assert routes is not None  # no request is in flight: ``for_large`` has checked it, and none was sent since
    send_parts(client, routes, entry, found, frame, 0, now)
    return True


def reading(client: Client, shards: Sequence[int], read: bool, now: float, routes: Routes | None = None) -> Routes:
    """The routes for a request to ``shards``: ``routes``, or else the client's. If any part of a read must go to a
    primary, all parts do."""
    own_writes, routes = client.own_writes, routes or client.routes
    if not read or own_writes is None:
        return routes
    lately = any(own_writes.lately(shard, routes.slot_shard, now) for shard in shards)
    return client.service.upstream.at_primaries(routes) if lately else routes


def _line_end(data: bytes, at: int, last: int) -> int:
    """The offset behind the first line feed in ``data[at:last]``; -1 if there is none, or if ``at`` is negative."""
    view = data
    if at < 0:
        return -1
    while at < last:
        if view[at] == _LF:
            return at + 1
        at += 1
    return -1
