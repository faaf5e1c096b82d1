"""How long one turn of the proxy's loop takes at most, for whatever clients and servers can send: a table of it all.

    python -m tests.live.turns [part of a name ...]      prints the table

Measured by the proxy itself (``slotgate_loop_worst_seconds``): the CPU that its loop took in one go, so that what else
the machine does is not counted. ``test_long_work.py`` holds the bounds; the stimuli are in ``stimuli.py``.
"""

import contextlib
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

from proxy.devservers.servers import ServerBinary
from proxy.worker import loop_lag
from tests.live.patient_site import standing
from tests.live.stimuli import STIMULI, Act
from tests.support.binaries import FULL
from tests.support.proxy_process import ProxyProcess

_FINE = f"""
import sys, {loop_lag.__name__} as loop
loop._EVERY, loop._WINDOW = 0.002, 1.0
from proxy.cli import main
sys.exit(main(sys.argv[1:]))
"""
_LOOK_EVERY = 0.4


class FineProxy(ProxyProcess):
    """A proxy that looks at its loop every 2 ms, and forgets the worst after a second or two."""

    program = ("-c", _FINE)


class Meter:
    """Looks at the metrics of ``proxy`` while a block runs, and notes the worst turn."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self._proxy = proxy
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.work = 0.0
        self.lag = 0.0

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(OSError):
            text = self._proxy.http("/metrics")[1]
            self.work = max(self.work, *worst(text, "work"))
            self.lag = max(self.lag, *worst(text, "lag"))


def worst(text: str, of: str) -> list[float]:
    """``slotgate_loop_worst_seconds`` of each worker."""
    return [float(value) for value in re.findall(rf'slotgate_loop_worst_seconds{{of="{of}",.*?}} (\S+)', text)]


def long_turns(text: str) -> float:
    """How many turns took over 100 ms of CPU."""
    (count,) = re.findall(r'slotgate_loop_long_turns_total{cause="work"} (\S+)', text)
    return float(count)


def measure(act: Act, binary: ServerBinary) -> tuple[float, float, str]:
    """The worst turn of a stimulus: CPU and lag in seconds; and the log."""
    with tempfile.TemporaryDirectory() as directory, standing(binary, Path(directory), FineProxy) as site:
        with act(site) as run:
            time.sleep(2.2)  # the worst of before is forgotten
            with Meter(site.proxy) as meter:
                run()
                time.sleep(0.3)
        return meter.work, meter.lag, site.proxy.log


def main(wanted: list[str]) -> None:
    """Print the table."""
    binary = FULL[0].binary()
    assert binary is not None
    say = sys.stdout.write
    for name, act in STIMULI.items():
        if wanted and not any(part in name for part in wanted):
            continue
        try:
            work, lag, log = measure(act, binary)
        except (OSError, AssertionError) as error:
            say(f"{name:50} {type(error).__name__}: {error}\n")
            continue
        say(f"{name:50} {work * 1000:8.0f} ms CPU {lag * 1000:8.0f} ms\n")
        for line in log.splitlines():
            if "held up" in line:
                say(f"       {line[line.index('held up') :][:400]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
