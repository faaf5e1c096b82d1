"""``python -m benchmarks.micro``: what the steps on a request's way cost by themselves, compiled and not.

Each engine is measured in a process of its own, in turn, several times; the least counts, since all above it is the
machine's. Good for comparing two states of the code; :mod:`benchmarks.steps` has the steps.
"""

import argparse
import json
import subprocess
import sys
import timeit
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from benchmarks.figures import NONE, table
from benchmarks.peers import OURS, PROXIES, UNCOMPILED, is_compiled
from benchmarks.steps import Step, steps
from proxy.errors import SlotgateError

_REPEATS: Final = 5
_SECONDS: Final = 0.02
# How often each engine has its turn.
_TURNS: Final = 3
_QUICK_TURNS: Final = 1
_TIMEOUT: Final = 60.0

Nanoseconds = Mapping[str, float]
"""By step."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description="The steps of a request alone.")
    parser.add_argument("--quick", action="store_true", help="one turn: for a first impression")
    parser.add_argument("--here", action="store_true", help="only this process's engine; prints JSON")
    options = parser.parse_args(argv)
    if options.here:
        print(json.dumps({name: nanoseconds(step) for name, step in steps().items()}))
        return 0
    try:
        print("\n".join(lines(measure(quick=options.quick))))
    except SlotgateError as error:
        print(f"benchmarks.micro: {error}", file=sys.stderr)
        return 1
    return 0


def nanoseconds(step: Step) -> float:
    """How long one call takes."""
    timer = timeit.Timer(step)
    number = 1
    while (took := timer.timeit(number)) < _SECONDS / 10:
        number *= 10
    number = max(1, int(number * _SECONDS / took))
    return min(timer.repeat(_REPEATS, number)) / number * 1e9


def measure(*, quick: bool = False) -> dict[str, Nanoseconds]:
    """By engine, "compiled" and "python", or "python" alone. Raises SlotgateError when a process fails."""
    engines = {"python": PROXIES[UNCOMPILED].environment()}
    ours = PROXIES[OURS]
    if is_compiled(ours.version(ours.find() or ())):
        engines = {"compiled": ours.environment(), **engines}
    found: dict[str, Nanoseconds] = {}
    for _ in range(_QUICK_TURNS if quick else _TURNS):
        for engine, environment in engines.items():
            found[engine] = least(found.get(engine, {}), _elsewhere(environment))
    return found


def least(one: Nanoseconds, other: Nanoseconds) -> Nanoseconds:
    """The lower of each step that both have, the only one of the others."""
    return {name: min(one.get(name, time), time) for name, time in other.items()}


def _elsewhere(environment: Mapping[str, str]) -> Nanoseconds:
    command = [sys.executable, "-m", "benchmarks.micro", "--here"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True, env=environment)
    except (OSError, subprocess.SubprocessError) as error:
        raise SlotgateError(f"the steps can not be measured: {error}") from error
    found: dict[str, float] = json.loads(said.stdout)
    return found


def lines(found: Mapping[str, Nanoseconds]) -> Iterator[str]:
    """A section."""
    compiled, python = found.get("compiled", {}), found["python"]
    yield "## Steps of a request by themselves (ns)"
    yield ""
    yield "The least of several repetitions, called from Python: the first row is in all others."
    yield ""
    yield from table(
        ["step", "compiled", "not compiled", "x not compiled"],
        ([name, _cell(compiled, name), f"{time:,.0f}", _ratio(compiled, name, time)] for name, time in python.items()),
    )


def _cell(found: Nanoseconds, name: str) -> str:
    return f"{found[name]:,.0f}" if name in found else NONE


def _ratio(found: Nanoseconds, name: str, time: float) -> str:
    return f"{found[name] / time:.2f}" if name in found else NONE


if __name__ == "__main__":
    sys.exit(main())
