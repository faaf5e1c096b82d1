"""The steps of a request's way as the code has them now: what micro measures, and what to adapt when the code changes.

Each step is a call without arguments that does the work once.
"""

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.scenarios import LARGE, MEDIUM, SMALL, KeySet
from proxy.commands.keys import key_indexes
from proxy.commands.table import CommandTable
from proxy.planning.merge import merge
from proxy.planning.merge_context import Context
from proxy.planning.planner import Planner
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.resp.limits import UNAUTHENTICATED, RequestLimits
from proxy.resp.replies import ReplyFramer
from proxy.resp.requests import RequestFramer, split_request
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Node, Shard, Topology

Step = Callable[[], object]

_SHARDS = 3
_KEY = SMALL.key(1)
_TEN_KEYS = [SMALL.key(number) for number in range(10)]
_COMMANDS = {
    "GET": ("GET", _KEY),
    "SET of 64 B": ("SET", _KEY, SMALL.value),
    "MGET of 10": ("MGET", *_TEN_KEYS),
    "MSET of 10": ("MSET", *(part for key in _TEN_KEYS for part in (key, SMALL.value))),
    "EVALSHA of 2 keys": ("EVALSHA", "0" * 40, "2", _KEY, SMALL.key(2), "argument"),
}
_LARGE = {
    "SET of 16 KB": ("SET", MEDIUM.key(1), MEDIUM.value),
    "SET of 1 MB": ("SET", LARGE.key(1), LARGE.value),
}
_SPLIT = ("MGET of 10", "MSET of 10")


def steps() -> dict[str, Step]:
    """By name, in the order of a request's way. The first shows what calling costs by itself."""
    table = CommandTable.builtin()
    frames = {name: encode.request(args) for name, args in (_COMMANDS | _LARGE).items()}
    replies = {"64 B": _bulk(SMALL), "16 KB": _bulk(MEDIUM), "10 of 64 B": encode.array([_bulk(SMALL)] * 10)}
    return {
        "nothing: the call itself": partial(abs, 0),
        **{f"frame request: {name}": _frame_request(frame) for name, frame in frames.items()},
        **{f"parse request: {name}": partial(split_request, frames[name]) for name in _COMMANDS},
        **{f"find command and keys: {name}": _find_keys(table, _encoded(args)) for name, args in _COMMANDS.items()},
        "slot of a key": partial(key_slot, _KEY.encode()),
        "slot of a key with a hash tag": partial(key_slot, b"{user1000}." + _KEY.encode()),
        **{f"split: {name}": _split(table, _encoded(_COMMANDS[name]), frames[name]) for name in _SPLIT},
        **{f"frame reply: {name}": partial(ReplyFramer().frame, frame, 0) for name, frame in replies.items()},
        "merge: MGET of 10": _merge(table, _COMMANDS["MGET of 10"], lambda keys: encode.array([_bulk(SMALL)] * keys)),
        "merge: DEL of 10": _merge(table, ("DEL", *_TEN_KEYS), encode.integer),
    }


def _encoded(args: Sequence[str]) -> list[bytes]:
    return [argument.encode() for argument in args]


def _bulk(keys: KeySet) -> bytes:
    return encode.bulk(keys.value)


def _frame_request(frame: bytes) -> Step:
    return partial(RequestFramer(RequestLimits(), UNAUTHENTICATED).frame, frame, 0)


def _find_keys(table: CommandTable, args: list[bytes]) -> Step:
    def find() -> list[int]:
        fact = table.resolve(args)
        return [] if fact is None else key_indexes(fact, args)

    return find


def _planner() -> Planner:
    return Planner(
        Topology.static([Shard(f"s{number}", Node("127.0.0.1", 7000 + number)) for number in range(_SHARDS)]), "split"
    )


def _split(table: CommandTable, args: list[bytes], frame: bytes) -> Step:
    fact = table.resolve(args)
    assert fact is not None
    return partial(_planner().plan, fact, args, frame)


def _merge(table: CommandTable, command: Sequence[str], reply: Callable[[int], bytes]) -> Step:
    """The merge of what ``reply`` gives for each part, by its number of keys."""
    args = _encoded(command)
    plan = _split(table, args, encode.request(args))()
    assert isinstance(plan, Scatter)
    return partial(merge, plan, [reply(len(part.positions)) for part in plan.parts], Context())
