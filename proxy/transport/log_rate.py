"""Keeps a flood of events from filling the log."""

from collections.abc import Callable


class LogRate:
    """Lets the first ``most`` events of each second into the log. ``tell`` logs how many others there were, ahead of
    the next event that is logged. ``clock`` gives the time in seconds."""

    def __init__(self, clock: Callable[[], float], most: int, tell: Callable[[int], object]) -> None:
        self._clock = clock
        self._most = most
        self._tell = tell
        self._began = clock()
        self._logged = 0
        self._left_out = 0

    def __repr__(self) -> str:
        return f"LogRate({self._logged} logged, {self._left_out} left out)"

    def allows(self) -> bool:
        """Whether one more event is logged."""
        now = self._clock()
        if now - self._began >= 1:
            if self._left_out:
                self._tell(self._left_out)
            self._began, self._logged, self._left_out = now, 0, 0
        if self._logged >= self._most:
            self._left_out += 1
            return False
        self._logged += 1
        return True
