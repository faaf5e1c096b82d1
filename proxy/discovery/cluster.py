"""The topology of a Redis Cluster: one of its nodes is asked regularly, and others if its answer is doubtful.

::

    hint, refresh ──▶ Pace ──▶ one node ──▶ View ──▶ judge ──▶ ClusterMap ──▶ seats ──▶ Topology ──▶ adopt
                                                      │ a claim that is not newer than the known one
                                                      └──▶ the known owner and others ──▶ Views ──▶ judge

Only known members and the seeds are asked. An answer at their addresses from a node that is not a member does not
count. If nothing is known, or if no member has answered for a while, all seeds are asked at once and believed.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from proxy.backends.handshake import Credentials
from proxy.backends.query import ask
from proxy.config import Config
from proxy.discovery.clustermap import ClusterMap, Judgement, is_reset, judge, seats, topology
from proxy.discovery.clustermembers import same_cluster
from proxy.discovery.clusternews import missing, news
from proxy.discovery.clusterview import MYID, NODES, OLDER, SHARDS, NoView, View, read
from proxy.discovery.odd import Told
from proxy.discovery.source import Adopt, Pace
from proxy.errors import BackendError
from proxy.metrics import Counters
from proxy.sharding.topology import Node
from proxy.transport.job_runner import apart

log = logging.getLogger(__name__)

_JURY = 8
"""The most nodes that are asked beside the first one if its answer is doubtful."""
_HEDGE = 0.3
"""Seconds without an answer after which the next node is asked too."""
_MUCH = 1000
"""So many ranges of slots take long: a cluster that was resharded often, or has a thousand nodes."""
_LONG = 32 * 1024
"""The approximate size in bytes of a CLUSTER NODES reply with so many ranges."""
_FORSAKEN = 3.0
"""Seconds without an answer from any member after which the seeds are believed, whatever cluster they belong to.
Members that are unreachable for a moment must not be replaced by whichever node answers at the address of a seed."""
_EAGER = 15.0
"""Seconds after a change in which the cluster is asked often if a shard lacks replicas, since these need some time."""


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
        """The nodes that do not know CLUSTER SHARDS, only CLUSTER SLOTS."""
        self._silent: dict[Node, str] = {}
        """The nodes that could not be asked, each with the reason."""
        self._behind: set[Node] = set()
        """The nodes whose latest answer was not believed."""
        self._strangers: dict[Node, str] = {}
        """The addresses at which a node answers that is not a member, each with the node's id."""
        self._oddities = Told(log)
        self._mixed: set[Node] = set()
        """The seeds that were not believed, because other seeds belong to another cluster."""
        self._addresses: dict[Node, Node] = {}
        self._nameless = False
        """Whether a node refused to tell its id."""
        self._forsaken: float | None = None
        """The time since which no member has answered, or None."""
        self._deaf = False
        """Whether no node answered the last time."""
        self._gaps: str | None = None
        """The slots that no node serves; None before anything is known."""
        self._eager_until = 0.0

    def hint(self, node: Node | None = None) -> None:
        """Ask the cluster soon, since the topology may have changed; ``node`` is asked first."""
        self._pace.hint(node)

    async def run(self, adopt: Adopt) -> None:
        """Follow the topology; never returns."""
        while True:
            hinted = await self._pace.wait()
            try:
                await self._look(hinted, adopt)
            except Exception:
                # A bug in one look must not end the discovery.
                log.exception("the cluster's answers can not be used asked=%s", hinted)
            if self._restless():
                self._pace.hint()

    def _restless(self) -> bool:
        """Whether the topology is incomplete or about to change."""
        if self._deaf or self._gaps != "" or any(seat.failing for seat in self._seats):
            return True
        early = asyncio.get_running_loop().time() < self._eager_until
        return early and any(seat.lacking for seat in self._seats)

    def member(self, node: Node) -> Node | None:
        """The address of the member that a redirection calls ``node``; None if no known member is called so."""
        return self._addresses.get(node)

    def stranger(self, node: Node, identity: str) -> str:
        """The reason not to use the server at ``node`` with the id ``identity`` ("" if it tells none); "" to use it."""
        if not identity:
            if not self._nameless:
                log.warning(
                    "cluster node does not tell its id, so it is not checked address=%s: grant +cluster|myid", node
                )
            self._nameless = True
            return ""
        return "" if self._map.blank or identity in self._map.members else _unknown(node, identity)

    async def _look(self, hinted: Node | None, adopt: Adopt) -> None:
        known = self._map
        views = [] if known.blank else await self._first(hinted)
        found = await self._judge(known, views) if views else Judgement(known)
        if len(views) > len(found.strangers):
            self._forsaken = None
        elif chosen := await self._begin():
            known = ClusterMap()
            found, views = await self._judge(known, chosen), chosen
        else:
            self._tell_strangers(found)
            self._counters.refresh("failed")
            if not self._deaf:
                log.error("no node of the cluster can be asked: check cluster.seeds and the network")
            self._deaf = True
            return
        if self._deaf:
            self._deaf = False
            log.info("the cluster can be asked again asked=%s", views[0].asked)
        if found.witnesses or found.doubted:
            nodes = [*found.witnesses, *(self._candidates(None) if found.doubted else ())]
            views += await self._jury(views, nodes)
            found = await self._judge(known, views)
            counted = [view for view in views if view not in found.strangers]
            if len(counted) == 1 and is_reset(known, counted[0]):
                # No other member answers that could deny it: all others may have been taken away.
                found = await self._judge(ClusterMap(), counted)
        self._tell_strangers(found)
        self._tell_behind(views, found)
        await self._use(found.map, adopt)

    async def _judge(self, known: ClusterMap, views: Sequence[View]) -> Judgement:
        much = len(known.chart) + sum(len(view.chart) for view in views) > _MUCH
        return await apart(much, judge, known, views)

    async def _begin(self) -> list[View]:
        """The views of the seeds of one cluster, for when nothing is known, or when no member answers any more."""
        now = asyncio.get_running_loop().time()
        if not self._map.blank:
            if self._forsaken is None:
                self._forsaken = now
            if now - self._forsaken < _FORSAKEN:
                return []
        views = await self._seeded()
        if not views:
            return []
        chosen, *others = same_cluster(views)
        if not self._map.blank:
            log.warning(
                "no member of the cluster answers any more, but its seeds do, and belong to another cluster, which is "
                "used from now on seeds=%s",
                ",".join(str(view.asked) for view in chosen),
            )
        self._tell_mixed(chosen, [view for other in others for view in other])
        return chosen

    # ---- asking

    async def _first(self, hinted: Node | None) -> list[View]:
        """The views of nodes that are asked until one of them is a member, whose view is then the first one."""
        waiting: set[asyncio.Task[View | None]] = set()
        heard: list[View] = []

        def taken(view: View | None) -> bool:
            if view is not None:
                heard.insert(0, view)
            return view is not None and view.me in self._map.members

        try:
            for node in self._candidates(hinted):
                waiting.add(asyncio.create_task(self._ask(node), name=f"ask {node} for the cluster"))
                done, waiting = await asyncio.wait(waiting, timeout=_HEDGE, return_when=asyncio.FIRST_COMPLETED)
                if any(taken(task.result()) for task in done):
                    return heard
            for each in asyncio.as_completed(waiting):
                if taken(await each):
                    return heard
            return heard
        finally:
            for task in waiting:
                task.cancel()

    async def _seeded(self) -> list[View]:
        """The views of the seeds, or of the nodes that a seed without slots has named. A node that takes longer than
        the others is not waited for."""
        nodes = list(dict.fromkeys([*self._seeds, *(self._map.nodes if self._map.blank else ())]))
        nodes.sort(key=lambda node: node in self._silent)
        asked = [asyncio.create_task(self._ask(node), name=f"ask {node} for the cluster") for node in nodes[:_JURY]]
        waiting = set(asked)
        try:
            heard = False
            while waiting:
                patience = _HEDGE if heard else None
                done, waiting = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                heard = heard or any(task.result() is not None for task in done)
        finally:
            for task in waiting:
                task.cancel()
        views: dict[str, View] = {}
        for task in asked:
            if task not in waiting and (view := task.result()) is not None:
                views.setdefault(view.me, view)
        return list(views.values())

    def _candidates(self, hinted: Node | None) -> list[Node]:
        """The nodes to ask, in this order: the node that a redirection names or came from, the known nodes, the seeds.
        Nodes that did not answer last time, that are said to be down, or at whose address a stranger was, come last."""
        known = sorted(self._map.nodes, key=lambda node: (node.host, node.port))  # for a reproducible order
        random.shuffle(known)
        seeds = random.sample(self._seeds, len(self._seeds))
        first = [hinted] if hinted is not None and hinted in {*known, *seeds} else []
        down = {member.node for member in self._map.members.values() if member.failed}
        down |= self._silent.keys() | self._strangers.keys()
        return sorted(dict.fromkeys([*first, *known, *seeds]), key=lambda node: node in down)

    async def _jury(self, heard: Sequence[View], nodes: Sequence[Node]) -> list[View]:
        """The views of other ``nodes``, of the first ``_JURY`` ones."""
        asked, told = {view.asked for view in heard}, {view.me for view in heard}
        others = [node for node in dict.fromkeys(nodes) if node not in asked]
        answers = await asyncio.gather(*(self._ask(node) for node in others[:_JURY]))
        return list({view.me: view for view in answers if view is not None and view.me not in told}.values())

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
        self._oddities.tell(node, view.odd)
        return view

    async def _view(self, node: Node) -> View:
        """The view of ``node``. Raises OSError, TimeoutError, BackendError, NoView."""
        question = OLDER if node in self._older else SHARDS
        places, nodes, myid = await ask(node, self._credentials, [question, NODES, MYID], self._patience)
        if isinstance(places, Exception) and not isinstance(nodes, Exception) and node not in self._older:
            self._older.add(node)
            places, nodes, myid = await ask(node, self._credentials, [OLDER, NODES, MYID], self._patience)
        much = isinstance(nodes, bytes) and len(nodes) > _LONG
        return await apart(much, read, node, places, nodes, self._remap, self._credentials.tls is not None, myid)

    # ---- using the views

    async def _use(self, found: ClusterMap, adopt: Adopt) -> None:
        if found is self._map:
            self._counters.refresh("same")
            return
        much = len(found.chart) > _MUCH
        before, after = self._seats, await apart(much, seats, found)
        self._map, self._seats = found, after
        self._addresses = found.addresses(self._remap)
        nodes = found.nodes.union(self._seeds)
        self._older &= nodes
        self._behind &= nodes
        self._silent = {node: reason for node, reason in self._silent.items() if node in nodes}
        self._strangers = {node: identity for node, identity in self._strangers.items() if node in nodes}
        self._oddities.keep(nodes)
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
                "%s is not a node of a cluster: %s. Start it with cluster-enabled yes, or name it as a static shard "
                '(topology.kind = "static", or --static)',
                node,
                reason,
            )
        else:
            log.warning("cluster node can not be asked address=%s reason=%r", node, reason)

    def _tell_strangers(self, found: Judgement) -> None:
        for node in [node for node, identity in self._strangers.items() if identity in found.map.members]:
            log.info("cluster node is a known member now address=%s", node)
            del self._strangers[node]
        for view in found.strangers:
            if self._strangers.get(view.asked) != view.me:
                log.warning("cluster node is not believed: %s", _unknown(view.asked, view.me))
            self._strangers[view.asked] = view.me

    def _tell_mixed(self, chosen: Sequence[View], others: Sequence[View]) -> None:
        mixed = {view.asked for view in others}
        if mixed - self._mixed:
            log.error(
                "the seeds do not belong to one cluster, check cluster.seeds: believed=%s not_believed=%s",
                ",".join(str(view.asked) for view in chosen),
                ",".join(str(view.asked) for view in others),
            )
        self._mixed = mixed

    def _tell_behind(self, views: Sequence[View], found: Judgement) -> None:
        for view in views:
            if view not in found.doubted:
                self._behind.discard(view.asked)
            elif view.asked not in self._behind:
                self._behind.add(view.asked)
                log.info("cluster node is behind others, and not all of its answer is believed address=%s", view.asked)


def _unknown(node: Node, identity: str) -> str:
    return (
        f"{node} is not the node that the cluster has at this address: its id {identity[:40]} is unknown to the cluster"
    )
