"""Merges the replies to the parts of a Scatter into one reply: one named function for each way.

The ways are Redis's response policies (https://redis.io/docs/latest/develop/reference/command-tips/), and those that
the table of overrides names for commands without a policy. The functions take whole reply frames, in the order of the
parts, and return a frame in the protocol of the replies.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from proxy import errors, server_errors
from proxy.engine.jobs import MORE, Job, at_once
from proxy.planning import merge_info, merge_stats
from proxy.planning.channels import Kind
from proxy.planning.merge_context import Audience, Context, Merger, Merging
from proxy.planning.merge_keys import merge_by_key, merging_by_key, merging_pieces_by_key, merging_series
from proxy.planning.scan_cursor import page
from proxy.planning.scatter import Scatter
from proxy.planning.split import joining
from proxy.resp import encode
from proxy.resp.replies import BadReply, element_steps, header, integer_of, some_elements, string_of

_ERROR = ord("-")
_STEP = 16
_MANY = 200
"""The number of names after which a job may be interrupted."""
LONG = 64 * 1024
"""Replies of so many bytes in total may take long to merge."""
_SLOWLOG_DEFAULT = 10
_DIGITS = 20
_CURSOR_LIMIT = 2**63 - 1
_UNCERTAIN = b"-UNCERTAIN"
_JOINED = (b"*", b"~", b"%")
"""The types of aggregates whose elements can be concatenated."""
_TOLERANT = frozenset({"one_ok", "info", "config_get"})
"""The ways that return a reply even if a part failed."""
_STATISTICS = frozenset(
    {"info", "config_get", "latency_latest", "latency_history", "latency_histogram", "memory_stats", "running", "text"}
)
"""The ways that merge what servers tell about themselves."""
STATISTICS_MOST = 1024 * 1024
"""The most bytes of a reply that tells of a server: twice the INFO of a server with 10,000 databases. A longer one is
not merged."""


def merge(plan: Scatter, replies: list[bytes], context: Context) -> bytes:
    """The reply to ``plan``'s command from the ``replies`` to its parts.

    If a part failed, the reply is that part's error if all parts failed or the command only reads, and else
    ``UNCERTAIN partial``, since other parts have run.
    """
    way = plan.way
    failed = [reply for reply in replies if reply[0] == _ERROR]
    if failed and way.merge not in _TOLERANT:
        return _failure(failed, way.changes and len(failed) < len(replies))
    try:
        return MERGERS[way.merge](plan, replies, context)
    except (BadReply, ValueError, IndexError):
        return encode.error(errors.NO_MERGE)


def merging_pieces(plan: Scatter, replies: list[Any], context: Context) -> Job[list[bytes]]:
    """The job of ``merging`` for replies some of which are lists of pieces; the result is pieces too, so that long
    replies are not copied."""
    pieces = [reply if isinstance(reply, list) else [reply] for reply in replies]
    replies.clear()
    join = PIECEWISE.get(plan.way.merge)
    if plan.way.merge not in _TOLERANT and any(reply[0][0] == _ERROR for reply in pieces):
        # Only the error of a failed part is read, which is its first piece.
        return [merge(plan, [reply[0] for reply in pieces], context)]
    if join is None:
        if plan.way.merge in _STATISTICS and any(sum(map(len, reply)) > STATISTICS_MOST for reply in pieces):
            return [encode.error(errors.NO_MERGE)]
        whole = [b"".join(reply) for reply in pieces]
        pieces.clear()
        reply = (yield from merging(plan, whole, context)) if is_long(plan) else merge(plan, whole, context)
        return [reply]
    try:
        return (yield from join(plan, pieces))
    except (BadReply, ValueError, IndexError):
        return [encode.error(errors.NO_MERGE)]


def _failure(failed: Sequence[bytes], partial: bool) -> bytes:
    worst = next((reply for reply in failed if reply.startswith(_UNCERTAIN)), failed[0])
    return encode.error(server_errors.uncertain_partial(errors.text(worst[1:-2]))) if partial else worst


def _sum(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The policy agg_sum."""
    return encode.integer(sum(map(integer_of, replies)))


def _min(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The policy agg_min."""
    return encode.integer(min(map(integer_of, replies)))


def _max(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The policy agg_max."""
    return encode.integer(max(map(integer_of, replies)))


def _all_ok(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The policy all_succeeded: no part failed, so any part's reply stands for all."""
    return replies[0]


def _one_ok(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The policy one_succeeded: the first successful reply, else the most informative error."""
    succeeded = [reply for reply in replies if reply[0] != _ERROR]
    if succeeded:
        return succeeded[0]
    return next((reply for reply in replies if not reply.startswith(b"-NOTBUSY")), replies[0])


def _combining(combine: Callable[[Sequence[int]], int]) -> Merging:
    def merging(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
        if replies[0][:1] == b":":
            return encode.integer(combine(list(map(integer_of, replies))))
        count = header(replies[0])[1]
        if any(header(reply)[1] != count for reply in replies):
            raise BadReply("arrays of different lengths")
        places = [header(reply)[2] for reply in replies]
        frames = [b"*%d\r\n" % count]
        for begin in range(0, count, _STEP):
            columns = []
            for index, reply in enumerate(replies):
                column, places[index] = some_elements(reply, places[index], min(_STEP, count - begin))
                columns.append(map(integer_of, column))
            frames.append(b"".join(encode.integer(combine(row)) for row in zip(*columns, strict=True)))
            yield MORE
        return b"".join(frames)

    return merging


_all = _combining(lambda values: int(all(values)))
"""The policy agg_logical_and, for numbers or arrays of numbers."""
_any = _combining(lambda values: int(any(values)))
"""The policy agg_logical_or, for numbers or arrays of numbers."""


def _concat(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """Without a policy and keys: the elements of all replies, concatenated."""
    headers = [header(reply) for reply in replies]
    kind = headers[0][0]
    if kind not in _JOINED or any(other != kind for other, _, _ in headers):
        raise BadReply("aggregates of different types")
    count = sum(number for _, number, _ in headers)
    bodies = (reply[at:] for reply, (_, _, at) in zip(replies, headers, strict=True))
    return b"%b%d\r\n%b" % (kind, count, b"".join(bodies))


def _concat_pieces(plan: Scatter, replies: list[list[bytes]]) -> Job[list[bytes]]:
    """The same as ``_concat``, for replies in pieces."""
    kind, count, merged = b"", 0, [b""]
    for reply in replies:
        other, number, at = header(reply[0])
        if other not in _JOINED or (kind and other != kind):
            raise BadReply("aggregates of different types")
        kind, count = other, count + number
        reply[0] = reply[0][at:]
        merged += reply
        yield MORE
    merged[0] = b"%b%d\r\n" % (kind, count)
    return merged


def _by_key_pieces(plan: Scatter, replies: list[list[bytes]]) -> Job[list[bytes]]:
    """The same as ``_by_key``, for replies in pieces."""
    return merging_pieces_by_key(plan.parts, replies)


def _by_key(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """Without a policy, with keys (MGET): the elements, each at the position of its key."""
    return merge_by_key(plan.parts, replies)


def _scan(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """The shard's cursor with the shard's index in the low bits (proxy.planning.scan_cursor); when a shard is finished,
    the cursor names the next shard."""
    cursor_frame, keys = page(replies[0])
    inner = int(string_of(cursor_frame))
    shift, own, following = plan.options
    cursor = inner << int(shift) | int(own) if inner else int(following or 0)
    if cursor > _CURSOR_LIMIT:
        return encode.error("ERR the shard's cursor is too large to carry the shard's index")
    return encode.array((encode.bulk(str(cursor)), keys))


def _randomkey(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    """One of the keys; null if no shard has a key."""
    found = [reply for reply in replies if reply not in (b"$-1\r\n", b"_\r\n")]
    return random.choice(found) if found else replies[0]


def _randomkey_pieces(plan: Scatter, replies: list[list[bytes]]) -> Job[list[bytes]]:
    """The same as ``_randomkey``, for replies in pieces."""
    found = [reply for reply in replies if reply[0] not in (b"$-1\r\n", b"_\r\n")]
    yield MORE
    return random.choice(found)


def _sorting(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The newest entries of all servers, as many as were asked for."""
    rows: list[tuple[int, bytes]] = []
    for row in (row for reply in replies for some in element_steps(reply, _STEP) for row in some):
        rows.append((integer_of(some_elements(row, header(row)[2], 2)[0][1]), row))
        yield MORE
    rows.sort(key=itemgetter(0), reverse=True)
    rows = rows[: _asked(plan.options)]
    yield MORE
    frames = [b"*%d\r\n" % len(rows)]
    for at in range(0, len(rows), _MANY):
        frames += [row for _, row in rows[at : at + _MANY]]
        yield MORE
    yield from joining(frames)
    return b"".join(frames)


def _asked(options: Sequence[bytes]) -> int | None:
    """How many entries ``GET [count]`` asks for; None for all (-1). Servers refuse a count that is not a number."""
    if len(options) < 2:
        return _SLOWLOG_DEFAULT
    return int(options[1]) if options[1].isdigit() and len(options[1]) < _DIGITS else None


def _joining_channels(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The channels of all shards, each once."""
    found: dict[bytes, None] = {}
    for reply in replies:
        _, count, at = header(reply)
        for left in range(count, 0, -_MANY):
            channels, at = some_elements(reply, at, min(_MANY, left))
            found.update(dict.fromkeys(channels))
            yield MORE
    frames = [b"*%d\r\n" % len(found), *found]
    yield from joining(frames)
    return b"".join(frames)


def _counting(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The name and the number of subscribers of each channel that was asked for."""
    kind = Kind.SHARD if plan.options[0].lower() == b"shardnumsub" else Kind.CHANNEL
    names = plan.options[1:]
    places = [header(reply)[2] for reply in replies]
    audience = _audience(context)
    frames = [b"*%d\r\n" % (2 * len(names))]
    for begin in range(0, len(names), _STEP):
        some = names[begin : begin + _STEP]
        columns = []
        for index, reply in enumerate(replies):
            column, places[index] = some_elements(reply, places[index], 2 * len(some))
            columns.append(column)
        for at, name in enumerate(some):
            counts = [integer_of(column[2 * at + 1]) for column in columns]
            frames += [columns[0][2 * at], encode.integer(audience.heard(kind, name, counts))]
        yield MORE
    yield from joining(frames)
    return b"".join(frames)


def _pubsub_numpat(plan: Scatter, replies: Sequence[bytes], context: Context) -> bytes:
    return encode.integer(_audience(context).patterns(list(map(integer_of, replies))))


def _audience(context: Context) -> Audience:
    if context.audience is None:
        raise ValueError("the context has no audience")
    return context.audience()


def _merging_series(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The time series of all shards, each once."""
    return merging_series(plan.way.name, replies)


def _merging_by_key(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    return merging_by_key(plan.parts, replies)


_SLICED: Mapping[str, Merging] = {
    "logical_and": _all,
    "logical_or": _any,
    "mget": _merging_by_key,
    "pubsub_channels": _joining_channels,
    "pubsub_numsub": _counting,
    "series": _merging_series,
    "slowlog": _sorting,
    "info": merge_info.info,
    "config_get": merge_info.config_get,
    "latency_latest": merge_stats.latency_latest,
    "latency_history": merge_stats.latency_history,
    "latency_histogram": merge_stats.latency_histogram,
    "memory_stats": merge_stats.memory_stats,
}
"""The ways that merge element by element, possibly very many of them."""


def is_long(plan: Scatter) -> bool:
    """Whether long replies to ``plan`` are merged by a job (``merging``)."""
    return plan.way.merge in _SLICED


def merging(plan: Scatter, replies: list[bytes], context: Context) -> Job[bytes]:
    """The job that does the work of ``merge`` for long replies."""
    if any(reply[0] == _ERROR for reply in replies) and plan.way.merge not in _TOLERANT:
        return merge(plan, replies, context)
    try:
        found = yield from _SLICED[plan.way.merge](plan, replies, context)
    except (BadReply, ValueError, IndexError):
        return encode.error(errors.NO_MERGE)
    return found


def _whole(job: Merging) -> Merger:
    """A merger that runs ``job`` to its end at once."""
    return lambda plan, replies, context: at_once(job(plan, replies, context))


MERGERS: Mapping[str, Merger] = {
    **{name: _whole(job) for name, job in _SLICED.items()},
    "sum": _sum,
    "min": _min,
    "max": _max,
    "all_ok": _all_ok,
    "one_ok": _one_ok,
    "concat": _concat,
    "mget": _by_key,
    "scan": _scan,
    "randomkey": _randomkey,
    "running": merge_stats.running,
    "text": merge_stats.texts,
    "pubsub_numpat": _pubsub_numpat,
}

PIECEWISE: Mapping[str, Callable[[Scatter, list[list[bytes]]], Job[list[bytes]]]] = {
    "concat": _concat_pieces,
    "mget": _by_key_pieces,
    "randomkey": _randomkey_pieces,
}
"""The mergers of replies in pieces, by way."""
