"""SCAN over shards whose cursors are so large that they leave no room for the shard's number."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from proxy.resp import encode
from tests.live.speaker import Speaker
from tests.support.fixtures import Serve
from tests.support.wire import Wire

pytestmark = pytest.mark.live

CURSORS = [0, 2**63, 2**62 + 5, 7, 2**61, 2**64 - 1, 2**61 - 1]
"""In the order in which a shard names them; behind the last it is 0 again."""


def pages(shard: int) -> dict[bytes, bytes]:
    """What a shard answers, by the cursor; each page has a key or two of its own."""
    found = {}
    for at, cursor in enumerate(CURSORS):
        following = CURSORS[(at + 1) % len(CURSORS)]
        keys = encode.array(encode.bulk(f"{shard}:{at}:{number}") for number in range(1 + at % 2))
        found[b"%d" % cursor] = encode.array((encode.bulk(str(following)), keys))
    return found


@pytest.fixture
def speakers() -> Iterator[list[Speaker]]:
    """Three servers that have seven pages each."""
    with ExitStack() as stack:
        found = [stack.enter_context(Speaker()) for _ in range(3)]
        for shard, speaker in enumerate(found):
            known = pages(shard)

            def answer(args: Sequence[bytes], known: dict[bytes, bytes] = known) -> bytes | None:
                return known.get(args[1], b"-ERR invalid cursor\r\n") if args[0].upper() == b"SCAN" else None

            speaker.answer = answer
        yield found


@pytest.mark.parametrize("protocol", [2, 3])
def test_such_a_page_is_made_longer(speakers: list[Speaker], serve: Serve, protocol: int) -> None:
    proxy = serve("--static", ",".join(speaker.address for speaker in speakers))
    with Wire(proxy.address, protocol=protocol) as client:
        cursor = b"0"
        found: list[bytes] = []
        while not found or cursor != b"0":
            page = client.value("SCAN", cursor, "MATCH", "*", "COUNT", 5)
            assert isinstance(page, list)
            cursor, keys = page
            assert int(cursor) < 2**63
            found += keys
        assert sorted(found) == sorted(
            b"%d:%d:%d" % (shard, at, number) for shard in range(3) for at in range(7) for number in range(1 + at % 2)
        )
        for speaker in speakers:
            scans = [args[2:] for args in speaker.asked if args[0] == b"SCAN"]
            assert scans == [(b"MATCH", b"*", b"COUNT", b"5")] * len(CURSORS)
        assert client.ask("PING") == b"+PONG\r\n"


def test_a_shard_that_never_comes_to_an_end_is_given_up(speakers: list[Speaker], serve: Serve) -> None:
    """It takes a request's time, and no more memory than a reply may."""
    endless = encode.array((encode.bulk(str(2**63)), encode.array([encode.bulk("x" * 10_000)])))
    for speaker in speakers:
        speaker.answer = lambda args: endless if args[0].upper() == b"SCAN" else None
    proxy = serve("--static", ",".join(speaker.address for speaker in speakers), config='[limits]\nmax_reply = "1mb"\n')
    with Wire(proxy.address) as client:
        assert client.ask("SCAN", 0) == b"-ERR the shard's cursor is too large to carry the shard's index\r\n"
        assert client.ask("PING") == b"+PONG\r\n"
