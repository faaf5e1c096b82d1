"""What is found out in slices about a request of very many arguments is what is found out at once."""

import pytest

from proxy.commands.keys import KeysError
from proxy.commands.table import CommandTable
from proxy.engine.jobs import at_once
from proxy.planning.key_slots import Examined, denied, examining, slots_of
from proxy.sharding.colocation import pattern_slot_of
from proxy.sharding.slots import key_slot

TABLE = CommandTable.builtin()
PATTERN_SLOT = pattern_slot_of(None)
MANY = 3000


def words(text: str, *more: str) -> list[bytes]:
    return [word.encode() for word in (*text.split(), *more)]


def numbered(prefix: str) -> list[str]:
    return [f"{prefix}{number}" for number in range(MANY)]


def pairs(option: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


@pytest.mark.parametrize(
    "args",
    [
        words("SUNION", *numbered("k")),
        words("MSETNX", *pairs("v", numbered("{t}"))),
        words(f"EVAL code {MANY}", *numbered("k"), "x"),
        words(f"EVAL code {MANY + 1}", *numbered("k")),
        words(f"ZUNIONSTORE {{t}}d {MANY}", *numbered("{t}")),
        words("XREAD COUNT 1 STREAMS", *numbered("s"), *["0"] * MANY),
        words("XREAD COUNT 1 STREAMS", *numbered("s"), *["0"] * (MANY - 1)),
        words("GEORADIUS {t}k 1 1 1 m", *pairs("STORE", numbered("{t}"))),
        words("SORT {t}k", *pairs("GET", numbered("{t}*"))),
        words("SORT {t}k", *pairs("GET", ["#", *numbered("{t}*"), "{u}*"])),
        words("SORT {t}k", *pairs("BY", numbered("x")), "BY", "x*"),
        words("SORT {t}k", *pairs("STORE", numbered("d"))),
        words("SORT_RO {t}k", *pairs("GET", numbered("{t}*"))),
        words("SORT_RO {t}k", *pairs("GET", numbered("{t}*")), "STORE", "d"),
        words("BLPOP", *numbered("k"), "0"),
        words("WATCH", *numbered("{t}")),
    ],
    ids=lambda args: b" ".join(args[:3]).decode(),
)
def test_in_slices_as_at_once(args: list[bytes]) -> None:
    fact = TABLE.resolve(args)
    assert fact is not None
    examined, nothing = Examined(), Examined()
    steps = 0
    job = examining(fact, args, key_slot, PATTERN_SLOT)
    while True:
        try:
            next(job)
            steps += 1
        except StopIteration as end:
            examined.found = end.value
            break
    try:
        expected = slots_of(fact, args, key_slot, nothing)
    except KeysError:
        with pytest.raises(KeysError):
            slots_of(fact, args, key_slot, examined)
        return
    assert slots_of(fact, args, key_slot, examined) == expected
    assert denied(fact, args, expected, PATTERN_SLOT, examined) == denied(fact, args, expected, PATTERN_SLOT, nothing)
    assert steps > MANY / 100


def test_only_the_very_request_is_known() -> None:
    args = words("SUNION a b")
    fact = TABLE.resolve(args)
    assert fact is not None
    examined = Examined()
    examined.found = at_once(examining(fact, args, key_slot, PATTERN_SLOT))
    assert examined.of(fact, args) is examined.found
    assert examined.of(fact, list(args)) is None
