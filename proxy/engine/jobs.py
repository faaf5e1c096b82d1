"""Work that takes long, as generators that yield wherever they may be interrupted: after every 10 to 50 µs of it.

Pure. ``proxy.transport.job_runner`` does some of it in each turn of the loop.
"""

from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
Job = Generator[bool, None, T]
"""Yields MORE or ENOUGH; may return something."""
MORE = False
"""It goes on while there is time."""
ENOUGH = True
"""It goes on in the next turn: what follows from what it did takes time too."""


def at_once(job: Job[T]) -> T:
    """Do all of ``job`` now: what it returns."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            found: T = end.value
            return found


def short(function: Callable[P, T]) -> Callable[P, Job[T]]:
    """What takes no time, as a job."""

    @wraps(function)
    def job(*args: P.args, **kwargs: P.kwargs) -> Job[T]:
        yield from ()
        return function(*args, **kwargs)

    return job
