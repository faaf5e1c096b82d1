"""Subjects that take bytes: framers, what finds ends and elements, slots, and the cut and merge of many keys."""

from itertools import pairwise
from random import Random
from typing import Any

from proxy.engine.jobs import at_once
from tests.engines import material
from tests.engines.subject import Steps, Subject, outcome
from tests.engines.twins import Engine

# ---- requests


def _requests(rng: Random) -> Steps:
    steps: Steps = []
    if rng.random() < 0.2:
        steps.append(("limits", rng.choice((3, 10)), rng.choice((8, 100)), rng.choice((16, 64)), rng.choice((50, 400))))
    if rng.random() < 0.2:
        steps.append(("authenticated", False))
    steps += material.pieces(rng, material.stream(rng, material.request))
    if rng.random() < 0.05:
        steps.insert(rng.randrange(len(steps)), ("reset",))
    if rng.random() < 0.05:
        steps.insert(rng.randrange(len(steps)), ("authenticated", rng.random() < 0.5))
    return steps


def _frame_requests(engine: Engine, steps: Steps) -> object:
    """What a client's connection does: frame in the piece, keep what is cut, add to it; every answer of the framer."""
    requests, limits = engine["resp.requests"], engine["resp.limits"]
    first = next((step for step in steps if step[0] == "limits"), None)
    bounds = limits.RequestLimits() if first is None else limits.RequestLimits(*first[1:])
    framer = requests.RequestFramer(bounds, limits.UNAUTHENTICATED)
    log: list[object] = []
    kept: bytearray | None = None
    for step in steps:
        if isinstance(step, tuple):
            if step[0] == "authenticated":
                framer.set_authenticated(step[1])
            elif step[0] == "reset":
                framer.reset()
                kept = None
            continue
        data: bytes | bytearray = step
        if kept is not None:
            kept += step
            if len(kept) < framer.need:
                continue
            data = kept
        pos = 0
        try:
            while pos < len(data):
                end = framer.frame(data, pos)
                log.append((end, framer.inline, framer.empty, framer.ragged, framer.need, framer.last))
                if end < 0:
                    break
                frame = bytes(data[pos:end])
                if not framer.empty:
                    kind = "inline" if framer.inline else "ragged" if framer.ragged else "request"
                    log.append(outcome(lambda frame=frame, kind=kind: getattr(requests, f"split_{kind}")(frame)))  # type: ignore[misc]
                pos = end
        except requests.ProtocolError as error:
            log.append(str(error))
            return log
        kept = bytearray(data[pos:]) if pos < len(data) else None
    return log


# ---- replies


def _replies(rng: Random) -> Steps:
    def one(rng: Random) -> bytes:
        return material.reply(rng) if rng.random() < 0.93 else material.broken_reply(rng)

    return list(material.pieces(rng, material.stream(rng, one, 8)))


def _frame_replies(engine: Engine, steps: Steps) -> object:
    """Every answer of the framer and of the functions beside it, for all replies in the pieces."""
    replies = engine["resp.replies"]
    framer = replies.ReplyFramer()
    log: list[object] = []
    kept = b""
    for step in steps:
        kept += step
        if len(kept) < framer.need:
            continue
        pos = 0
        while pos < len(kept):
            log.append(replies.short_end(kept, pos))
            try:
                end = framer.frame(bytearray(kept) if len(kept) % 2 else kept, pos)
            except replies.BadReply as error:
                log.append(str(error))
                return log
            log.append((end, framer.need))
            if end < 0:
                break
            frame = kept[pos:end]
            log.append(outcome(lambda frame=frame: replies.elements(frame)))  # type: ignore[misc]
            log.append(outcome(lambda frame=frame: replies.header(frame)))  # type: ignore[misc]
            pos = end
        kept = kept[pos:]
    return log


# ---- pieces of anything


def _anything(rng: Random) -> Steps:
    chance = rng.random()
    if chance < 0.4:
        return [material.noise(rng)]
    if chance < 0.6:
        number = rng.randrange(10 ** rng.randrange(1, 7))
        return [
            rng.choice((b"$", b"*")),
            b"%d" % number,
            b"\r\n",
            b"x" * rng.choice((0, 5, 50, 500, 1200)),
            b"\r\n",
            b"+",
        ]
    if chance < 0.8:
        return [material.mutated(rng, material.reply(rng)), material.noise(rng, 4)]
    return [material.mutated(rng, material.bulk(material.word(rng)) + material.bulk(material.word(rng)))]


def _offsets(engine: Engine, steps: Steps) -> object:
    """What finds ends, at the first offsets of any bytes, and what takes whole frames, given any bytes."""
    replies, multikey = engine["resp.replies"], engine["planning.split"]
    data = b"".join(steps)
    log: list[object] = []
    for at in range(min(len(data), 4)):
        log.append(replies.short_end(data, at))
        log += [multikey.skip_bulks(data, at, count) for count in (0, 1, 2)]
        log += [multikey.count_of(data, at, end) for end in range(at, min(at + 8, len(data)))]
    log.append(outcome(lambda: replies.elements(data)))
    log.append(outcome(lambda: replies.header(data)))
    return log


# ---- slots


def _keys(rng: Random) -> Steps:
    if rng.random() < 0.5:
        return [b"".join(rng.choices((b"{", b"}", b"a", b"b", b"\xff", b"\0"), k=rng.randrange(12))) for _ in range(3)]
    return [rng.randbytes(rng.randrange(40)), material.word(rng), rng.randbytes(3)]


def _slots(engine: Engine, steps: Steps) -> object:
    slots = engine["sharding.slots"]
    data = b"".join(steps)
    log: list[object] = []
    at = 0
    for key in steps:
        log += [slots.key_slot(key), slots.span_slot(data, at, at + len(key)), slots.hashed_part(key)]
        log += [slots.whole_slot(data, at, at + len(key))]
        at += len(key)
    return [*log, slots.key_slot(data), slots.SLOTS]


def _rules(engine: Engine) -> Any:
    rule = engine["sharding.colocation"].Rule
    return engine["sharding.colocation"].Colocation(
        [
            rule(b"a", 7),
            rule(b"ab", 0, 2, b"b"),
            rule(b"\xff", 0, 1, b"a"),
            rule(b"k", 9),
            rule(b"{", 0, 1, b"b", False),
        ]
    )


def _colocated(engine: Engine, steps: Steps) -> object:
    rules = _rules(engine)
    data = b"".join(steps)
    at = 0
    log: list[object] = []
    for key in steps:
        log += [rules.slot(key), rules.span_slot(data, at, at + len(key))]
        at += len(key)
    return log


# ---- many keys

_SHARDS = 4
_SLOT_SHARD = tuple(slot * 7 % _SHARDS for slot in range(16384))


def _many(rng: Random) -> Steps:
    words = [material.word(rng) for _ in range(rng.choice((1, 2, 3, 5, 8, 20, 140)))]
    step = rng.choice((1, 1, 2, 3))
    data = b"".join(map(material.bulk, words)) + material.noise(rng, 3)
    chance = rng.random()
    if chance < 0.15:
        data = material.mutated(rng, data)
    elif chance < 0.3:
        data = data[: rng.randrange(len(data) + 1)]
    tail = rng.choice((0, 0, 1))
    return [("keys", max((len(words) - tail) // step, 1), step, rng.random() < 0.3, tail), data]


def _cut(engine: Engine, steps: Steps) -> object:
    multikey = engine["planning.split"]
    default = ("", 1, 1, False, 0)
    _, count, step, by_slot, tail = next((step for step in steps if isinstance(step, tuple)), default)
    name = material.bulk(b"MSET")
    data = b"*1\r\n" + name + b"".join(step for step in steps if isinstance(step, bytes))
    rules = _rules(engine) if len(data) % 2 else None
    found = multikey.cut(data, 4, 4 + len(name), count, step, _SLOT_SHARD, _SHARDS, by_slot, rules, tail)
    if found is None:
        return None
    parts = [inner for part in found.parts for inner in (part, *multikey.by_key(part, tail))]
    return found.end, [(part.shard, part.frame, part.positions) for part in parts]


def _answers(rng: Random) -> Steps:
    count = rng.choice((1, 2, 3, 5, 9, 130))
    places: dict[int, list[int]] = {}
    for position in range(count):
        places.setdefault(rng.randrange(_SHARDS), []).append(position)
    steps: Steps = []
    for shard, positions in places.items():
        size = len(positions) + (rng.choice((-1, 1)) if rng.random() < 0.03 else 0)
        answer = b"*%d\r\n%b" % (size, b"".join(material.reply(rng, 3) for _ in range(max(size, 0))))
        if rng.random() < 0.05:
            answer = rng.choice((material.mutated(rng, answer), b"+OK\r\n", b"*-1\r\n", b""))
        steps.append((shard, positions, answer))
    return steps


def _merge(engine: Engine, steps: Steps) -> object:
    parts = [engine["planning.scatter"].Part(shard, b"", positions) for shard, positions, _ in steps]
    return engine["planning.merge_keys"].merge_by_key(parts, [answer for _, _, answer in steps])


def _merge_in_pieces(engine: Engine, steps: Steps) -> object:
    """The same answers, cut: where a cut falls depends on their bytes."""
    multikey = engine["planning.merge_keys"]
    parts = [engine["planning.scatter"].Part(shard, b"", positions) for shard, positions, _ in steps]
    answers = []
    for _, _, answer in steps:
        header = answer.find(b"\n") + 1
        cuts = {header, *(header + value * 7 % (len(answer) - header + 1) for value in answer[:9])}
        answers.append([answer[begin:end] for begin, end in pairwise((0, *sorted(cuts), len(answer))) if begin < end])
    merged = at_once(multikey.merging_pieces_by_key(parts, answers))
    return [merged, b"".join(merged)]


SUBJECTS = (
    Subject("requests", _requests, _frame_requests, 25_000),
    Subject("replies", _replies, _frame_replies, 18_000),
    Subject("offsets", _anything, _offsets, 20_000),
    Subject("slots", _keys, _slots, 15_000),
    Subject("colocation", _keys, _colocated, 8_000),
    Subject("cut", _many, _cut, 8_000),
    Subject("merge", _answers, _merge, 6_000),
    Subject("merge in pieces", _answers, _merge_in_pieces, 4_000),
)
