"""What is compared, and how: a case is one random input, made from a number and run through both engines."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.engines.twins import Engine

Steps = list[Any]
"""An input: pieces of bytes, or what is done one after the other. Without any of its steps it must still be one."""
_PATIENCE = 3000
"""How often a shorter input is tried when a case differs."""


@dataclass(frozen=True)
class Subject:
    """``make`` an input, and ``observe`` what comes of it, anything that can be compared; ``cases`` of it each run."""

    name: str
    make: Callable[[Random], Steps]
    observe: Callable[[Engine, Steps], object]
    cases: int


def outcome(what: Callable[[], object]) -> object:
    """What a call gives, or how it fails; of the package's own errors also their words."""
    try:
        return what()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the other's too
        words = str(error) if type(error).__module__.startswith("proxy.") else ""
        return f"{type(error).__name__}: {words}"


def differs(subject: Subject, steps: Steps, engines: tuple[Engine, Engine]) -> tuple[object, object] | None:
    """The two outcomes, if they are not equal."""
    one, other = (outcome(lambda engine=engine: subject.observe(engine, steps)) for engine in engines)  # type: ignore[misc]
    return None if one == other else (one, other)


def check(subject: Subject, number: int, engines: tuple[Engine, Engine]) -> str | None:
    """Run case ``number``; if its outcomes differ, what to look at."""
    steps = subject.make(Random(number))
    found = differs(subject, steps, engines)
    if found is None:
        return None
    short = shortened(steps, lambda fewer: differs(subject, fewer, engines) is not None)
    one, other = differs(subject, short, engines) or found
    first, second = engines
    return (
        f"{subject.name}: the engines differ. Replay: ENGINES_REPLAY={subject.name}:{number} pytest tests/engines\n"
        f"  input ({len(short)} of {len(steps)} steps): {_brief(short)}\n"
        f"  {first.kind}: {_brief(one)}\n  {second.kind}: {_brief(other)}\n  {_where(one, other)}"
    )


def shortened(steps: Steps, bad: Callable[[Steps], bool]) -> Steps:
    """Fewer and shorter steps of which the same is true, as far as patience goes."""
    left = _PATIENCE
    size = len(steps)
    while size:
        at = 0
        while at < len(steps) and left:
            fewer = steps[:at] + steps[at + size :]
            left -= 1
            if bad(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    for index, step in enumerate(steps):
        size = len(step) // 2 if isinstance(step, bytes) else 0
        at = 0
        while size and left:
            step = steps[index]
            fewer = [*steps[:index], step[:at] + step[at + size :], *steps[index + 1 :]]
            left -= 1
            if bad(fewer):
                steps = fewer
            else:
                at += size
            if at >= len(steps[index]):
                at, size = 0, size // 2
    return steps


def _brief(thing: object, most: int = 2000) -> str:
    text = repr(thing)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _where(one: object, other: object, path: str = "") -> str:
    """Where the outcomes differ first."""
    if isinstance(one, list | tuple) and type(one) is type(other) and isinstance(other, list | tuple):
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            if left != right:
                return _where(left, right, f"{path}[{index}]")
        return f"first at {path}: {len(one)} and {len(other)} items"
    return f"first at {path or 'the top'}: {_brief(one, 400)} and {_brief(other, 400)}"
