"""Merges the statistics of several servers: LATENCY, MEMORY STATS, FUNCTION STATS and texts for people.

The functions are mergers, or jobs that merge (``proxy.planning.merge_context``); they return a frame in the protocol of
the replies.
Source: https://redis.io/docs/latest/commands/latency-histogram/ and the pages of the other commands.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter

from proxy.engine.jobs import MORE, Job
from proxy.planning.merge_context import Context
from proxy.planning.scatter import Scatter
from proxy.planning.split import joining
from proxy.resp import encode
from proxy.resp.replies import BadReply, element_steps, elements, header, integer_of, some_elements, string_of

_ROWS = 8
_NUMBERS = 50
"""The numbers of rows, and of numbers or names, after which a job may be interrupted."""
_COLUMNS_MOST = 64
"""The most columns of a row: servers send up to six."""
_NULLS = (b"$-1\r\n", b"*-1\r\n", b"_\r\n")


def latency_latest(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """One row for each event: the newest one, with the highest of the maxima."""
    rows: dict[bytes, list[bytes]] = {}
    for reply in replies:
        for frames in element_steps(reply, _ROWS):
            for row in map(_columns, frames):
                old = rows.setdefault(row[0], row)
                newest = max(old, row, key=lambda item: integer_of(item[1]))
                highest = max(old, row, key=lambda item: integer_of(item[3]))
                rows[row[0]] = [*newest[:3], highest[3], *newest[4:]]
            yield MORE
    return (yield from _array([encode.array(row) for row in rows.values()]))


def latency_history(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The samples of all servers, the oldest first."""
    rows: list[tuple[int, bytes]] = []
    for reply in replies:
        for frames in element_steps(reply, _ROWS):
            rows += [(integer_of(_columns(row)[0]), row) for row in frames]
            yield MORE
    rows.sort(key=itemgetter(0))
    return (yield from _array([row for _, row in rows]))


def latency_histogram(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The histograms of all servers, with the calls of each command and the counts of each bucket added up."""
    protocol = 3 if replies[0][:1] == b"%" else 2
    calls: dict[bytes, int] = {}
    buckets: dict[bytes, dict[int, int]] = {}
    for reply in replies:
        for name, body in element_steps(reply, 2):
            fields = _columns(body)
            calls[name] = calls.get(name, 0) + integer_of(fields[1])
            counts: list[int] = []
            for some in element_steps(fields[3], _NUMBERS):
                counts += map(integer_of, some)
                yield MORE
            own = buckets.setdefault(name, {})
            yield from _adding_cumulated(own, dict(zip(counts[::2], counts[1::2], strict=True)))
            yield MORE
    found: dict[bytes, bytes] = {}
    for name, own in buckets.items():
        shown: dict[bytes, bytes] = {}
        for bound, count in sorted(own.items()):
            shown[encode.integer(bound)] = encode.integer(count)
            if not len(shown) % _NUMBERS:
                yield MORE
        found[name] = encode.mapping(
            {
                encode.bulk("calls"): encode.integer(calls[name]),
                encode.bulk("histogram_usec"): encode.mapping(shown, protocol),
            },
            protocol,
        )
        yield MORE
    return encode.mapping(found, protocol)


def _columns(row: bytes) -> list[bytes]:
    """The elements of one row, of which there are few. Raises ``BadReply`` if there are many."""
    if header(row)[1] > _COLUMNS_MOST:
        raise BadReply("a row with very many columns")
    return elements(row)


def _array(rows: list[bytes]) -> Job[bytes]:
    frames = [b"*%d\r\n" % len(rows), *rows]
    yield from joining(frames)
    return b"".join(frames)


def _adding_cumulated(total: dict[int, int], more: Mapping[int, int]) -> Job[None]:
    """Add the cumulative histogram ``more`` to ``total``, which may have other bounds."""
    before = dict(total)
    old = new = 0
    for at, bound in enumerate(sorted({*before, *more})):
        old, new = max(old, before.get(bound, 0)), max(new, more.get(bound, 0))
        total[bound] = old + new
        if not at % _NUMBERS:
            yield MORE


def running(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The reply of a server that runs a script, else the first reply, since all servers have the same engines."""
    scripts = (some_elements(reply, header(reply)[2], 2)[0][1] for reply in replies)
    return next((reply for reply, script in zip(replies, scripts, strict=True) if script not in _NULLS), replies[0])


def texts(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The texts of the shards, one below the other."""
    joined = "\n".join(string_of(reply).decode("utf-8", "replace") for reply in replies)
    return encode.verbatim(joined, 3 if replies[0][:1] == b"=" else 2)


def memory_stats(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The sums of the integer fields; other fields, and fields that not all shards have, are those of the first shard
    that has them."""
    merged: dict[bytes, bytes] = {}
    for reply in replies:
        for items in element_steps(reply, _NUMBERS):
            for name, value in zip(items[::2], items[1::2], strict=True):
                old = merged.get(name)
                if old is None:
                    merged[name] = value
                elif old[:1] == value[:1] == b":":
                    merged[name] = encode.integer(integer_of(old) + integer_of(value))
            yield MORE
    frames = [b"%%%d\r\n" % len(merged) if replies[0][:1] == b"%" else b"*%d\r\n" % (2 * len(merged))]
    for pair in merged.items():
        frames += pair
        if not len(frames) % (_NUMBERS + 1):
            yield MORE
    yield from joining(frames)
    return b"".join(frames)
