"""What is measured: each scenario is one redis-benchmark command line, and the ratios it is held to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# redis-benchmark puts a new number of 12 digits, below -r, in place of each of these in each command.
RANDOM: Final = "__rand_int__"


@dataclass(frozen=True, slots=True)
class KeySet:
    """``count`` keys, a prefix and a number of 12 digits each, with values of ``size`` bytes."""

    prefix: str
    count: int
    size: int

    @property
    def pattern(self) -> str:
        return self.prefix + RANDOM

    @property
    def value(self) -> str:
        return "x" * self.size

    def key(self, number: int) -> str:
        return f"{self.prefix}{number:012d}"


SMALL: Final = KeySet("bench:64:", 10_000, 64)
MEDIUM: Final = KeySet("bench:16k:", 500, 16 * 1024)
# The prefix of redis-benchmark's own SET and GET: a value this large can only be asked for with -d.
LARGE: Final = KeySet("key:", 20, 1024 * 1024)
KEY_SETS: Final = (SMALL, MEDIUM, LARGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """``words`` is what reports call it; ``args`` ends redis-benchmark's command line.

    ``requests``: the most that one run sends.
    ``target``: the highest ratio of Slotgate's CPU per command to the best peer's with the compiled engine.
    ``uncompiled``: it is measured without it as well; ``uncompiled_target``: the highest ratio to twemproxy's then,
    None where nothing is promised.
    """

    name: str
    words: str
    args: tuple[str, ...]
    keys: KeySet
    requests: int
    target: float
    uncompiled: bool = False
    uncompiled_target: float | None = None
    clients: int = 50
    pipeline: int = 1
    keepalive: bool = True

    def rounded(self, requests: float) -> int:
        """The nearest lower number of requests in which every connection sends whole pipelines, at least one each."""
        step = self.clients * self.pipeline
        return max(1, int(requests) // step) * step


def _get(keys: KeySet) -> tuple[str, ...]:
    return ("GET", keys.pattern)


def _set(keys: KeySet) -> tuple[str, ...]:
    return ("SET", keys.pattern, keys.value)


_TEN: Final = 10

SCENARIOS: Final = (
    Scenario(
        name="get-p1",
        words="GET, 64 B, no pipeline",
        args=_get(SMALL),
        keys=SMALL,
        requests=120_000,
        target=0.85,
        uncompiled=True,
        uncompiled_target=1.3,
    ),
    Scenario(
        name="set-p1",
        words="SET, 64 B, no pipeline",
        args=_set(SMALL),
        keys=SMALL,
        requests=120_000,
        target=0.85,
        uncompiled=True,
        uncompiled_target=1.3,
    ),
    Scenario(
        name="get-p16",
        words="GET, 64 B, pipeline of 16",
        args=_get(SMALL),
        keys=SMALL,
        requests=480_000,
        pipeline=16,
        target=0.50,
        uncompiled=True,
        uncompiled_target=1.3,
    ),
    Scenario(
        name="set-p16",
        words="SET, 64 B, pipeline of 16",
        args=_set(SMALL),
        keys=SMALL,
        requests=480_000,
        pipeline=16,
        target=0.50,
        uncompiled=True,
        uncompiled_target=1.3,
    ),
    Scenario(
        name="get-p64",
        words="GET, 64 B, pipeline of 64",
        args=_get(SMALL),
        keys=SMALL,
        requests=960_000,
        pipeline=64,
        target=0.22,
        uncompiled=True,
    ),
    Scenario(
        name="get-c500",
        words="GET, 64 B, 500 clients",
        args=_get(SMALL),
        keys=SMALL,
        requests=120_000,
        clients=500,
        target=0.90,
    ),
    Scenario(name="get-16k", words="GET, 16 KB", args=_get(MEDIUM), keys=MEDIUM, requests=70_000, target=0.95),
    Scenario(name="set-16k", words="SET, 16 KB", args=_set(MEDIUM), keys=MEDIUM, requests=70_000, target=0.95),
    Scenario(
        name="get-1m",
        words="GET, 1 MB, 10 clients",
        args=("-t", "get"),
        keys=LARGE,
        requests=3_000,
        clients=10,
        target=0.95,
    ),
    Scenario(
        name="set-1m",
        words="SET, 1 MB, 10 clients",
        args=("-t", "set", "-d", str(LARGE.size)),
        keys=LARGE,
        requests=3_000,
        clients=10,
        target=0.95,
    ),
    Scenario(
        name="mset-10",
        words="MSET of 10 keys",
        args=("MSET", *_set(SMALL)[1:] * _TEN),
        keys=SMALL,
        requests=70_000,
        target=0.85,
    ),
    Scenario(
        name="mget-10",
        words="MGET of 10 keys",
        args=("MGET", *_get(SMALL)[1:] * _TEN),
        keys=SMALL,
        requests=70_000,
        target=0.85,
        uncompiled=True,
    ),
    Scenario(
        name="connect",
        words="connect, GET, close",
        args=_get(SMALL),
        keys=SMALL,
        # No more: a closed connection's port can not be used again for a second.
        requests=12_000,
        keepalive=False,
        target=1.25,
    ),
)


def scenarios_named(names: Sequence[str]) -> tuple[Scenario, ...]:
    """Those of the table with these names; all for no names."""
    return tuple(scenario for scenario in SCENARIOS if not names or scenario.name in names)
