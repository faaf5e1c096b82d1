"""Long computations as generators, which yield after every 10 to 50 µs of work, so that they can be interrupted.

No I/O. ``proxy.transport.job_runner`` runs a slice of them in each turn of the loop.
"""

from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
Job = Generator[bool, None, T]
"""A generator that yields MORE or ENOUGH and may return a value."""
MORE = False
"""The job may go on in this turn while there is time."""
ENOUGH = True
"""The job goes on in the next turn, because the effects of what it did take time too."""


def at_once(job: Job[T]) -> T:
    """Run ``job`` to its end without a pause, and return its result."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            found: T = end.value
            return found


def short(function: Callable[P, T]) -> Callable[P, Job[T]]:
    """Make a job of ``function``, which is too short to be interrupted."""

    @wraps(function)
    def job(*args: P.args, **kwargs: P.kwargs) -> Job[T]:
        yield from ()
        return function(*args, **kwargs)

    return job
