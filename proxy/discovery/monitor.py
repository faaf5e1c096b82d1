"""Monitors the servers that may be read from: each is sent ROLE several times a second.

Every worker monitors for itself, over one connection to each server beside those of the data path. A primary is asked
at the beginning of a period and its replicas in the middle, so that a replica that keeps up has reached its primary's
newest sample when it is asked. ``proxy.backends.replica_lag`` computes the lag from the answers.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from functools import partial

from proxy.backends.handshake import IDENTITY, Credentials, refused_identity
from proxy.backends.query import Line
from proxy.backends.replica_lag import Fault, Sight, Timeline, read_role
from proxy.errors import BackendError
from proxy.sharding.topology import Node, Shard, Topology
from proxy.transport.clock import timeout

log = logging.getLogger(__name__)

_SHORTEST = 0.05
_LONGEST = 0.25
_PERIODS_OF_LAG = 4
_GRACE = 2
"""The number of periods for which an answer is valid."""
_PATIENCE = 2.0
"""Seconds that an answer may take on one connection; then the server is asked over another one."""
_PAUSE = 2
"""Periods between two attempts to reach an unreachable server."""
_KEPT_OVER_LAG = 500
"""The number of samples of a primary that are kept over the greatest lag allowed."""
_QUESTION = (("ROLE",),)

OnChange = Callable[[list[Node]], None]
"""A callback for when other servers are fit for reads or nearer; its argument are the servers that just stopped
answering."""


class Monitor:
    """Decides which servers are fit for reads (``proxy.backends.replica_lag.Fitness``), while ``run`` runs.

    ``topology`` returns the snapshot in use. ``most`` is the greatest lag of a replica in seconds; a server that does
    not answer for so long is not read from either. Until its first answer a server is fit if it is connected. ``hint``
    is called when the topology may have changed. ``stranger`` is called with a node and its id, see
    ``proxy.backends.handshake.Stranger``; None if servers have no ids.
    """

    def __init__(
        self,
        topology: Callable[[], Topology],
        credentials: Credentials,
        connect_timeout: float,
        most: float,
        clock: Callable[[], float],
        on_change: OnChange,
        hint: Callable[[Node | None], None],
        stranger: Callable[[Node, str], str] | None = None,
    ) -> None:
        self._topology = topology
        self._credentials = credentials
        self._connect_timeout = connect_timeout
        self._most = most
        self._clock = clock
        self._on_change = on_change
        self._hint = hint
        self._stranger = stranger
        self._period = min(max(most / _PERIODS_OF_LAG, _SHORTEST), _LONGEST)
        self._seen: Topology | None = None
        self._begun = clock()
        self._watches: dict[Node, _Watch] = {}
        self._timelines: dict[tuple[str, Node], Timeline] = {}

    # ---- what is known

    def reason(self, node: Node) -> str:
        """The reason not to read from ``node``; empty if it is fit for reads."""
        watch = self._watches.get(node)
        return watch.reason if watch else ""

    def fit(self, node: Node) -> bool:
        """Whether ``node`` is fit for reads."""
        return not self.reason(node)

    def spare(self, node: Node) -> bool:
        """Whether ``node`` may be read from if no other server is fit: its link is down, but its lag not too great."""
        watch = self._watches.get(node)
        return watch is None or watch.fault in (Fault.NONE, Fault.LINK)

    def distance(self, node: Node) -> float:
        """The round trip to ``node`` in seconds; infinite if it is unknown."""
        watch = self._watches.get(node)
        return watch.sight.distance if watch else math.inf

    def lags(self) -> Iterator[tuple[str, Node, float]]:
        """The replicas that have answered: (the shard's name, the replica, its lag in seconds)."""
        now = self._clock()
        for node, watch in self._watches.items():
            if not watch.primary and watch.sight.role is not None:
                yield watch.shard.name, node, watch.sight.behind(now, _GRACE * self._period)

    # ---- the watch

    async def run(self) -> None:
        """Monitor the servers; never returns."""
        late = False
        try:
            self._follow(self._topology())
            while True:
                due = self._clock() + self._period
                await asyncio.sleep(self._period)
                self._follow(self._topology())
                # If the process was stalled, the answers that came meanwhile are read before they are judged.
                late = not late and self._clock() > due + self._period
                if late:
                    continue
                try:
                    self._judge()
                except Exception:
                    # A bug in one judgement must not end the monitoring.
                    log.exception("watch failed")
        finally:
            for watch in self._watches.values():
                watch.task.cancel()
            await asyncio.gather(*(watch.task for watch in self._watches.values()), return_exceptions=True)
            self._watches.clear()

    def _follow(self, topology: Topology) -> None:
        """Watch the servers of ``topology``, each in its role."""
        if topology is self._seen:
            return
        self._seen = topology
        wanted = {node: shard for shard in topology.shards if shard.replicas for node in shard.nodes}
        for node, watch in list(self._watches.items()):
            if node in wanted:
                watch.move(wanted[node])
            else:
                watch.task.cancel()
                del self._watches[node]
        known = self._timelines
        self._timelines = {
            (shard.name, shard.primary): known.get((shard.name, shard.primary)) or Timeline(self._most / _KEPT_OVER_LAG)
            for shard in topology.shards
        }
        for node, shard in wanted.items():
            if node not in self._watches:
                self._watches[node] = watch = _Watch(node, shard, self._clock())
                watch.task = asyncio.get_running_loop().create_task(self._watch(watch), name=f"watch {node}")

    def _judge(self) -> None:
        """Decide which servers are fit, and log and report the changes."""
        now = self._clock()
        changed = False
        silent: list[Node] = []
        for node, watch in self._watches.items():
            fault, watch.reason = watch.sight.judge(watch.primary, now, self._most, _GRACE * self._period)
            changed |= watch.sight.measure()
            if fault is watch.fault:
                continue
            changed = True
            if fault is Fault.SILENT:
                silent.append(node)
            if fault in (Fault.SILENT, Fault.LINK):
                self._hint(None)  # a replica sees the beginning of a failover so
            if fault is Fault.NONE:
                log.info("server is fit for reads again shard=%s address=%s", watch.shard.name, node.address)
            else:
                log.warning(
                    "server is not fit for reads shard=%s address=%s reason=%r",
                    watch.shard.name,
                    node.address,
                    watch.reason,
                )
            watch.fault = fault
        if changed:
            self._on_change(silent)

    async def _watch(self, watch: "_Watch") -> None:
        line = Line(watch.node, self._credentials)
        try:
            while True:
                await self._next(0.0 if watch.primary else 0.5)
                try:
                    if not line.connected:
                        async with timeout(self._connect_timeout):
                            await self._connect(line, watch.node)
                    asked = self._clock()
                    async with timeout(_PATIENCE):
                        reply = (await line.ask(_QUESTION))[0]
                except (OSError, TimeoutError, ValueError, BackendError) as error:
                    # ValueError is raised for a host that is not a valid name.
                    watch.sight.trouble = str(error) or "no answer in time"
                    await asyncio.sleep(_PAUSE * self._period)
                else:
                    self._take(watch, reply, asked)
        finally:
            line.close()

    async def _connect(self, line: Line, node: Node) -> None:
        """Connect ``line`` to ``node``. Raises BackendError for a stranger, whose answers do not count."""
        if self._stranger is None:
            await line.connect()
            return
        (identity,) = await line.connect((IDENTITY,))
        if words := refused_identity(identity, partial(self._stranger, node)):
            line.close()
            raise BackendError(words)

    async def _next(self, phase: float) -> None:
        """Wait until ``phase`` of the next period (0 is its beginning, 1 its end)."""
        at = (self._clock() - self._begun) / self._period - phase
        await asyncio.sleep((math.floor(at) + 1 - at) * self._period)

    def _take(self, watch: "_Watch", reply: object, asked: float) -> None:
        now = self._clock()
        role = read_role(reply)
        timeline = self._timelines[watch.shard.name, watch.shard.primary]
        if role is None and not watch.puzzled:
            watch.puzzled = True
            log.warning(
                "server does not tell its role, so its lag is unknown shard=%s address=%s answer=%r",
                watch.shard.name,
                watch.node.address,
                str(reply),
            )
        if watch.primary and role is not None and role.primary and role.offset is not None:
            timeline.add(asked, role.offset)
        watch.sight.answer(role, asked, now, timeline)


class _Watch:
    """The state of one monitored server."""

    def __init__(self, node: Node, shard: Shard, now: float) -> None:
        self.node = node
        self.shard = shard
        self.sight = Sight(now)
        self.fault = Fault.NONE
        self.reason = ""
        self.puzzled = False
        self.task: asyncio.Task[None]

    def move(self, shard: Shard) -> None:
        """Move the server to ``shard``; answers that it gave as a primary do not count for a replica."""
        if (self.node == shard.primary) != self.primary:
            self.sight.forget()
        self.shard = shard

    @property
    def primary(self) -> bool:
        """Whether the server should be the primary of its shard."""
        return self.node == self.shard.primary
