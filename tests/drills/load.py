"""A steady load of mixed commands from pipelining clients that know what each reply has to be.

By hand, until Ctrl-C or for a while::

    python -m tests.drills.load 127.0.0.1:6380 --seconds 10

Each client has keys of its own, so that it knows what they hold; keys that all read and nobody writes are shared. At
the end every key is read back: an acknowledged write that is not there was lost. Exit code 1 when anything was wrong.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import hiredis

from tests.drills.checker import Checker
from tests.drills.mixture import LONGEST, SHORTEST, Command, Keys, Mixture
from tests.drills.model import Key, Part
from tests.drills.report import Report

CLIENTS: Final = 20
RATE: Final = 4000
DEPTH: Final = 2
"""Pipelines of a client that are on the way at a time."""
_SHARED: Final = 200
_ANSWER: Final = 60.0
"""No reply for so many seconds: the connection is given up."""
SETTLE: Final = 30.0
_CHUNK: Final = 20
_SPREAD: Final = 1.0


class Client:
    """One connection at a time. ``ask`` sends pipelines, and returns when their replies have been checked."""

    def __init__(self, host: str, port: int, checker: Checker) -> None:
        self._host, self._port = host, port
        self._checker = checker
        self._waiting: deque[Command] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        self._good = True
        self._final = False

    async def ask(self, commands: Sequence[Command], *, leave: int = 0, final: bool = False) -> bool:
        """Whether none of what was answered until no more than ``leave`` commands wait was an error."""
        if self._writer is None and not await self._connect():
            return False
        assert self._writer is not None
        self._good, self._final = True, final
        sent = time.monotonic()
        for command in commands:
            command.sent = sent
        self._waiting.extend(commands)
        self._writer.write(b"".join(hiredis.pack_command(cast(Any, command.words())) for command in commands))
        try:
            while len(self._waiting) > leave:
                self._answered.clear()
                await asyncio.wait_for(self._answered.wait(), _ANSWER)
                self._raise_what_ended_reading()
        except TimeoutError:
            self._end(f"no reply for {_ANSWER:g} s")
        return self._good and self._writer is not None

    @property
    def report(self) -> Report:
        return self._checker.report

    async def close(self) -> None:
        if self._waiting:
            self._end("given up")
        writer, reading = self._writer, self._reading
        self._drop()
        if writer is not None and reading is not None:
            await asyncio.gather(writer.wait_closed(), reading, return_exceptions=True)

    async def _connect(self) -> bool:
        try:
            reader, self._writer = await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            self._checker.broken([], f"can not connect: {error}")
            await asyncio.sleep(0.2)
            return False
        self._reading = asyncio.create_task(self._read(reader))
        self._reading.add_done_callback(lambda _: self._answered.set())
        return True

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader()
        words = "closed by the proxy"
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                parser.feed(data)
                now = time.monotonic()
                while (reply := parser.gets()) is not False:
                    if not self._waiting:
                        self._checker.broken([], f"a reply that nobody asked for: {str(reply)[:100]}")
                        continue
                    self._good &= self._checker.reply(self._waiting.popleft(), reply, now, final=self._final)
                self._answered.set()
        self._end(words)

    def _raise_what_ended_reading(self) -> None:
        """A fault of the checker must not look like a reply that does not come."""
        if self._reading is not None and self._reading.done() and not self._reading.cancelled():
            error = self._reading.exception()
            if error is not None:
                raise error

    def _end(self, words: str) -> None:
        self._checker.broken(list(self._waiting), words)
        self._waiting.clear()
        self._good = False
        self._drop()
        self._answered.set()

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()
        self._reading = None


@dataclass(frozen=True, slots=True)
class Options:
    """``rate`` is commands a second of all clients together; ``seconds`` 0 is until a signal.

    ``settle``: for so many seconds the last look at the keys asks again what gave an error, or an old value.
    """

    address: str
    seconds: float = 0.0
    clients: int = CLIENTS
    rate: float = RATE
    slots: range = range(16384)
    stale: bool = False
    seed: int = 0
    settle: float = SETTLE


async def run(options: Options) -> Report:
    """The whole of it: set-up, load, a last look at every key. Raises ConnectionError if it can not be set up."""
    report = Report()
    checker = Checker(report, stale=options.stale)
    name = f"{os.getpid()}-{time.monotonic_ns():x}"
    host, _, port = options.address.rpartition(":")
    clients = [Client(host, int(port), checker) for _ in range(options.clients)]
    own = [Keys(f"{name}:c{number}", options.slots) for number in range(options.clients)]
    shared = await _share(clients[0], Keys(f"{name}:shared", options.slots), stale=options.stale)
    over = _until(options.seconds)
    report.started = time.monotonic()
    report.replies = 0
    report.seconds.clear()
    telling = asyncio.create_task(_tell(report))
    pause = (SHORTEST + LONGEST) / 2 * options.clients / options.rate
    mixtures = [Mixture(keys, shared, random.Random(f"{options.seed}:{number}")) for number, keys in enumerate(own)]
    await asyncio.gather(*(_work(*pair, pause, over) for pair in zip(clients, mixtures, strict=True)))
    report.ended = time.monotonic()
    telling.cancel()
    await asyncio.gather(*(_look(*pair, options.settle) for pair in zip(clients, own, strict=True)))
    for key in shared + [key for keys in own for _, key in keys.whole()]:
        checker.unexplained(key)
    for client in clients:
        await client.close()
    return report


async def _share(client: Client, keys: Keys, *, stale: bool) -> list[Key]:
    """The keys that all read; when it returns replicas have them too."""
    shared = [keys.key("read") for _ in range(_SHARED)]
    for key in shared:
        part = Part("SET", key, (b"shared value of %s" % key.name,))
        if not await client.ask([Command([part], "SET")]):
            raise ConnectionError(f"the load can not be set up: {client.report}")
        key.past.clear()
    if stale:
        await asyncio.sleep(_SPREAD)
    return shared


async def _work(client: Client, mixture: Mixture, pause: float, over: asyncio.Event) -> None:
    """One client's load."""
    due = time.monotonic() + random.random() * pause
    sizes: deque[int] = deque(maxlen=DEPTH - 1)
    while not over.is_set():
        commands = mixture.pipeline()
        sizes.append(len(commands))
        await client.ask(commands, leave=sum(sizes))
        # What was not sent while it had to wait is not made up for.
        due = max(due + pause, time.monotonic() - pause)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await client.ask([])


async def _look(client: Client, keys: Keys, settle: float) -> None:
    """Reads every key back. Errors, and what replicas have not got yet, are asked again for a while."""
    deadline = time.monotonic() + settle
    whole = keys.whole()
    for start in range(0, len(whole), _CHUNK):
        while True:
            old = client.report.old
            final = time.monotonic() > deadline
            commands = [Command([Part(name, key)], name) for name, key in whole[start : start + _CHUNK]]
            good = await client.ask(commands, final=final)
            if final or (good and client.report.old == old):
                break
            await asyncio.sleep(0.1)


def _until(seconds: float) -> asyncio.Event:
    """Set after so many seconds (0: never), and by SIGINT and SIGTERM."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    if seconds:
        loop.call_later(seconds, over.set)
    return over


async def _tell(report: Report) -> None:
    """A line a second."""
    while True:
        before = report.replies
        await asyncio.sleep(1)
        print(
            f"{time.monotonic() - report.started:6.1f} s {report.replies - before:6} replies, "
            f"{len(report.errors)} errors, {len(report.wrong)} wrong, {len(report.lost)} lost",
            flush=True,
        )


def _slots(text: str) -> range:
    """A type for argparse: "0-5460"."""
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


def main() -> int:
    """The exit code: 0 if every reply was right."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.load", description=__doc__.partition("\n")[0])
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=0.0, help="0: until Ctrl-C (the default)")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--rate", type=float, default=RATE, help="commands a second of all clients together")
    parser.add_argument("--slots", type=_slots, default=range(16384), metavar="FIRST-LAST", help="of the keys used")
    parser.add_argument("--stale", action="store_true", help="reads may come from replicas: earlier values are right")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="write what was seen to this file, JSON")
    options = vars(parser.parse_args())
    file: Path | None = options.pop("report")
    report = asyncio.run(run(Options(**options)))
    print(report)
    if file is not None:
        report.write(file)
    return int(not report.clean)


if __name__ == "__main__":
    sys.exit(main())
