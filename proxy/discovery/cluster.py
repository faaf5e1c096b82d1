"""The topology of a Redis Cluster: one of its nodes is asked again and again, and others where its answer is doubted.

::

    hint, refresh ──▶ Pace ──▶ one node ──▶ View ──▶ judge ──▶ ClusterMap ──▶ seats ──▶ Topology ──▶ adopt
                                                      │ a claim that is no newer than what is known
                                                      └──▶ the owner known so far, and others ──▶ Views ──▶ judge
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from proxy.config import Config
from proxy.control import ask
from proxy.discovery.clustermap import ClusterMap, Judgement, judge, seats, topology
from proxy.discovery.clusternews import missing, news
from proxy.discovery.clusterview import NODES, OLDER, SHARDS, NoView, View, read
from proxy.discovery.source import Adopt, Pace
from proxy.errors import BackendError
from proxy.greeting import Credentials
from proxy.metrics import Counters
from proxy.slices import apart
from proxy.topology import Node

log = logging.getLogger(__name__)

_JURY = 8
"""So many nodes at most are asked beside the first one where its answer is doubted."""
_HEDGE = 0.3
"""Seconds without an answer after which the next node is asked beside the one that is silent."""
_MUCH = 1000
"""Ranges of slots: of a cluster that was resharded often, or has a thousand nodes."""
_LONG = 32 * 1024
"""Bytes of CLUSTER NODES with about so many."""
_EAGER = 15.0
"""Seconds after a change for which the cluster is looked at often if a shard lacks replicas: they take a while."""


class ClusterSource:
    """Follows the cluster of ``config.cluster``; ``credentials`` are for its nodes."""

    def __init__(self, config: Config, credentials: Credentials, counters: Counters) -> None:
        self._seeds = tuple(Node(address.host, address.port) for address in config.cluster.seeds)
        self._remap = config.topology.remap
        self._patience = config.backend.connect_timeout
        self._credentials = credentials
        self._counters = counters
        self._pace = Pace(config.topology.refresh)
        self._map = ClusterMap()
        self._seats = seats(self._map)
        self._epoch = 0
        self._older: set[Node] = set()
        """The nodes that know CLUSTER SLOTS only."""
        self._silent: dict[Node, str] = {}
        """The nodes that could not be asked, and why."""
        self._behind: set[Node] = set()
        """The nodes that were not believed when they were asked last."""
        self._deaf = False
        """Nobody answered the last time."""
        self._gaps: str | None = None
        """The slots that nobody serves; None before anything is known."""
        self._eager_until = 0.0

    def hint(self, node: Node | None = None) -> None:
        """Something says that the topology has changed; ``node`` may know best."""
        self._pace.hint(node)

    async def run(self, adopt: Adopt) -> None:
        """Never returns."""
        while True:
            hinted = await self._pace.wait()
            try:
                await self._look(hinted, adopt)
            except Exception:
                # A fault of ours must not end the search for good.
                log.exception("what the cluster says can not be used asked=%s", hinted)
            if self._restless():
                self._pace.hint()

    def _restless(self) -> bool:
        """Whether something is about to change, or has to."""
        if self._deaf or self._gaps != "" or any(seat.failing for seat in self._seats):
            return True
        early = asyncio.get_running_loop().time() < self._eager_until
        return early and any(seat.lacking for seat in self._seats)

    async def _look(self, hinted: Node | None, adopt: Adopt) -> None:
        view = await self._first(hinted)
        if view is None:
            self._counters.refresh("failed")
            if not self._deaf:
                log.error("no node of the cluster can be asked: look at cluster.seeds, and at the network")
            self._deaf = True
            return
        if self._deaf:
            self._deaf = False
            log.info("the cluster can be asked again asked=%s", view.asked)
        views = [view]
        found = await self._judge(views)
        if found.witnesses or found.doubted:
            nodes = [*found.witnesses, *(self._candidates(None) if found.doubted else ())]
            views += await self._jury(view, nodes)
            found = await self._judge(views)
        self._tell_behind(views, found)
        await self._use(found.map, adopt)

    async def _judge(self, views: Sequence[View]) -> Judgement:
        much = len(self._map.chart) + sum(len(view.chart) for view in views) > _MUCH
        return await apart(much, judge, self._map, views)

    # ---- asking

    async def _first(self, hinted: Node | None) -> View | None:
        """The answer of the first node that has one; None if nobody has."""
        waiting: set[asyncio.Task[View | None]] = set()
        try:
            for node in self._candidates(hinted):
                waiting.add(asyncio.create_task(self._ask(node), name=f"ask {node} for the cluster"))
                done, waiting = await asyncio.wait(waiting, timeout=_HEDGE, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (view := task.result()) is not None:
                        return view
            for each in asyncio.as_completed(waiting):
                if (view := await each) is not None:
                    return view
            return None
        finally:
            for task in waiting:
                task.cancel()

    def _candidates(self, hinted: Node | None) -> list[Node]:
        """Whom to ask, in this order: the one that a redirection led to, any that is known, the seeds. Those that did
        not answer last, or are said to be down, come after all others."""
        known = sorted(self._map.nodes, key=lambda node: (node.host, node.port))  # a set has no order to repeat
        random.shuffle(known)
        seeds = random.sample(self._seeds, len(self._seeds))
        nodes = dict.fromkeys([*((hinted,) if hinted is not None else ()), *known, *seeds])
        down = {member.node for member in self._map.members.values() if member.failed}
        return sorted(nodes, key=lambda node: node in self._silent or node in down)

    async def _jury(self, first: View, nodes: Sequence[Node]) -> list[View]:
        """The answers of other ``nodes``, of the first so many."""
        others = [node for node in dict.fromkeys(nodes) if node != first.asked]
        answers = await asyncio.gather(*(self._ask(node) for node in others[:_JURY]))
        views = {view.me: view for view in answers if view is not None and view.me != first.me}
        return list(views.values())

    async def _ask(self, node: Node) -> View | None:
        try:
            view = await self._view(node)
        except (OSError, TimeoutError, BackendError, NoView) as error:
            reason = str(error) or f"no answer within {self._patience:g} s"
            if self._silent.get(node) != reason:
                self._tell_silent(node, reason, isinstance(error, NoView) and error.lone)
            self._silent[node] = reason
            return None
        if self._silent.pop(node, None) is not None:
            log.info("cluster node answers again address=%s", node)
        return view

    async def _view(self, node: Node) -> View:
        """Raises OSError, TimeoutError, BackendError, NoView."""
        question = OLDER if node in self._older else SHARDS
        places, nodes = await ask(node, self._credentials, [question, NODES], self._patience)
        if isinstance(places, Exception) and not isinstance(nodes, Exception) and node not in self._older:
            self._older.add(node)
            places, nodes = await ask(node, self._credentials, [OLDER, NODES], self._patience)
        much = isinstance(nodes, bytes) and len(nodes) > _LONG
        return await apart(much, read, node, places, nodes, self._remap, self._credentials.tls is not None)

    # ---- what comes of it

    async def _use(self, found: ClusterMap, adopt: Adopt) -> None:
        if found is self._map:
            self._counters.refresh("same")
            return
        much = len(found.chart) > _MUCH
        before, after = self._seats, await apart(much, seats, found)
        self._map, self._seats = found, after
        nodes = found.nodes.union(self._seeds)
        self._older &= nodes
        self._behind &= nodes
        self._silent = {node: reason for node, reason in self._silent.items() if node in nodes}
        same = [(seat.shard, seat.ranges) for seat in before] == [(seat.shard, seat.ranges) for seat in after]
        self._counters.refresh("same" if same else "changed")
        if not same:
            for line in await apart(much, lambda: list(news(before, after))):
                log.info(line)
        self._tell_gaps(missing(after))
        if not same:
            self._epoch += 1
            self._eager_until = asyncio.get_running_loop().time() + _EAGER
            adopt(await apart(much, topology, after, self._epoch))

    def _tell_gaps(self, gaps: str) -> None:
        if gaps and gaps != self._gaps:
            log.warning("the cluster is incomplete: no node that can be reached serves the slots %s", gaps)
        elif not gaps and self._gaps:
            log.info("the cluster is complete again: every slot is served")
        self._gaps = gaps

    def _tell_silent(self, node: Node, reason: str, lone: bool) -> None:
        if lone:
            log.error(
                "%s is no node of a cluster: %s. Start it with cluster-enabled yes, or name it as a server of its own: "
                'topology.kind = "static", or --static',
                node,
                reason,
            )
        else:
            log.warning("cluster node can not be asked address=%s reason=%r", node, reason)

    def _tell_behind(self, views: Sequence[View], found: Judgement) -> None:
        for view in views:
            if view not in found.doubted:
                self._behind.discard(view.asked)
            elif view.asked not in self._behind:
                self._behind.add(view.asked)
                log.info("cluster node is behind others, and is not believed in all it says address=%s", view.asked)
