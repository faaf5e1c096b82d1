"""One of several workers: a process that the supervisor starts by this module's name, to do what ``server`` does alone.

The process inherits its end of the control channel only, and asks the supervisor for everything else::

    worker                                     supervisor
      "start"   ─────────────────────────────▶
                ◀──── configuration, sockets, shared_counts
      asks the backends for their facts
      "up"      ─────────────────────────────▶  from here on the supervisor asks this worker
                ◀──── the current pause, if there is one: a "part"
      serves; "report" every second  ────────▶
                ◀──── "report": the worker reports now; "alive": the answer shows that its loop runs
      "wide"    ─────────────────────────────▶  "part" ──▶ the other workers
                ◀──── their parts
      "reload"  ─────────────────────────────▶  reads the configuration again
                ◀──── what has changed, or the error
                ◀──── "configure": another configuration; "reopen": the audit log is opened again
      "alive"   ─────────────────────────────▶  shows that the supervisor's loop runs
                ◀──── "drain", or the end of the channel: the worker's clients leave, and the worker ends
                ◀──── "end": the worker ends at once

The supervisor handles the signals. Ctrl-C and a hang-up, which reach the whole group, are ignored here. SIGTERM
drains.
"""

import asyncio
import logging
import os
import pickle
import signal
import socket
from base64 import b64decode
from collections.abc import Callable, Sequence

import uvloop

from proxy.client.shared_counts import SharedCounts
from proxy.errors import SlotgateError
from proxy.session.commands import PARTS
from proxy.session.cross_worker import Args, Part
from proxy.sharding.topology import build_topology
from proxy.transport import descriptors
from proxy.transport.transports import best_transports
from proxy.worker import logs
from proxy.worker.control_channel import TIMEOUT, Channel, ChannelError, Handler
from proxy.worker.draining import End, drain
from proxy.worker.identity import Identity
from proxy.worker.report import take
from proxy.worker.server import accept, at_work, settle
from proxy.worker.service import Service
from proxy.worker.watchdog import watch_supervisor

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""The seconds that the supervisor may take to answer a worker that starts."""
_REPORT_EVERY = 1.0
"""The seconds between two reports. When a worker is killed, the counts since its last report are lost."""


def main(control: int) -> int:
    """Serve as the supervisor at the other end of the socket ``control`` says, and return the exit code."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(work(socket.socket(fileno=control)))
    return 0


async def work(control: socket.socket) -> None:
    """Serve in the running loop until the supervisor asks for the end, the supervisor ends, or SIGTERM arrives."""
    loop = asyncio.get_running_loop()
    end = End()
    loop.add_signal_handler(signal.SIGTERM, end.signalled)
    # The supervisor started this process with its signals blocked, because until now no handler could answer them.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    worker = Worker(end)
    channel = await Channel.open(control, worker.handlers)
    listening = loop.create_task(channel.run())
    listening.add_done_callback(lambda _: end.drain())
    try:
        await worker.serve(channel)
    except (ChannelError, TimeoutError):
        log.warning("the supervisor is gone, or does not answer")
    finally:
        await channel.close()
        await asyncio.gather(listening, return_exceptions=True)


class Worker:
    """Answers the supervisor's questions to this process, and sends questions of clients here to the other workers."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._tasks: set[asyncio.Task[None]] = set()
        self._service: Service
        self._channel: Channel
        self.handlers: dict[str, Handler] = {
            "drain": lambda _: self._end.drain(),
            "end": lambda _: self._end.now(),
            "report": self._report,
            "part": self._part,
            "reopen": self._reopen,
            "configure": self._configure,
            "alive": lambda _: True,
        }

    async def serve(self, channel: Channel) -> None:
        """Serve until the end is asked for. Raises ChannelError and TimeoutError if the supervisor does not answer."""
        start = await channel.ask("start", timeout=_PATIENCE)
        config = pickle.loads(b64decode(start["config"]))
        logs.configure(config.log.level, config.log.format, start["index"])
        settle()
        shared_counts = SharedCounts(start["workers"], start["index"], start["shared_counts"], len(config.listening))
        self._channel = channel
        self._service = service = Service(
            config,
            build_topology(config),
            shared_counts=shared_counts,
            transports=best_transports(asyncio.get_running_loop()),
            files=descriptors.raise_limit(),
            identity=Identity(**start["identity"]),
        )
        service.siblings = self
        service.world.reload = self._reload
        async with at_work(service):
            await channel.ask("up", take(service).plain(), timeout=_PATIENCE)
            headers = await accept(
                service, [(position, socket.socket(fileno=number)) for position, number in start["sockets"]]
            )
            log.info("serving pid=%d", os.getpid())
            tasks = [
                service.loop.create_task(self._keep_reporting()),
                service.loop.create_task(watch_supervisor(channel, start["supervisor"], config.worker_patience)),
            ]
            await self._end.asked.wait()
            # Only a signal to this process is followed by the delay: the supervisor has waited already.
            await self._end.delay(config.shutdown_delay)
            await drain(service, headers, self._end)
            for task in tasks:
                task.cancel()
        self._report(None)
        log.info("stopped")

    def _reopen(self, _: object) -> None:
        """Open the audit log again, as the supervisor has got SIGHUP."""
        audit = self._service.world.denials.audit
        if audit is not None:
            audit.reopen()

    async def _reload(self, dry: bool) -> list[str]:
        """Have the supervisor read the configuration again. Raises SlotgateError."""
        try:
            answer = await self._channel.ask("reload", dry, timeout=_PATIENCE)
        except (ChannelError, TimeoutError) as error:
            raise SlotgateError(str(error) or "the supervisor does not answer") from None
        if isinstance(answer, str):
            raise SlotgateError(answer)
        return list(answer)

    def _configure(self, body: str) -> None:
        """Use another configuration, which the supervisor has read again."""
        config, users = pickle.loads(b64decode(body))
        logs.configure(config.log.level, config.log.format, self._service.shared_counts.index)
        self._service.reconfigure(config, users)

    def ask(self, name: str, args: Args, caller: int, then: Callable[[Sequence[Part]], None]) -> None:
        """Have the other workers carry out their parts of a command (``Siblings``)."""
        task = self._service.loop.create_task(self._ask(name, args, caller, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, name: str, args: Args, caller: int, then: Callable[[Sequence[Part]], None]) -> None:
        parts: Sequence[Part] = ()
        try:
            body = [name, caller, [arg.decode("latin-1") for arg in args]]
            parts = await self._channel.ask("wide", body, timeout=2 * TIMEOUT)
        except (ChannelError, TimeoutError) as error:
            log.warning("the other workers were not asked command=%s reason=%r", name, str(error))
        then(parts)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            self._report(None)

    # ---- questions from the supervisor

    def _report(self, _: object) -> None:
        """Send a report, also when asked for one: as a message, so that reports arrive in order."""
        self._channel.tell("report", take(self._service).plain())

    def _part(self, body: tuple[str, int, Sequence[str]]) -> asyncio.Future[Part]:
        name, caller, args = body
        service = self._service
        part = PARTS[name](service.world, caller, [arg.encode("latin-1") for arg in args], service.turn.now())
        return service.slices.wait(part)
