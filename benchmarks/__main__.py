"""``python -m benchmarks``: measures, prints the report, and writes it with --write."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks import against, memory, micro, mixed_load, overhead, own, report, rounds, tls, usage
from benchmarks.loadgen import find_load_generator
from benchmarks.machine import Bystanders, facts
from benchmarks.peers import NAMES, Target
from benchmarks.processes import running
from benchmarks.scenarios import SCENARIOS, scenarios_named
from proxy.devservers.servers import LocalShards, start_many
from proxy.errors import SlotgateError

_SHARDS: Final = 3
_OUTPUT: Final = Path(__file__).parent / "RESULTS.md"
_ROUNDS: Final = 5
# What all runs beside the other proxies may take; seconds. With the other parts it all stays under 10 minutes.
_BUDGET: Final = 350.0
_QUICK_ROUNDS: Final = 2
_QUICK_BUDGET: Final = 100.0
# The part of each scenario's requests that --quick sends.
_QUICK_SHARE: Final = 0.15
PARTS = ("proxies", "overhead", "memory", "mixed-load", "micro", "own", "tls")
_PROXIES, _OVERHEAD, _MEMORY, _MIXED_LOAD, _MICRO, _OWN, _TLS = PARTS


class _Failed(Exception):
    """A part has no figures for something that it should have; ``lines`` says for what."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__()
        self.lines = lines


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed (what was measured is reported), 2 wrong usage, 130 interrupted."""
    options = _parse(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        whole, text = _measure(options)
    except SlotgateError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text, end="")
    if options.write:
        options.output.write_text(text)
        print(f"written to {options.output}", file=sys.stderr)
    return 0 if whole else 1


def _measure(options: argparse.Namespace) -> tuple[bool, str]:
    """Whether everything went well, and the report."""
    if options.against is not None:
        return True, "\n".join(against.lines(against.measure(options.against, quick=options.quick))) + "\n"
    find_load_generator()
    began = time.monotonic()
    whole = True
    body: list[str] = []
    with start_many(_SHARDS, 0) as shards:
        bystanders = Bystanders()
        with running(options.proxies, shards) as (targets, left_out):
            for name, why in left_out.items():
                print(f"{name} is left out: {why}", file=sys.stderr)
            measured_on = facts(targets)
            if _PROXIES in options.parts:
                results = _beside_others(options, targets, shards)
                body += ["", *report.lines(results)]
                whole = not results.failures
        for part in options.parts:
            if part in _OTHERS:
                went_well, lines = _attempt(part, shards, options.quick)
                whole = whole and went_well
                body += ["", *lines]
        measured_on["other processes meanwhile"] = f"{bystanders.cores():.2f} cores (what is not near 0 disturbs)"
    measured_on["all of it took"] = f"{time.monotonic() - began:.0f} s"
    return whole, "\n".join([*_head(measured_on, left_out), *body]) + "\n"


def _head(measured_on: Mapping[str, str], left_out: Mapping[str, str]) -> Iterator[str]:
    yield "# Slotgate beside other proxies"
    yield ""
    yield "Written by `python -m benchmarks --write`; README.md says how it is measured."
    yield ""
    yield from (f"- {name}: {value}" for name, value in measured_on.items())
    yield from (f"- **{name} is left out**: {why}" for name, why in left_out.items())


def _beside_others(options: argparse.Namespace, targets: Sequence[Target], shards: LocalShards) -> rounds.Results:
    return rounds.measure(
        targets,
        scenarios_named(options.scenarios),
        shards,
        rounds=options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS),
        share=_QUICK_SHARE if options.quick else 1.0,
        budget=_QUICK_BUDGET if options.quick else _BUDGET,
    )


def _attempt(part: str, shards: LocalShards, quick: bool) -> tuple[bool, Sequence[str]]:
    """A part that fails does not take the others with it."""
    try:
        return True, _OTHERS[part](shards, quick)
    except _Failed as failed:
        return False, failed.lines
    except (SlotgateError, OSError) as error:
        print(f"{part} failed: {error}", file=sys.stderr)
        return False, [f"**{part} failed**: {error}"]


def _overhead_lines(shards: LocalShards, quick: bool) -> list[str]:
    return list(overhead.lines(overhead.measure(shards, quick=quick)))


def _memory_lines(shards: LocalShards, quick: bool) -> list[str]:
    found = memory.measure(shards, quick=quick)
    lines = list(usage.lines(found))
    if found.failed:
        raise _Failed(lines)
    return lines


def _mixed_load_lines(shards: LocalShards, quick: bool) -> list[str]:
    return list(mixed_load.lines(*mixed_load.measure(shards, quick=quick)))


def _own_lines(_shards: LocalShards, quick: bool) -> list[str]:
    return list(own.lines(own.measure(quick=quick)))


def _tls_lines(shards: LocalShards, quick: bool) -> list[str]:
    results = tls.measure(shards, quick=quick)
    lines = list(tls.lines(results))
    if results.failures:
        raise _Failed(lines)
    return lines


def _micro_lines(_shards: LocalShards, quick: bool) -> list[str]:
    return list(micro.lines(micro.measure(quick=quick)))


_OTHERS: Final[Mapping[str, Callable[[LocalShards, bool], list[str]]]] = {
    _OVERHEAD: _overhead_lines,
    _MEMORY: _memory_lines,
    _MIXED_LOAD: _mixed_load_lines,
    _OWN: _own_lines,
    _MICRO: _micro_lines,
    _TLS: _tls_lines,
}


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM, too, stops all that was started."""
    raise KeyboardInterrupt


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Slotgate beside other proxies, in one interleaved run."
    )
    add = parser.add_argument
    scenarios = [scenario.name for scenario in SCENARIOS]
    add("--rounds", type=_at_least_one, metavar="N", help=f"default: {_ROUNDS}, with --quick {_QUICK_ROUNDS}")
    add("--scenarios", type=_some_of(scenarios), default=(), metavar="A,B", help=f"of {', '.join(scenarios)}")
    add("--proxies", type=_some_of(NAMES), default=NAMES, metavar="A,B", help=f"of {', '.join(NAMES)}")
    add(
        "--parts",
        type=_some_of(PARTS),
        metavar="A,B",
        help=f"of {', '.join(PARTS)} (default: all; {_PROXIES} with --quick, --scenarios or --proxies)",
    )
    add(
        "--against",
        type=Path,
        metavar="PATH",
        help="only this: CPU per command of this checkout beside that of the one in PATH, which has its own .venv",
    )
    add("--quick", action="store_true", help="fewer requests and rounds, about a minute: for a first impression")
    add("--write", action="store_true", help="write the report to a file as well")
    add("--output", type=Path, default=_OUTPUT, metavar="FILE", help="where --write writes (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.against is not None and options.write and options.output == _OUTPUT:
        options.write = False  # make bench writes the report, and this is none
    if options.parts is None:
        some = options.quick or options.scenarios or options.proxies != NAMES
        options.parts = (_PROXIES,) if some else PARTS
    return options


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A type for argparse: names from ``known`` with commas between; given in the order of ``known``."""

    def names(text: str) -> tuple[str, ...]:
        given = {name.strip() for name in text.split(",")}
        if unknown := sorted(given - set(known)):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; there are {', '.join(known)}")
        return tuple(name for name in known if name in given)

    return names


if __name__ == "__main__":
    sys.exit(main())
