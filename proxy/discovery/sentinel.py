"""The topology that sentinels know: they are asked for it, and their events are followed.

::

    sentinels ──events──▶ Subscription, one for each ──▶ the sentinel that published is asked at once
        ▲                                                      │
        └────── all are asked: regularly, after a hint ────────┤
                                                               ▼
                        SentinelReport ──▶ Trust ──▶ Chart ──▶ Topology ──▶ adopt

A sentinel that leads a failover publishes that about a tenth of a second before the replica is promoted, while the old
primary goes on taking writes for seconds, which are lost. So ``hold`` holds the shard's requests from then on until the
new primary is adopted.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from proxy.backends.connection import reason
from proxy.backends.handshake import Credentials
from proxy.backends.query import ask
from proxy.config import Config
from proxy.discovery import replication
from proxy.discovery.odd import Told
from proxy.discovery.sentinelchart import Chart, WatchedMaster
from proxy.discovery.sentineltrust import Trust
from proxy.discovery.sentinelview import UNDECIDED, NoSentinel, SentinelReport, is_old, questions, read, read_event
from proxy.discovery.source import Adopt, Pace, Unlisted
from proxy.discovery.subscription import Subscription
from proxy.errors import BackendError
from proxy.metrics import Counters
from proxy.sharding.topology import Node, Topology
from proxy.transport.tls import sentinel_tls

log = logging.getLogger(__name__)

Hold = Callable[[str, float | None], None]
"""A callback with a shard's name that holds its requests for at most so many seconds from now, or releases them (None).
"""

HOLD = 5.0
"""Seconds of a hold, which is renewed as long as the failover goes on. The sentinel sees the promotion within about one
second."""
_GAP = 0.02
"""Seconds between two looks after events: several events that are published together cause one look."""
_EAGER = 15.0
"""Seconds after a change in which the sentinels are asked often, since they learn of replicas gradually."""


class SentinelSource(Unlisted):
    """Follows the masters of ``config.sentinel``; ``credentials`` are for their servers."""

    def __init__(self, config: Config, counters: Counters, hold: Hold, credentials: Credentials | None = None) -> None:
        section = config.sentinel
        password = section.password.get_secret_value() if section.password else ""
        self._credentials = Credentials(section.username or "", password, sentinel_tls(config))
        self._masters = section.masters
        self._configured = tuple(Node(address.host, address.port) for address in section.sentinels)
        self._remap = config.topology.remap
        self._patience = config.backend.connect_timeout
        self._counters = counters
        self._hold = hold
        self._pace = Pace(config.topology.refresh)
        self._chart = Chart(section.masters)
        self._of_servers = credentials or Credentials()
        self._reports: dict[Node, SentinelReport] = {}
        """The latest report of each sentinel, believed or not."""
        self._trust = Trust(self._configured)
        self._believed: dict[Node, SentinelReport] = {}
        """The latest report of each sentinel, with only the masters about which it is believed."""
        self._servers: dict[str, Collection[Node]] = {}
        """The servers of each master, by master."""
        self._denied: set[str] = set()
        """The masters whose primary contradicts sentinels that are believed."""
        self._run_ids: dict[str, tuple[Node, str]] = {}
        """The primary of each master and its run id, by master."""
        self._distrusted: dict[Node, tuple[str, ...]] = {}
        """The masters about which a sentinel is not believed, by sentinel."""
        self._oddities = Told(log)
        self._leading: dict[str, tuple[Node, float]] = {}
        """The sentinel that leads the failover, and the time since which requests are held, by master."""
        self._news: dict[Node, None] = {}
        self._told = asyncio.Event()
        self._listeners: dict[Node, asyncio.Task[None]] = {}
        self._silent: set[Node] = set()
        """The sentinels that can not be asked."""
        self._deaf = False
        self._missing: Collection[str] = ()
        self._looked = asyncio.Event()
        """Set when all sentinels have been asked once; before that, one that lags could be believed alone."""
        self._eager_until = 0.0
        self._seats: Mapping[str, WatchedMaster] = {}
        self._topology = Topology.unknown()

    def hint(self, node: Node | None = None) -> None:
        """Ask the sentinels soon, since the topology may have changed."""
        self._pace.hint(node)

    async def run(self, adopt: Adopt) -> None:
        """Follow the topology; never returns."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_looking(adopt), name="ask sentinels")
                group.create_task(self._follow_news(adopt), name="follow sentinels")
        finally:
            for task in self._listeners.values():
                task.cancel()

    # ---- when to ask, and which sentinels

    async def _keep_looking(self, adopt: Adopt) -> None:
        while True:
            await self._pace.wait()
            await self._look(None, adopt)
            self._looked.set()

    async def _follow_news(self, adopt: Adopt) -> None:
        await self._looked.wait()
        while True:
            await self._told.wait()
            self._told.clear()
            news, self._news = list(self._news), {}
            await self._look([node for node in news if node in self._listeners], adopt)
            await asyncio.sleep(_GAP)

    def _on_change(self, node: Node) -> None:
        self._news[node] = None
        self._told.set()

    def _on_message(self, node: Node, channel: bytes, message: bytes) -> None:
        event = read_event(channel, message)
        if event.master not in self._masters:
            return
        log.debug("sentinel event address=%s event=%s about=%r", node, event.what, message.decode("utf-8", "replace"))
        if event.begins:
            if node in self._believed and event.master in self._believed[node].masters:
                self._begin(event.master, node)
        elif event.aborts and self._leading.get(event.master, (None,))[0] == node:
            self._end(event.master)
        self._on_change(node)

    def _begin(self, name: str, node: Node) -> None:
        if name not in self._leading:
            log.info("failover begins shard=%s sentinel=%s: its requests are held until it is over", name, node)
        self._leading[name] = (node, asyncio.get_running_loop().time())
        self._hold(name, HOLD)

    def _end(self, name: str) -> None:
        if self._leading.pop(name, None) is not None:
            self._hold(name, None)

    # ---- a look

    async def _look(self, nodes: Sequence[Node] | None, adopt: Adopt) -> None:
        """Ask some sentinels, or all, and also those that they name and that were unknown."""
        began = asyncio.get_running_loop().time()
        asked: set[Node] = set()
        try:
            await self._gather(nodes, asked)
            self._judge(adopt)
        except Exception:
            # A bug in one look must not end the discovery.
            log.exception("the sentinels' reports can not be used reports=%r", self._reports)
        self._watch_failovers(asked, began)
        eager = self._chart.unsettled and began < self._eager_until
        if self._leading or self._chart.doubtful or self._trust.forsaken or self._denied or eager:
            # More changes are about to come, possibly without an event.
            self._pace.hint()

    async def _gather(self, nodes: Sequence[Node] | None, asked: set[Node]) -> None:
        """Get the reports of ``nodes``, or of all sentinels; the sentinels asked are added to ``asked``."""
        self._listen()
        wanted = list(self._listeners if nodes is None else nodes)
        while wanted:
            asked.update(wanted)
            await asyncio.gather(*(self._ask(node) for node in wanted))
            await self._believe()
            self._listen()
            wanted = [node for node in self._listeners if node not in self._reports and node not in asked]
            wanted = [node for node in wanted if node not in self._silent]

    async def _ask(self, node: Node) -> None:
        try:
            replies = await ask(node, self._credentials, questions(self._masters), self._patience)
            if is_old(replies):
                replies = await ask(node, self._credentials, questions(self._masters, "SLAVES"), self._patience)
            report = self._reports[node] = read(node, self._masters, replies, self._remap)
            self._oddities.tell(node, report.odd)
        except (OSError, TimeoutError, ValueError, BackendError, NoSentinel) as error:
            self._reports.pop(node, None)
            if node not in self._silent:
                log.warning("sentinel can not be asked address=%s reason=%r", node, reason(error, self._patience))
            self._silent.add(node)
        else:
            if node in self._silent:
                log.info("sentinel answers again address=%s", node)
            self._silent.discard(node)

    def _listen(self) -> None:
        """Subscribe to the configured sentinels and those that they name, to each once."""
        known = {report.id for node, report in self._believed.items() if node in self._configured and report.masters}
        wanted = dict.fromkeys(self._configured)
        for report in self._believed.values():
            for master in report.masters.values():
                wanted |= {node: None for identity, node in master.peers.items() if identity not in known}
        if not any(report.masters for report in self._believed.values()):
            # No report names the sentinels, so the present subscriptions stay.
            wanted |= dict.fromkeys(self._listeners)
        for node in [node for node in self._listeners if node not in wanted]:
            self._listeners.pop(node).cancel()
            self._reports.pop(node, None)
            self._believed.pop(node, None)
            self._distrusted.pop(node, None)
            self._silent.discard(node)
        for node in wanted:
            if node not in self._listeners:
                subscription = Subscription(node, self._credentials, self._patience, self._on_message, self._on_change)
                self._listeners[node] = asyncio.create_task(subscription.run(), name=f"listen to sentinel {node}")

    # ---- using the reports

    async def _believe(self) -> None:
        """Decide which of the reports are believed."""
        for name in self._trust.forsaken:
            if await self._is_what_it_was(name):
                self._trust.deny(name, asyncio.get_running_loop().time())
        believed = self._trust.believed(self._reports, self._servers, asyncio.get_running_loop().time())
        for name in self._masters:
            await self._confirm(name, believed)
        self._believed = believed
        for node, report in self._reports.items():
            counted = believed[node].masters if node in believed else {}
            names = tuple(name for name in report.masters if name not in counted)
            if names and names != self._distrusted.get(node):
                log.error(
                    "sentinel is not believed address=%s masters=%s: the other sentinels do not know it, or it watches "
                    "other servers than they do",
                    node,
                    ",".join(names),
                )
            elif not names and node in self._distrusted:
                log.info("sentinel is believed now address=%s", node)
            self._distrusted.pop(node, None)
            if names:
                self._distrusted[node] = names

    async def _confirm(self, name: str, believed: dict[Node, SentinelReport]) -> None:
        """Reject a new primary that was not one of the master's servers, while the present primary says that it was not
        replaced. Sentinels believe such a report from any sentinel that lists one of them."""
        views = {node: report.masters[name] for node, report in believed.items() if name in report.masters}
        seat = self._chart.seats.get(name)
        odd = {
            node
            for node, master in views.items()
            if seat is not None and master.epoch > seat.epoch and master.node not in self._servers[name]
        }
        self._denied.discard(name)
        if odd and await self._is_what_it_was(name):
            self._denied.add(name)
            for node in odd:
                report = believed[node]
                masters = {other: master for other, master in report.masters.items() if other != name}
                believed[node] = replace(report, masters=masters)
                del views[node]
        if views:
            self._servers[name] = {server for master in views.values() for server in master.servers}
            for master in views.values():
                if master.run_id:
                    self._run_ids[name] = (master.node, master.run_id)

    async def _is_what_it_was(self, name: str) -> bool:
        """Whether the primary reports that role, and has the same run id as before."""
        seat = self._chart.seats.get(name)
        node, run_id = self._run_ids.get(name, (None, ""))
        if seat is None or node != seat.node:
            return False
        try:
            said = await ask(seat.node, self._of_servers, replication.QUESTIONS, self._patience)
        except (OSError, TimeoutError, ValueError, BackendError):
            return False
        answer = replication.read(said, self._remap)
        return isinstance(answer, replication.Answer) and answer.primary and answer.id == run_id

    def _judge(self, adopt: Adopt) -> None:
        now = asyncio.get_running_loop().time()
        reports = {report.id: report for report in self._believed.values()}.values()
        if not reports:
            self._counters.refresh("failed")
            if not self._deaf:
                log.error("no sentinel answers: check sentinel.sentinels, their password and the network")
            self._deaf = True
            return
        self._deaf = False
        self._chart.take(reports, now)
        self._report_missing(self._reports.values())
        topology, doubled = self._chart.topology(self._topology.epoch + 1)
        if (topology.shards, topology.slot_shard) == (self._topology.shards, self._topology.slot_shard):
            self._counters.refresh("same")
            return
        self._counters.refresh("changed")
        self._eager_until = now + _EAGER
        before, self._seats = self._seats, dict(self._chart.seats)
        self._tell(before, self._seats)
        for name in doubled:
            primary = self._seats[name].node
            log.error("two masters have one primary %s: shard=%s has no slots until that changes", primary, name)
        self._topology = topology
        adopt(topology)

    def _report_missing(self, reports: Collection[SentinelReport]) -> None:
        missing = self._chart.unknown(reports)
        for name in missing:
            if name not in self._missing:
                log.error(
                    "no sentinel knows a master called %r: check sentinel.masters against "
                    "`redis-cli -p 26379 SENTINEL MASTERS` says",
                    name,
                )
        self._missing = missing

    def _tell(self, before: Mapping[str, WatchedMaster], after: Mapping[str, WatchedMaster]) -> None:
        for name, seat in after.items():
            old = before.get(name)
            replicas = ",".join(map(str, seat.replicas)) or "none"
            if old is None:
                log.info("master found shard=%s primary=%s replicas=%s", name, seat.node, replicas)
            elif old.node != seat.node:
                log.warning("failover shard=%s primary=%s was=%s replicas=%s", name, seat.node, old.node, replicas)
            elif old.replicas != seat.replicas:
                log.info("replicas changed shard=%s replicas=%s", name, replicas)

    def _watch_failovers(self, asked: Collection[Node], began: float) -> None:
        """Renew the hold as long as the sentinel that leads a failover reports it, and end it when it is over."""
        for node in asked:
            # The events of a sentinel may have been missed while its subscription was down.
            for name, master in self._believed[node].masters.items() if node in self._believed else ():
                if master.step in UNDECIDED and name not in self._leading:
                    self._begin(name, node)
        for name, (node, since) in list(self._leading.items()):
            report = self._believed.get(node)
            if node not in asked or since > began:
                continue
            if report is None or name not in report.masters:
                # The sentinel is down, and its failover with it, but it may have promoted the replica already. The hold
                # ends by its time.
                del self._leading[name]
            elif report.masters[name].step in UNDECIDED:
                self._hold(name, HOLD)
            else:
                self._end(name)
