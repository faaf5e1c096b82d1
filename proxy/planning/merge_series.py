"""What TS.MGET, TS.MRANGE, TS.MREVRANGE and TS.QUERYINDEX answer over all shards: the series of each, by their names.

As one server answers: each series once, in the order of the names' bytes. A cluster's servers that have been told of
each other (TIMESERIES.REFRESHCLUSTER) answer for all, the others for themselves; one cannot see which.
Source: https://redis.io/docs/latest/commands/ts.mget/. Pure: frames in, frames out.
"""

from collections.abc import Iterator, Sequence

from proxy.engine.jobs import MORE, Job
from proxy.planning.split import joining
from proxy.resp.replies import BadReply, header, some_elements

_STEP = 16
"""Series until the job may be interrupted."""
_NAMES = "ts.queryindex"


def merging_series(command: str, replies: Sequence[bytes]) -> Job[bytes]:
    """One reply of the ``replies`` to ``command``, in RESP2 or RESP3. Raises ``BadReply``."""
    kind = replies[0][:1]
    found: dict[bytes, bytes] = {}
    for reply in replies:
        other, count, at = header(reply)
        if other != kind:
            raise BadReply("aggregates of different types")
        width = 2 if kind == b"%" else 1
        for left in range(count, 0, -_STEP):
            rows, at = some_elements(reply, at, width * min(_STEP, left))
            for name, row in _named(rows, width, command == _NAMES):
                found.setdefault(name, row)
            yield MORE
    frames = [b"%b%d\r\n" % (kind, len(found)), *(found[name] for name in sorted(found))]
    yield from joining(frames)
    return b"".join(frames)


def _named(rows: Sequence[bytes], width: int, names: bool) -> Iterator[tuple[bytes, bytes]]:
    """Each series by its name: a pair of a map, a name alone, or an array that begins with it."""
    for at in range(0, len(rows), width):
        name = rows[at]
        if width == 1 and not names:
            (name,), _ = some_elements(name, header(name)[2], 1)
        yield name[name.index(b"\r\n") + 2 : -2], b"".join(rows[at : at + width])
