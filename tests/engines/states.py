"""Subjects with a state: the FIFO, the window, the room, a backend's reader; their methods in any order."""

from functools import cache
from random import Random
from typing import Any

from proxy.engine.reply_reader import STREAM_FROM
from tests.engines import material
from tests.engines.subject import Steps, Subject, outcome
from tests.engines.twins import Engine


class Paper:
    """A transport: ``taken`` is all that was written."""

    def __init__(self) -> None:
        self.taken = b""
        self.calls = 0

    def write(self, data: bytes) -> None:
        self.calls += 1
        self.taken += data

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))


@cache
def recorder(engine: Engine) -> type[Any]:
    """A sink of that engine: notes in ``log`` what it gets, and takes streams as ``streams`` says."""
    base: type[Any] = engine["engine.sink"].Sink

    class Recorder(base):  # type: ignore[misc]  # which of the two it is, is not known before
        def __init__(self, name: str, log: list[object], streams: bool = False) -> None:
            self.name = name
            self.log = log
            self.streams = streams
            self.piece = b""

        def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
            self.log.append((self.name, token, data[start:end]))

        def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
            self.log.append((self.name, "pieces", token, pieces))

        def accepts_stream(self, token: int) -> bool:
            return self.streams

        def stream(self, token: int, data: bytes, last: bool) -> None:
            self.log.append((self.name, "stream", token, data, last))

        def abort_stream(self, token: int) -> None:
            self.log.append((self.name, "abort", token))

    return Recorder


def _name(sink: object) -> str:
    return getattr(sink, "name", "DISCARD")


def _entry(entry: Any) -> tuple[object, ...]:
    return (_name(entry.sink), entry.token, entry.frame, entry.since)


# ---- the FIFO

_SIZES = (0, 1, 4, 30, 300, 600, 5_000, 16_383, 16_384, 16_385, 40_000)
_OFTEN = (40, 40, 60, 60, 20, 10, 4, 1, 1, 1, 1)


def _pushes(rng: Random) -> Steps:
    steps: Steps = []
    now = 0.0
    weights = [rng.random() ** 2 + 0.02 for _ in range(12)]
    weights[0] += 1.0
    for name in rng.choices(
        ("push", "push", "write", "answer", "pop", "expire", "drain", "peek", "entries", "rewire", "recall", "upto"),
        weights,
        k=rng.choice((3, 10, 30, 80)),
    ):
        match name:
            case "push":
                now += rng.choice((0.0, 0.0, 0.5))
                many = rng.choice((1, 1, 1, 2, 20, 40)) if rng.random() < 0.3 else 1
                size = rng.choices(_SIZES, _OFTEN)[0] if many == 1 else rng.choice((0, 3, 30))
                steps.append((name, rng.choice("abcD"), rng.randrange(100), size, rng.choice((0, 0, 2)), now, many))
            case "expire":
                steps.append((name, now - rng.choice((-0.5, 0.0, 0.5, 1.0, 2.0))))
            case "answer" | "pop":
                steps.append((name, rng.choice((1, 1, 2, 5, 30))))
            case "upto":
                steps.append((name, rng.choice((0, 1, 50, 500, 5_000, 50_000))))
            case _:
                steps.append((name,))
    return steps


def _fifo(engine: Engine, steps: Steps) -> object:
    fifo = engine["engine.inflight"].InFlight()
    discard = engine["engine.sink"].DISCARD
    log: list[object] = []
    sinks = {name: recorder(engine)(name, log) for name in "abc"} | {"D": discard}
    number = 0
    for step in steps:
        match step:
            case ("push", name, token, size, around, since, many):
                for _ in range(many):
                    number += 1
                    content = (b"%d;" % number * (size // 2 + 1))[:size]
                    data = b"x" * around + content + b"y" * around
                    fifo.push(sinks[name], token, data, around, around + size, since)
            case ("write",):
                paper = Paper()
                fifo.write_to(paper)
                log.append((paper.taken, paper.calls))
            case ("upto", most):
                paper = Paper()
                fifo.write_upto(paper, most)
                log.append((paper.taken, paper.calls))
            case ("answer", times):
                log += [outcome(lambda: fifo.answer(b"xx+OK\r\nyy", 2, 7)) for _ in range(times)]
            case ("pop", times):
                log += [outcome(lambda: _entry(fifo.pop())) for _ in range(times)]
            case ("peek",):
                log.append(outcome(lambda: _entry(fifo.peek())))
            case ("entries",):
                log.append([_entry(entry) for entry in fifo.entries()])
            case ("expire", before):
                log.append([[_entry(entry) for entry in entries] for entries in fifo.expire(before)])
                log.append(sorted(_name(owner) for owner in fifo.owners()))
                log.append([fifo.serves_others(sinks[name]) for name in "abcD"])
            case ("rewire",):
                log.append([(at, _entry(entry)) for name in "aD" for at, entry in fifo.of(sinks[name])])
                fifo.rewire({at: sinks["abcD"[at % 4]] for at in range(0, len(fifo), 1 + len(fifo) % 3)})
            case ("recall",):
                log.append([_entry(entry) for entry in fifo.recall()])
            case ("drain",):
                log.append([[_entry(entry) for entry in entries] for entries in fifo.drain()])
        log.append((len(fifo), fifo.unsent, fifo.written, fifo.unanswered, fifo.oldest(), fifo.first(), repr(fifo)))
    log.append([_entry(entry) for entry in fifo.entries()])
    return log


# ---- the window

_REPLIES = (0, 1, 5, 60, 300, 4_095, 4_096, 4_097, 9_000, 70_000)
_REPLIES_OFTEN = (10, 40, 60, 60, 30, 2, 3, 3, 3, 1)


def _turns(rng: Random) -> Steps:
    """Numbers stand for requests: what they mean is known only when it is seen which are waiting."""
    steps: Steps = []
    weights = [rng.random() ** 2 + 0.02 for _ in range(13)]
    weights[0] += 0.7
    weights[1] += 0.7
    names = (
        "reserve", "deliver", "answer", "stream", "write", "abort", "close", "direct", "early", "slow", "push",
        "gathers", "pieces",
    )  # fmt: skip
    weights[5] *= 0.1
    weights[6] *= 0.1
    for name in rng.choices(names, weights, k=rng.choice((3, 10, 30, 90))):
        match name:
            case "reserve":
                steps.append((name, rng.choice((1, 1, 2, 3, 20, 40))))
            case "pieces":
                steps.append((name, rng.random(), [rng.choice(_REPLIES) for _ in range(rng.randrange(1, 5))]))
            case "deliver" | "early":
                size = rng.choices(_REPLIES, _REPLIES_OFTEN)[0]
                steps.append((name, rng.random(), size, rng.choice((0, 0, 3))))
            case "answer" | "stream" | "push":
                steps.append((name, rng.choices(_REPLIES, _REPLIES_OFTEN)[0], rng.random() < 0.4))
            case "direct" | "slow" | "gathers":
                steps.append((name, rng.random() < 0.6))
            case _:
                steps.append((name,))
    return [("limit", rng.choice((0, 5_000, 20_000))), *steps]


def _window(engine: Engine, steps: Steps) -> object:
    log: list[object] = []
    limit = next((step[1] for step in steps if step[0] == "limit"), 0)
    window = engine["engine.window"].ReplyWindow(lambda: log.append("wake"), limit)
    waiting: list[int] = []
    streaming: int | None = None

    def direct(data: bytes) -> None:
        log.append(("direct", data))

    for number, step in enumerate(steps):
        match step:
            case ("reserve", count):
                waiting += [window.reserve() for _ in range(count)]
            case ("deliver" | "early" as name, place, size, around) if waiting:
                index = 0 if name == "deliver" and place < 0.6 else int(place * len(waiting))
                if waiting[index] != streaming:
                    token = waiting.pop(index)
                    content = (b"%d," % number * (size // 2 + 1))[:size]
                    window.deliver(token, b"x" * around + content + b"y" * around, around, around + size)
            case ("pieces", place, sizes) if waiting:
                index = 0 if place < 0.3 else int(place * len(waiting))
                if waiting[index] != streaming:
                    window.deliver_pieces(
                        waiting.pop(index), [(b"%d/" % number * (size // 2 + 1))[:size] for size in sizes]
                    )
            case ("answer", size, _):
                window.answer((b"%d!" % number * (size // 2 + 1))[:size])
            case ("push", size, _):
                window.push((b"%d?" % number * (size // 2 + 1))[:size])
            case ("stream", size, last) if waiting:
                log.append([window.accepts_stream(token) for token in waiting[:3]])
                if window.accepts_stream(waiting[0]):
                    streaming = None if last else waiting[0]
                    window.stream(waiting[0], (b"%d~" % number * (size // 2 + 1))[:size], last)
                    if last:
                        waiting.pop(0)
            case ("abort",) if streaming is not None:
                window.abort_stream(streaming)
                waiting.remove(streaming)
                streaming = None
            case ("write",):
                paper = Paper()
                log.append(window.write_to(paper))
                log.append((paper.taken, paper.calls))
            case ("close",):
                window.close()
            case ("slow", yes):
                window.set_slow(yes)
                log.append(window.holds_back(lambda number=number: log.append(("resume", number))))
            case ("gathers", yes):
                window.gathers = yes
            case ("direct", yes):
                window.direct = direct if yes else None
                log.append(window.direct is direct)
        log.append((window.head, window.issued, window.pending, window.parked_bytes, window.overflowing, window.idle))
        log.append((window.written, window.broken, window.direct is None, repr(window)))
    return log


# ---- the room


def _fills(rng: Random) -> Steps:
    size = rng.choice((0, 1, 2, 10, 100, 3_000))
    begun = rng.randrange(size + 1) if rng.random() < 0.97 else size + 1
    steps: Steps = [("room", size, begun)]
    for _ in range(rng.randrange(8)):
        steps.append(("fill", rng.choice((0, 1, 3, rng.randrange(size + 1))), rng.choice((0, 0, 0, 0, -1, -9, 10_000))))
    return [*steps, ("all",), ("take",), ("take",)] if rng.random() < 0.8 else [*steps, ("take",), ("all",)]


def _room(engine: Engine, steps: Steps) -> object:
    _, size, begun = next((step for step in steps if step[0] == "room"), ("", 9, 3))
    room = engine["engine.receive_buffer"].Room(size, bytes(range(256))[:1] * begun)
    log: list[object] = []
    for number, step in enumerate(steps, 1):
        match step:
            case ("fill", count, wrong):
                with memoryview(room.buffer()) as view:
                    fits = min(count, len(view))
                    view[:fits] = bytes([number]) * fits
                log.append(outcome(lambda fits=fits, wrong=wrong: room.filled(fits + wrong)))  # type: ignore[misc]
            case ("all",):
                left = room.left
                with memoryview(room.buffer()) as view:
                    view[:] = b"!" * len(view)
                log.append(outcome(lambda left=left: room.filled(left)))  # type: ignore[misc]
            case ("take",):
                log.append(outcome(room.take))
        with memoryview(room.buffer()) as view:
            log.append((room.left, len(view), view.readonly))
    return log


# ---- the reader


def _conversation(rng: Random) -> Steps:
    steps: Steps = [("most", rng.choice((50_000, 100_000, 10**9)))]
    now = 0.0
    for _ in range(rng.choice((1, 2, 4))):
        count = rng.choice((1, 2, 5, 12))
        for _ in range(count):
            now += rng.choice((0.0, 0.0, 0.001, 0.2))
            steps.append(("send", rng.choice("abSSD"), rng.randrange(50), now))
        if rng.random() < 0.9:
            steps.append(("write",))
        data = b""
        for _ in range(count + rng.choice((0, 0, 0, -1, 1))):
            chance = rng.random()
            if chance < 0.9:
                data += material.reply(rng, 2)
            elif chance < 0.94:
                large = material.bulk(b"v" * rng.choice((65_530, 70_000, 140_000)))
                some = [material.reply(rng, 2) for _ in range(rng.randrange(3))]
                data += rng.choice((large, b"*%d\r\n%b%b" % (1 + len(some), large, b"".join(some))))
            elif chance < 0.97:
                data += b"-ERR no\r\n"
            else:
                data += material.broken_reply(rng)
        cut = material.pieces(rng, data)
        if rng.random() < 0.1:
            # So much missing that it is just worth streaming, or just not.
            large = material.bulk(b"v" * 65_700)
            missing = STREAM_FROM + rng.choice((-1, 0, 1))
            cut = [data + large[:-missing], *material.pieces(rng, large[-missing:])]
        steps += cut
        if len(data) < 1000:
            for _ in range(rng.choice((0, 0, 1, 2))):
                what = rng.choice(
                    (("expire", now), ("expire", now - 0.1), ("streams", rng.random() < 0.5), ("later", 0.3))
                )
                steps.insert(len(steps) - rng.randrange(len(cut) + 1), what)
        if rng.random() < 0.1:
            steps += [("reset",), ("drain",)]
    return steps


def _reader(engine: Engine, steps: Steps) -> object:
    log: list[object] = []
    fifo = engine["engine.inflight"].InFlight()
    counters = engine["metrics"].Counters()
    sinks = {name: recorder(engine)(name, log, name == "S") for name in "abS"} | {"D": engine["engine.sink"].DISCARD}

    def on_error(error: bytes) -> bool:
        if len(error) % 3 == 0:
            log.append(("refused", error, _entry(fifo.pop())))
            return True
        log.append(("error", error, _entry(fifo.peek())))
        return False

    def on_large(entry: Any) -> bytes:
        log.append(("large", _entry(entry)))
        return b"-ERR large\r\n"

    most = next((step[1] for step in steps if step[0] == "most"), 10**9)
    reader = engine["engine.reply_reader"].ReplyReader(fifo, counters, on_error, None, most, on_large)
    now = 0.0
    for step in steps:
        match step:
            case bytes():
                failed = outcome(lambda step=step, now=now: reader.feed(step, now))  # type: ignore[misc]
                log.append(failed)
                if failed is not None:
                    break
            case ("send", name, token, since):
                now = since
                frame = b"<%d>" % token
                fifo.push(sinks[name], token, frame, 0, len(frame), since)
            case ("write",):
                fifo.write_to(Paper())
            case ("later", seconds):
                now += seconds
            case ("expire", before):
                log.append([[_entry(entry) for entry in entries] for entries in fifo.expire(before)])
            case ("streams", yes):
                sinks["S"].streams = yes
            case ("reset",):
                reader.reset()
            case ("drain",):
                log.append([[_entry(entry) for entry in entries] for entries in fifo.drain()])
        log.append((len(fifo), fifo.written, reader.streaming, reader.taken))
    return [log, counters.latency_buckets(), counters.latency_sum]


SUBJECTS = (
    Subject("fifo", _pushes, _fifo, 3_500),
    Subject("window", _turns, _window, 6_000),
    Subject("room", _fills, _room, 6_000),
    Subject("reader", _conversation, _reader, 3_000),
)
