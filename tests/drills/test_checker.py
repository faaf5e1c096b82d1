"""The load sees what it is there to see: against a server that errs on purpose, and against one that does not."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

import hiredis
import pytest

from proxy.devservers.servers import ServerBinary, start_many
from tests.drills.load import Options, run
from tests.drills.mixture import SCRIPTS
from tests.drills.model import Key, Part, Value, Verdict, apply
from tests.drills.report import Report

pytestmark = pytest.mark.drill

Mischief = Callable[[int, "Server", list[bytes]], bytes | None]
"""May answer the so-many-th command (from 1) otherwise than right; None: as it should be."""


class Server:
    """A server of the load's commands, in memory."""

    def __init__(self, mischief: Mischief) -> None:
        self.data: dict[bytes, Value] = {}
        self.chunk: list[list[bytes]] = []  # what came in one read, and how much of it is still to be answered
        self.left = 0
        self._mischief = mischief
        self._commands = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(1 << 16):
            parser.feed(data)
            self.chunk = list(iter(parser.gets, False))
            for place, words in enumerate(self.chunk, start=1):
                self.left = len(self.chunk) - place
                number = next(self._commands)
                said = self._mischief(number, self, words)
                if said == b"close":
                    writer.close()
                    return
                writer.write(self.answer(words) if said is None else said)
        writer.close()

    def answer(self, words: Sequence[bytes]) -> bytes:
        """Carries a command out."""
        name, keys = words[0].decode(), words[1:]
        match name:
            case "EVAL":
                return self._script(words)
            case "MGET":
                return b"*%d\r\n" % len(keys) + b"".join(self._one("GET", key) for key in keys)
            case "MSET":
                for key, value in zip(keys[::2], keys[1::2], strict=True):
                    self._one("SET", key, value)
                return b"+OK\r\n"
            case "DEL" | "UNLINK" | "EXISTS":
                return b":%d\r\n" % sum(int(self._one(name, key)[1:]) for key in keys)
            case "LRANGE":
                return self._one(name, keys[0])
        return self._one(name, *keys)

    def _script(self, words: Sequence[bytes]) -> bytes:
        """What the command does that the script stands for."""
        (name,) = (name for name, text in SCRIPTS.items() if text == words[1])
        count = int(words[2])
        keys, arguments = words[3 : 3 + count], words[3 + count :]
        return self.answer([name.encode(), *itertools.chain(*zip(keys, arguments, strict=True))])

    def _one(self, name: str, key: bytes, *arguments: bytes) -> bytes:
        self.data[key], said = apply(name, self.data.get(key), arguments)
        return _encode(said)


def _encode(said: object) -> bytes:
    match said:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % said
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(said), said)
        case list():
            flat = [item for element in said for item in (element if isinstance(element, tuple) else (element,))]
            return b"*%d\r\n" % len(flat) + b"".join(map(_encode, flat))
    raise AssertionError(said)


async def load(mischief: Mischief, *, stale: bool = False) -> Report:
    """What a short load says of a server."""
    server = await asyncio.start_server(Server(mischief).serve, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return await asyncio.wait_for(run(Options(address, 1.0, clients=4, stale=stale, settle=2.0)), 30)


def once(name: bytes, act: Callable[[Server, list[bytes]], bytes | None]) -> Mischief:
    """Does it to the first command of that name after the 1000th."""
    done: list[int] = []

    def mischief(number: int, server: Server, words: list[bytes]) -> bytes | None:
        if number < 1000 or done or words[0] != name or b":shared:" in words[1]:
            return None
        done.append(number)
        return act(server, words)

    return mischief


async def test_a_right_server_is_right() -> None:
    report = await load(lambda number, server, words: None)
    assert report.clean, report
    assert report.rate > 1000


@pytest.mark.parametrize("stale", [False, True])
async def test_swapped_replies_are_wrong(stale: bool) -> None:
    held: list[bytes] = []

    def swap(number: int, server: Server, words: list[bytes]) -> bytes | None:
        """Sometimes a reply comes after that of the next command."""
        if held:
            return server.answer(words) + held.pop()
        if number > 1000 and number % 100 == 0 and server.left:
            held.append(server.answer(words))
            return b""
        return None

    report = await load(swap, stale=stale)
    assert report.wrong, report


async def test_an_error_is_noted_with_its_words() -> None:
    report = await load(once(b"SET", lambda server, words: b"-CLUSTERDOWN The cluster is down\r\n"))
    assert [note.words for note in report.errors] == ["CLUSTERDOWN The cluster is down [SET]"]
    assert report.kinds() == {"CLUSTERDOWN": 1}
    assert report.true


async def test_writes_that_are_answered_and_not_done_are_lost() -> None:
    def forget(number: int, server: Server, words: list[bytes]) -> bytes | None:
        return b"+OK\r\n" if words[0] == b"SET" and number > 1000 and number % 10 == 0 else None

    report = await load(forget)
    assert report.lost, report


async def test_what_is_gone_at_the_end_is_lost() -> None:
    gone: set[bytes] = set()

    def forget(number: int, server: Server, words: list[bytes]) -> None:
        if words[0] == b"HGETALL" and server.data.pop(words[1], None):  # the load itself has no use for it
            gone.add(words[1])

    report = await load(forget)
    assert len(report.lost) == len(gone) > 4, report
    assert not report.wrong


async def test_a_write_done_twice_is_wrong() -> None:
    def twice(server: Server, words: list[bytes]) -> bytes:
        server.answer(words)
        return server.answer(words)

    report = await load(once(b"INCR", twice))
    assert len(report.wrong) == 1, report


@pytest.mark.parametrize("done", [False, True])
async def test_a_write_of_unknown_outcome_may_be_either(done: bool) -> None:
    def uncertain(server: Server, words: list[bytes]) -> bytes:
        if done:
            server.answer(words)
        return b"-UNCERTAIN it may have run\r\n"

    def mischief(number: int, server: Server, words: list[bytes]) -> bytes | None:
        return uncertain(server, words) if number % 97 == 0 and number > 300 else None

    report = await load(mischief)
    assert report.kinds().keys() == {"UNCERTAIN"}
    assert report.true, report


async def test_an_error_that_did_run_is_seen() -> None:
    def lie(server: Server, words: list[bytes]) -> bytes:
        server.answer(words)
        return b"-SHARDDOWN nothing was executed\r\n"

    report = await load(once(b"INCR", lie))
    assert report.wrong, report


async def test_a_connection_that_ends_is_told_and_made_again() -> None:
    report = await load(once(b"GET", lambda server, words: b"close"))
    assert len(report.broken) == 1
    assert report.true, report
    assert report.rate > 300, "it went on"


async def test_an_earlier_value_is_wrong_unless_reads_may_be_stale() -> None:
    def old(number: int, server: Server, words: list[bytes]) -> bytes | None:
        if words[0] == b"SET" and number > 300:
            earlier.setdefault(words[1], server.data.get(words[1]))
        if words[0] == b"GET" and words[1] in earlier and 500 < number < 1500:
            return _encode(earlier[words[1]])
        return None

    earlier: dict[bytes, Value] = {}
    report = await load(old, stale=True)
    assert report.old > 5
    assert report.true, report
    earlier.clear()
    report = await load(old)
    assert report.lost, report


async def test_a_value_of_the_same_pipeline_is_early_where_replicas_are_read() -> None:
    def soon(number: int, server: Server, words: list[bytes]) -> bytes | None:
        """A GET that a SET of the same key follows is answered as if it came behind it."""
        if words[0] == b"GET" and number > 500:
            for later in server.chunk[len(server.chunk) - server.left :]:
                if later[:2] == [b"SET", words[1]]:
                    return _encode(later[2])
        return None

    report = await load(soon, stale=True)
    assert report.clean, report
    report = await load(soon)
    assert report.wrong, report


@pytest.mark.live
async def test_a_real_server_is_right(binary: ServerBinary) -> None:
    with start_many(1, 0, binary=binary) as shards:
        report = await run(Options(shards.primaries[0].address, 1.0, rate=8000))
    assert report.clean, report
    assert report.rate > 1000


class TestKey:
    def test_unknown_outcomes_are_narrowed_by_the_next_reply(self) -> None:
        key = Key(b"k", frozenset({b"1"}))
        key.uncertain(Part("INCR", key))
        assert key.possible == {b"1", b"2"}
        assert key.check(Part("INCR", key), 3, 1.0) is Verdict.RIGHT
        assert key.possible == {b"3"}

    def test_what_was_lost_is_told_from_when(self) -> None:
        key = Key(b"k")
        for when, value in enumerate((b"a", b"b", b"c"), start=1):
            assert key.check(Part("SET", key, (value,)), b"OK", float(when)) is Verdict.RIGHT
        assert key.check(Part("GET", key), b"a", 4.0) is Verdict.LOST
        assert key.undone_from == 2.0
        assert key.check(Part("GET", key), b"a", 5.0) is Verdict.RIGHT
        assert key.check(Part("GET", key), b"c", 6.0) is Verdict.WRONG
        assert key.check(Part("GET", key), b"c", 7.0) is Verdict.RIGHT, "told once"

    def test_a_sum_over_keys_of_unknown_value_has_bounds(self) -> None:
        key = Key(b"k", frozenset({None, b"x"}))
        assert key.sums(Part("DEL", key)) == (0, 1)
        key.carried_out(Part("DEL", key), 1.0)
        assert key.sums(Part("EXISTS", key)) == (0, 0)
        assert key.sums(Part("EXISTS", key), past=True) == (0, 1)
