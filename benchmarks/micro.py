"""``python -m benchmarks.micro``: what the steps on a request's way cost by themselves, in nanoseconds.

The least of several repetitions, since all above it is the machine's. Good for comparing two states of the code.
"""

import timeit
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.scenarios import LARGE, MEDIUM, SMALL, KeySet
from proxy.commands.keys import key_indexes
from proxy.commands.table import CommandTable
from proxy.resp.encode import request
from proxy.resp.limits import UNAUTHENTICATED, RequestLimits
from proxy.resp.replies import ReplyFramer
from proxy.resp.requests import RequestFramer, split_request
from proxy.slots import key_slot

_REPEATS: Final = 7
_SECONDS: Final = 0.05

Step = Callable[[], object]


def main() -> None:
    steps = _steps()
    width = max(map(len, steps))
    for name, step in steps.items():
        print(f"{name:<{width}} {nanoseconds(step):>10,.0f} ns")


def nanoseconds(step: Step) -> float:
    """How long one call takes."""
    timer = timeit.Timer(step)
    number = 1
    while (took := timer.timeit(number)) < _SECONDS / 10:
        number *= 10
    number = max(1, int(number * _SECONDS / took))
    return min(timer.repeat(_REPEATS, number)) / number * 1e9


def _steps() -> dict[str, Step]:
    key = SMALL.key(1)
    commands = {
        "GET": ("GET", key),
        "SET of 64 B": ("SET", key, SMALL.value),
        "MGET of 10": ("MGET", *map(SMALL.key, range(10))),
        "EVALSHA of 2 keys": ("EVALSHA", "0" * 40, "2", key, SMALL.key(2), "argument"),
    }
    large = {
        "SET of 16 KB": ("SET", MEDIUM.key(1), MEDIUM.value),
        "SET of 1 MB": ("SET", LARGE.key(1), LARGE.value),
    }
    replies = {"64 B": _bulk(SMALL), "16 KB": _bulk(MEDIUM), "10 of 64 B": b"*10\r\n" + _bulk(SMALL) * 10}
    return {
        **{f"frame request: {name}": _frame_request(request(args)) for name, args in (commands | large).items()},
        **{f"split request: {name}": _split_request(request(args)) for name, args in commands.items()},
        **{f"find command and keys: {name}": _find_keys(args) for name, args in commands.items()},
        **{f"frame reply: {name}": _frame_reply(frame) for name, frame in replies.items()},
        "slot of a key": _slot(key.encode()),
        "slot of a key with a hash tag": _slot(b"{user1000}." + key.encode()),
    }


def _bulk(keys: KeySet) -> bytes:
    return f"${keys.size}\r\n{keys.value}\r\n".encode()


def _frame_request(frame: bytes) -> Step:
    framer = RequestFramer(RequestLimits(), UNAUTHENTICATED)
    return lambda: framer.frame(frame, 0)


def _split_request(frame: bytes) -> Step:
    return lambda: split_request(frame)


def _find_keys(args: Sequence[str]) -> Step:
    table = CommandTable.builtin()
    encoded = [argument.encode() for argument in args]

    def find() -> list[int]:
        fact = table.resolve(encoded)
        return [] if fact is None else key_indexes(fact, encoded)

    return find


def _frame_reply(frame: bytes) -> Step:
    framer = ReplyFramer()
    return lambda: framer.frame(frame, 0)


def _slot(key: bytes) -> Step:
    return lambda: key_slot(key)


if __name__ == "__main__":
    main()
