"""``python -m benchmarks``: measures, prints the report, and writes it with --write."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.machine import Bystanders, facts
from benchmarks.measure import find_load_generator
from benchmarks.peers import NAMES, running
from benchmarks.report import render
from benchmarks.rounds import Results, measure
from benchmarks.scenarios import SCENARIOS, scenarios_named
from proxy.errors import SlotgateError
from proxy.localservers import start_many

_SHARDS: Final = 3
_OUTPUT: Final = Path(__file__).parent / "RESULTS.md"
_ROUNDS: Final = 5
# What all runs together may take; seconds. With start and stop it stays under 10 minutes.
_BUDGET: Final = 520.0
_QUICK_ROUNDS: Final = 2
_QUICK_BUDGET: Final = 100.0
# The part of each scenario's requests that --quick sends.
_QUICK_SHARE: Final = 0.15


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed (what was measured is reported), 2 wrong usage, 130 interrupted."""
    options = _parse(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        results, report = _measure(options)
    except SlotgateError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(report, end="")
    if options.write:
        options.output.write_text(report)
        print(f"written to {options.output}", file=sys.stderr)
    return 1 if results.failures else 0


def _measure(options: argparse.Namespace) -> tuple[Results, str]:
    find_load_generator()
    with start_many(_SHARDS, 0) as shards, running(options.proxies, shards) as (targets, left_out):
        for name, why in left_out.items():
            print(f"{name} is left out: {why}", file=sys.stderr)
        measured_on = facts(targets)
        bystanders = Bystanders()
        results = measure(
            targets,
            scenarios_named(options.scenarios),
            rounds=options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS),
            share=_QUICK_SHARE if options.quick else 1.0,
            budget=_QUICK_BUDGET if options.quick else _BUDGET,
            directory=shards.directory,
        )
        measured_on["other processes meanwhile"] = f"{bystanders.cores():.2f} cores (what is not near 0 disturbs)"
    return results, render(results, left_out, measured_on)


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
    add("--quick", action="store_true", help="fewer requests and rounds, about a minute: for a first impression")
    add("--write", action="store_true", help="write the report to a file as well")
    add("--output", type=Path, default=_OUTPUT, metavar="FILE", help="where --write writes (default: %(default)s)")
    return parser.parse_args(argv)


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
