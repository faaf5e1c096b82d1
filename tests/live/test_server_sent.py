"""No turn of the loop is long, whatever a server sends to the request of a client: in processor time.

python -m tests.live.test_server_sent [part of a name ...]      prints a table
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import uvloop

from proxy.compiled import engine
from proxy.config import Config
from proxy.devservers.servers import LOOPBACK, free_port
from proxy.transport.transports import best_transports
from tests.live.in_process import working
from tests.live.server_sent import SENT, Sent
from tests.live.speaker import Speaker
from tests.support.drilled import drilled
from tests.support.wire import Wire

pytestmark = pytest.mark.live

BOUND = 0.02
TRIES = 8
"""The best of so many counts: the machine's caches and the collector take their part of the others."""
WATCHED = 0.5
"""Seconds without a byte after which all has come."""


@contextlib.contextmanager
def drained(wire: Wire, payload: bytes) -> Iterator[threading.Event]:
    """Send ``payload``, and drop all that comes; the event is set when nothing has come for a while."""
    quiet = threading.Event()

    def run() -> None:
        wire.socket.settimeout(WATCHED)
        with contextlib.suppress(OSError):
            wire.socket.sendall(payload)
            while wire.socket.recv(1 << 20):
                pass
        quiet.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield quiet
    finally:
        thread.join()


async def longest_turn(sent: Sent, speakers: Sequence[Speaker]) -> float:
    """The longest turn of a worker's loop while ``speakers``, its shards, answer the request of a client."""
    address = f"{LOOPBACK}:{free_port()}"
    shards = [{"primary": speaker.address} for speaker in speakers]
    config = Config.model_validate({"listen": address, "shards": shards})
    async with working(config, best_transports(asyncio.get_running_loop())) as service:
        with Wire(address, timeout=20.0) as wire:
            await asyncio.to_thread(wire.ask, "GET", "k")
            if sent.greeting:
                await asyncio.to_thread(wire.send, sent.greeting)
                await asyncio.sleep(0.1)
            for speaker in speakers:
                speaker.answer = lambda args: sent.reply if args[0].upper() == sent.command else None
            longest = 0.0
            with drained(wire, sent.requests) as quiet:
                while not quiet.is_set() or service.slices.busy:
                    before = time.thread_time()
                    await asyncio.sleep(0)
                    longest = max(longest, time.thread_time() - before)
            for speaker in speakers:
                speaker.answer = lambda args: None
    return longest


def best(sent: Sent, tries: int = TRIES) -> float:
    """The shortest of some tries' longest turns."""
    found = []
    for _ in range(tries):
        with Speaker() as one, Speaker() as other, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found.append(runner.run(longest_turn(sent, (one, other))))
        if found[-1] < BOUND:
            break
    return min(found)


@pytest.mark.skipif(engine() == "python", reason="the plain engine frames so much in longer turns")
@pytest.mark.parametrize("name", [drilled(name) if name.startswith("500,000") else name for name in SENT])
def test_no_turn_is_long(name: str) -> None:
    assert best(SENT[name]) < BOUND


def main(wanted: list[str]) -> None:
    for name, sent in SENT.items():
        if not wanted or any(part in name for part in wanted):
            sys.stdout.write(f"{name:45} {best(sent, 3) * 1000:8.1f} ms\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
