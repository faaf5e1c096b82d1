"""Merges the statistics of several servers: LATENCY, MEMORY STATS, FUNCTION STATS and texts for people.

The functions are mergers (``proxy.planning.merge_context.Merger``); they return a frame in the protocol of the replies.
Source: https://redis.io/docs/latest/commands/latency-histogram/ and the pages of the other commands.
"""

from collections.abc import Mapping, Sequence

from proxy.planning.merge_context import Context
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.resp.replies import elements, integer_of, string_of

_NULLS = (b"$-1\r\n", b"*-1\r\n", b"_\r\n")


def latency_latest(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """One row for each event: the newest one, with the highest of the maxima."""
    rows: dict[bytes, list[bytes]] = {}
    for reply in replies:
        for row in map(elements, elements(reply)):
            old = rows.setdefault(row[0], row)
            newest = max(old, row, key=lambda item: integer_of(item[1]))
            highest = max(old, row, key=lambda item: integer_of(item[3]))
            rows[row[0]] = [*newest[:3], highest[3], *newest[4:]]
    return encode.array(encode.array(row) for row in rows.values())


def latency_history(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The samples of all servers, the oldest first."""
    rows = [row for reply in replies for row in elements(reply)]
    rows.sort(key=lambda row: integer_of(elements(row)[0]))
    return encode.array(rows)


def latency_histogram(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The histograms of all servers, with the calls of each command and the counts of each bucket added up."""
    protocol = 3 if replies[0][:1] == b"%" else 2
    calls: dict[bytes, int] = {}
    buckets: dict[bytes, dict[int, int]] = {}
    for reply in replies:
        items = elements(reply)
        for name, body in zip(items[::2], items[1::2], strict=True):
            fields = elements(body)
            calls[name] = calls.get(name, 0) + integer_of(fields[1])
            counts = list(map(integer_of, elements(fields[3])))
            own = buckets.setdefault(name, {})
            _add_cumulated(own, dict(zip(counts[::2], counts[1::2], strict=True)))
    return encode.mapping(
        {
            name: encode.mapping(
                {
                    encode.bulk("calls"): encode.integer(calls[name]),
                    encode.bulk("histogram_usec"): encode.mapping(
                        {encode.integer(bound): encode.integer(count) for bound, count in sorted(own.items())}, protocol
                    ),
                },
                protocol,
            )
            for name, own in buckets.items()
        },
        protocol,
    )


def _add_cumulated(total: dict[int, int], more: Mapping[int, int]) -> None:
    """Add the cumulative histogram ``more`` to ``total``, which may have other bounds."""

    def upto(histogram: Mapping[int, int], bound: int) -> int:
        return max((count for own, count in histogram.items() if own <= bound), default=0)

    before = dict(total)
    for bound in sorted({*before, *more}):
        total[bound] = upto(before, bound) + upto(more, bound)


def running(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The reply of a server that runs a script, else the first reply, since all servers have the same engines."""
    return next((reply for reply in replies if elements(reply)[1] not in _NULLS), replies[0])


def texts(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The texts of the shards, one below the other."""
    joined = "\n".join(string_of(reply).decode("utf-8", "replace") for reply in replies)
    return encode.verbatim(joined, 3 if replies[0][:1] == b"=" else 2)


def memory_stats(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The sums of the integer fields; other fields, and fields that not all shards have, are those of the first shard
    that has them."""
    merged: dict[bytes, bytes] = {}
    for reply in replies:
        items = elements(reply)
        for name, value in zip(items[::2], items[1::2], strict=True):
            old = merged.get(name)
            if old is None:
                merged[name] = value
            elif old[:1] == value[:1] == b":":
                merged[name] = encode.integer(integer_of(old) + integer_of(value))
    return encode.mapping(merged, 3 if replies[0][:1] == b"%" else 2)
