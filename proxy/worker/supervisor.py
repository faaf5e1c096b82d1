"""The supervisor of several workers. The supervisor serves no client; it keeps the state that outlives a worker.

::

                       ┌──────────────── supervisor ────────────────┐
    SIGTERM, SIGINT ──▶│ listening sockets, shared_counts, pause,   │◀── the admin process
                       │ counters of workers that have ended        │
                       └──┬─────────────── channels ─────────────┬──┘
                          ▼                                      ▼
    clients ──▶  worker 0: a Service ...             worker 1: a Service ...  ──▶ backends

Each worker is a new Python process, not a fork of this one, because a running event loop can not be forked. A worker
inherits its end of the control channel and the sockets; its arguments and environment contain no secrets. A worker that
ends is started again, with the sockets and counts of its predecessor. When the supervisor ends, for whatever reason,
the channels are closed, and the workers drain and end too.
"""

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

from proxy import __version__, metrics
from proxy.client.shared_counts import SharedCounts, shared_file
from proxy.compiled import engine
from proxy.config import Config
from proxy.config.client_limits import PROTECTED
from proxy.errors import SlotgateError
from proxy.session.acl_users import Users
from proxy.session.cross_worker import Part, Pause, pause_asked
from proxy.transport import clock
from proxy.transport.listeners import Listeners, listen
from proxy.worker import logs
from proxy.worker.admin_port import AdminPort
from proxy.worker.child import WorkerProcess, start
from proxy.worker.configured_users import ChangedUsers, users_of
from proxy.worker.control_channel import Channel, ChannelError
from proxy.worker.draining import End
from proxy.worker.identity import Identity
from proxy.worker.metric_snapshot import Overview, Tally
from proxy.worker.reloading import Load, Reloading
from proxy.worker.report import Report, together
from proxy.worker.systemd import managed
from proxy.worker.watchdog import silence

log = logging.getLogger(__name__)

_YOUNG = 5.0
"""In seconds. If a worker ends earlier, its successor starts later, because it may end early too."""
_WAIT_MIN, _WAIT_MAX = 0.05, 5.0
_GRACE = 2.0
"""The seconds beyond ``drain_timeout`` that a worker may take to end before it is killed."""
_START = 60.0
"""The seconds that a worker may take to answer while it starts, if ``worker_patience`` is not longer."""
_WORKER = "proxy.worker.worker"


async def supervise(config: Config, load: Load, identity: Identity, given: Sequence[socket.socket]) -> None:
    """Serve ``config`` until a signal asks for the end; the ``given`` sockets listen already. Raises SlotgateError."""
    loop = asyncio.get_running_loop()
    addresses = [each.address for each in config.listening]
    listeners = listen(addresses, config.worker_count, config.limits.tcp_keepalive_seconds, given)
    try:
        supervisor = Supervisor(config, load, listeners, identity)
        admin = AdminPort(config, supervisor.look, supervisor.stuck)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.end.signalled)
        loop.add_signal_handler(signal.SIGHUP, supervisor.hung_up)
        async with admin.listening():
            tasks = supervisor.start()
            await supervisor.first_up()
            log_serving(config, listeners)
            async with managed(f"serves with {config.worker_count} workers"):
                await supervisor.end.asked.wait()
            admin.drain()
            await supervisor.end.delay(config.shutdown_delay)
            log.info("draining workers=%d timeout=%gs", config.worker_count, config.drain_timeout)
            # The listeners are closed first. Otherwise a new connection could wait for a worker that accepts none any
            # more.
            listeners.close()
            await supervisor.stop(tasks)
    finally:
        listeners.close()
    log.info("stopped")


def log_serving(config: Config, listeners: Listeners) -> None:
    """Log what is served, and at which addresses."""
    for listener in config.protected_listeners:
        log.warning("protected mode: %s", PROTECTED.format(listener.address))
    log.info(
        "serving version=%s engine=%s listen=%s admin=%s topology=%s read_from=%s workers=%d pid=%d",
        __version__,
        engine(),
        ",".join(map(str, listeners.addresses)),
        config.admin.address or "off",
        config.topology.kind,
        config.read_from,
        config.worker_count,
        os.getpid(),
    )


class Supervisor:
    """All workers: starts them, asks them, sends them messages, and starts them again when they end."""

    def __init__(self, config: Config, load: Load, listeners: Listeners, identity: Identity) -> None:
        self._config = config
        self._reloading = Reloading(config, load, self._configure, identity.config_file)
        self._identity = identity
        self._listeners = listeners
        self._workers = config.worker_count
        self._memory = shared_file(self._workers, len(config.listening))
        self._shared_counts = SharedCounts(self._workers, 0, self._memory, len(config.listening))
        self._members: dict[int, WorkerProcess] = {}
        self._lost = Tally()
        """The counters of workers that have ended."""
        self._restarts = 0
        self._stuck = 0
        """The number of workers that were killed because they did not answer."""
        self._pause: Pause | None = None
        """The pause of CLIENT PAUSE; its ``seconds`` are a time on this process's clock."""
        self._users = ChangedUsers(config)
        self.end = End()
        self._serving = asyncio.Event()
        """Set when the first worker serves."""
        self.stopping = asyncio.Event()
        """Set when the workers have been told to drain: from then on none is started again."""

    def __repr__(self) -> str:
        return f"Supervisor({list(self._members.values())}, {self._restarts} restarts)"

    # ---- processes

    def start(self) -> list[asyncio.Task[None]]:
        """Start all workers, and keep them running. The tasks end when the workers have ended, after ``stopping``."""
        tasks = [asyncio.create_task(self._keep(index), name=f"worker-{index}") for index in range(self._workers)]
        for task in tasks:
            # A task that ends before `stopping` has failed by a bug: `stop` raises its exception.
            task.add_done_callback(lambda _: self.end.drain())
        return tasks

    async def first_up(self) -> None:
        """Wait until a worker serves, or the end is asked for."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._serving, self.end.asked)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def hung_up(self) -> None:
        """Act on SIGHUP: the configuration is read again, and the workers open the audit log again."""
        for member in self._up_now():
            member.channel.tell("reopen")
        self._reloading.hung_up()

    async def _reload(self, dry: bool) -> list[str] | str:
        """Reload for a client, and return what has changed or the error."""
        try:
            return await self._reloading.said(dry)
        except SlotgateError as error:
            return str(error)

    def _configure(self, config: Config, users: Users | None) -> None:
        """Have all workers use another configuration, also those that start later."""
        self._config = config
        if users is not None:
            self._users = ChangedUsers(config, users)
        logs.configure(config.log.level, config.log.format)
        for member in self._up_now():
            member.configure(config, users)

    async def stop(self, tasks: list[asyncio.Task[None]]) -> None:
        """Tell all workers to drain, or to end at once if that is asked for, and kill those that do not end."""
        self.stopping.set()
        for member in self._members.values():
            member.channel.tell("drain")
        await self.end.outlast(tasks, self._config.drain_timeout + _GRACE)
        if self.end.at_once.is_set():
            for member in self._members.values():
                member.channel.tell("end")
            await asyncio.wait(tasks, timeout=_GRACE)
        for member in self._members.values():
            log.error("worker did not end, and is killed worker=%d pid=%d", member.index, member.process.pid)
            member.process.kill()
        await asyncio.gather(*tasks)

    async def _keep(self, index: int) -> None:
        wait = 0.0
        while True:
            began = time.monotonic()
            end = await self._live(index)
            if self.stopping.is_set() or (self.end.asked.is_set() and end.endswith(" exit=0")):
                return  # the signal that has asked for the end reached the worker too
            lived = time.monotonic() - began
            wait = 0.0 if lived > _YOUNG else min(max(2 * wait, _WAIT_MIN), _WAIT_MAX)
            log.error("worker ended worker=%d %s lived=%.1fs restart_in=%gs", index, end, lived, wait)
            with contextlib.suppress(TimeoutError):
                # The code does not use wait_for, which can lose the cancellation of its task before Python 3.12.
                async with asyncio.timeout(wait):
                    await self.stopping.wait()
                return
            self._restarts += 1

    async def _live(self, index: int) -> str:
        """Run one worker until it ends, and return how it ended."""
        try:
            member = await self._spawn(index)
        except OSError as error:
            return f"error={error.strerror!r}"
        watching = asyncio.create_task(self._watch(member), name=f"watch worker-{index}")
        try:
            await member.channel.run()
        finally:
            watching.cancel()
        await self._collect(member)
        code = member.process.returncode
        return f"pid={member.process.pid} " + (f"exit={code}" if code >= 0 else f"signal={signal.Signals(-code).name}")

    async def _watch(self, member: WorkerProcess) -> None:
        """Kill a worker that does not answer. It is started again like any worker that ends."""
        patience = max(self._config.worker_patience, _START)
        try:
            async with clock.timeout(patience):
                await member.serving.wait()
        except TimeoutError:
            pass
        else:
            patience = self._config.worker_patience
            await silence(member.channel, patience)
        log.error(
            "worker is stuck, and is killed worker=%d pid=%d silent=%gs", member.index, member.process.pid, patience
        )
        self._stuck += 1
        member.process.kill()

    async def _spawn(self, index: int) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        sockets = [(position, each.fileno()) for position, each in self._listeners.of(index)]
        try:
            process = start(
                _WORKER, f"slotgate-worker-{index}", theirs.fileno(), [self._memory, *(number for _, number in sockets)]
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        member = WorkerProcess(index, process, self._config)
        told = {
            "config": b64encode(pickle.dumps(self._config)).decode(),
            "index": index,
            "workers": self._workers,
            "sockets": sockets,
            "shared_counts": self._memory,
            "identity": asdict(self._identity),
            "supervisor": os.getpid(),
        }
        member.channel = await Channel.open(
            ours,
            {
                "start": lambda _: told,
                "up": lambda body: self._up(member, body),
                "report": lambda body: self._reported(member, body),
                "wide": lambda body: self._wide(member, body),
                "reload": self._reload,
                "alive": lambda _: True,
            },
        )
        self._members[index] = member
        if self.stopping.is_set():
            member.channel.tell("drain")
        return member

    async def _collect(self, member: WorkerProcess) -> None:
        """Wait for the process of a worker whose channel has ended, and keep its counters."""
        try:
            await asyncio.wait_for(asyncio.to_thread(member.process.wait), _GRACE)
        except TimeoutError:
            member.process.kill()
            await asyncio.to_thread(member.process.wait)
        del self._members[member.index]
        self._shared_counts.bury(member.index)
        if member.report is not None:
            self._lost.include(member.report.tally.lasting())

    # ---- messages from workers

    def _up(self, member: WorkerProcess, report: Mapping[str, Any]) -> None:
        """Handle a worker that is about to serve. It is told the current pause first, and later pauses afterwards."""
        member.report = Report.of_plain(report)
        member.serving.set()
        self._serving.set()
        if member.config is not self._config:  # it was read again while the worker started
            member.configure(self._config, None if self._config.aclfile else users_of(self._config))
        left = self._pause.seconds - time.monotonic() if self._pause is not None else 0.0
        if self._pause is not None and left > 0:
            mode = "WRITE" if self._pause.writes_only else "ALL"
            member.channel.tell("part", ("client|pause", 0, ("CLIENT", "PAUSE", str(ceil(left * 1000)), mode)))
        for part in self._users.parts():
            member.channel.tell("part", part)

    def _reported(self, member: WorkerProcess, report: Mapping[str, Any]) -> None:
        member.report = Report.of_plain(report)

    async def _wide(self, member: WorkerProcess, body: tuple[str, int, Sequence[str]]) -> list[Part]:
        """Carry out a command about all clients in all workers except ``member``; return their parts."""
        name, _, args = body
        if name == "client|pause":
            asked = pause_asked([arg.encode("latin-1") for arg in args])
            assert isinstance(asked, Pause)
            now = time.monotonic()
            held = self._pause if self._pause is not None and self._pause.seconds > now else None
            self._pause = Pause(now + asked.seconds, asked.writes_only).joined(held)
        elif name == "client|unpause":
            self._pause = None
        self._users.note(body)
        answers = await self._ask([other for other in self._up_now() if other is not member], "part", body)
        return list(answers.values())

    # ---- questions to workers

    def _up_now(self) -> list[WorkerProcess]:
        return [member for member in self._members.values() if member.report is not None]

    async def _ask(self, members: Sequence[WorkerProcess], kind: str, body: object = None) -> dict[WorkerProcess, Any]:
        """Return the answers of the workers that answer in time."""
        answers = await asyncio.gather(*(member.channel.ask(kind, body) for member in members), return_exceptions=True)
        found: dict[WorkerProcess, Any] = {}
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, TimeoutError):
                if not member.silent:
                    log.warning("worker does not answer worker=%d pid=%d", member.index, member.process.pid)
                member.silent = True
            elif isinstance(answer, ChannelError):
                continue  # the worker is ending, which is logged when it has ended
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[member] = answer
                member.silent = False
        return found

    async def look(self) -> Overview:
        """Return the state of the workers. A silent worker counts with its last report, and is named as a reason."""
        asked = self._up_now()
        # A worker's report arrives before its answer, over the same channel as the reports that were not asked for.
        answers = await self._ask(asked, "report")
        reports = {member.index: member.report for member in self._members.values() if member.report is not None}
        overview = together(list(reports.values()))
        overview.tally.include(self._lost)
        overview.tally.add(metrics.RESTARTS, self._restarts)
        self._reloading.count(overview.tally)
        overview.tally.add(metrics.STUCK, self._stuck)
        reasons = [f"worker {index} is not running" for index in range(self._workers) if index not in reports]
        reasons += [f"worker {member.index} does not answer" for member in asked if member not in answers]
        return Overview(overview.tally, overview.readiness.with_workers(reasons), overview.topology)

    async def stuck(self, patience: float) -> str:
        """Return why the clients of all workers wait; "" if at least one worker answers within ``patience`` seconds.

        As long as one worker answers, this process should not be restarted: the worker's clients would lose their
        connections."""
        asked = [asyncio.create_task(member.channel.ask("alive", timeout=patience)) for member in self._up_now()]
        try:
            for answer in asyncio.as_completed(asked):
                with contextlib.suppress(TimeoutError, ChannelError):
                    await answer
                    return ""
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return f"none of {len(asked)} workers answers" if asked else ""
