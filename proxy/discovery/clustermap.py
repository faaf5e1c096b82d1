"""Which node of a Redis Cluster has which slots, by what several of its nodes say, one after the other. Pure.

Whoever takes over slots gets a higher config epoch than who had them, unless its own is the highest already; so news is
told from what is old by epochs, and where these leave it open, by asking several nodes. A claim on slots is better than
that of the owner known so far if the claimant does not deny it itself, and

- nobody is known to have them,
- the owner known so far says itself that it gave them up, or
- its epoch is higher, and it comes from a node that is not behind: from the claimant itself, or from one that has heard
  the latest of the owner known so far.

So whoever claims slots is asked before it is believed what another says of it: a node that does not know yet that slots
went from A to B can know a new epoch of A. Any other claim that differs (of a node that lags, of one that was reset, of
a cluster that was set up anew; also that nobody has the slots) needs more than half of several nodes, and does not
stand against an owner that confirms its own unless it is a stranger to them: many can be behind at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from proxy.discovery.clustermembers import members_of
from proxy.discovery.clusterview import NO_EPOCH, NOTHING, UNREAD, ClusterMember, Segment, SlotOwners, View, joined
from proxy.planning.refusals import remapped
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node, Shard, Topology

_NAME = "shard-"


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """What is believed. ``members`` are all nodes, by their ids; ``names`` are the shards', by their owners' ids."""

    chart: SlotOwners = NOTHING
    members: Mapping[str, ClusterMember] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> set[Node]:
        """All that can be asked."""
        return {member.node for member in self.members.values() if member.node is not None}

    @property
    def blank(self) -> bool:
        """Whether nobody is known to have a slot: nothing can be told from it about who belongs to the cluster."""
        return not self.names

    def replicas(self, owner: str) -> list[ClusterMember]:
        """The nodes that follow ``owner``."""
        return [member for member in self.members.values() if member.primary == owner]

    def addresses(self, remap: Mapping[str, str]) -> dict[Node, Node]:
        """Where each node is reached, by all that it can be called in a redirection: that, its ip, its host name."""
        found = {node: node for node in self.nodes}
        for member in self.members.values():
            ip, hostname, port = member.announced
            if member.node is not None and port:
                for host in filter(None, (ip, hostname)):
                    found.setdefault(remapped(Node(host, port), remap), member.node)
        return found


def _owners(chart: SlotOwners) -> list[str]:
    """The ids of all owners, by their lowest slots."""
    return list(dict.fromkeys(segment[2] for segment in chart if segment[2]))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What comes of views: the map, which views were not believed in full, and the ``witnesses`` who know best: the old
    and the new owners, as far as they were not heard. ``strangers``: the views that did not count, as nobody who is
    known knows those who say them."""

    map: ClusterMap
    doubted: tuple[View, ...] = ()
    witnesses: tuple[Node, ...] = ()
    strangers: tuple[View, ...] = ()


def judge(known: ClusterMap, views: Sequence[View]) -> Judgement:
    """The map that follows ``known`` when nodes have said ``views``, at least one; the first was asked first."""
    counted = list(views) if known.blank else members_of(known.members, views)
    strangers = tuple(view for view in views if not any(view is other for other in counted))
    if not counted:
        return Judgement(known, strangers=strangers)
    return replace(_judge(known, counted), strangers=strangers)


def _judge(known: ClusterMap, views: Sequence[View]) -> Judgement:
    chart = known.chart
    doubted: list[View] = []
    concerned: dict[str, None] = {}
    if any(view.chart != chart for view in views):
        alone = max(len(known.members), *(len(view.members) for view in views)) == 1
        quorum = max(len(views) // 2 + 1, 1 if alone else 2)
        segments = []
        for first, last, owner, epoch, claims in _pieces(chart, views):
            decided = _decide(owner, epoch, claims, quorum)
            segments.append((first, last, *decided))
            for view, claimant, _ in claims:
                if claimant != decided[0] and view not in doubted:
                    doubted.append(view)
                if owner and claimant != owner:
                    concerned |= {owner: None, claimant: None} if claimant != decided[0] else {claimant: None}
        decisions = tuple(joined(segments))
        chart = chart if decisions == chart else decisions
    believed = [view for view in views if view not in doubted]
    owners = list(known.names) if chart is known.chart else _owners(chart)
    members = _members(known, owners, views, believed)
    if chart is known.chart:
        following = known if members == known.members else replace(known, members=members)
    else:
        following = ClusterMap(chart, members, _names(known, owners, members))
    heard = {view.me for view in views}
    places = {**known.members, **views[0].members}
    asked = [places[identity].node for identity in concerned if identity in places and identity not in heard]
    witnesses = tuple(node for node in asked if node is not None)
    return Judgement(following, tuple(doubted), witnesses)


_Claim = tuple[View, str, int]
"""Of a view: the owner of some slots, "" for nobody, and its epoch."""


def _pieces(chart: SlotOwners, views: Sequence[View]) -> Iterator[tuple[int, int, str, int, list[_Claim]]]:
    """The slots, cut where any of the charts has a border: first, last, owner known so far, its epoch, the claims."""
    charts = [chart, *(view.chart for view in views)]
    at = [0] * len(charts)
    starts = sorted({segment[0] for each in charts for segment in each})
    for first, following in zip(starts, [*starts[1:], SLOTS], strict=True):
        found: list[Segment] = []
        for index, each in enumerate(charts):
            if each[at[index]][1] < first:
                at[index] += 1
            found.append(each[at[index]])
        _, _, owner, epoch = found[0]
        claims = [(view, *claim[2:]) for view, claim in zip(views, found[1:], strict=True) if claim[2] != UNREAD]
        yield first, following - 1, owner, epoch, claims


def _decide(owner: str, epoch: int, claims: Sequence[_Claim], quorum: int) -> tuple[str, int]:
    """Who has the slots of ``owner`` now, and the epoch."""
    confirmed = max((at for _, claimant, at in claims if claimant == owner), default=NO_EPOCH)
    if all(claimant == owner for _, claimant, _ in claims):
        return owner, max(epoch, confirmed)
    denied = {claimant for _, claimant, _ in claims} & {view.me for view, claimant, _ in claims if claimant != view.me}
    better = [claim for claim in claims if claim[1] not in denied and _better(claim, owner, epoch)]
    if better:
        _, claimant, at = max(better, key=lambda claim: claim[2])
        return claimant, at
    says = next((claimant == owner for view, claimant, _ in claims if view.me == owner), None)
    votes = Counter(claim[1] for claim in claims if claim[1] != owner and _counts(claim[0], owner, epoch, says))
    claimant, most = votes.most_common(1)[0] if votes else (owner, 0)
    if most >= quorum:
        return claimant, max(at for _, other, at in claims if other == claimant)
    return owner, max(epoch, confirmed)


def _counts(view: View, owner: str, epoch: int, says: bool | None) -> bool:
    """Whether a view counts against ``owner``, who ``says`` whether it is still the owner; None if it was not heard.
    Then a view that is behind counts for nothing. A stranger's word counts for nothing."""
    heard = view.members.get(owner)
    return heard is None or says is False or (says is None and heard.epoch >= epoch)


def _better(claim: _Claim, owner: str, epoch: int) -> bool:
    """Whether a claim is newer than that of ``owner``, who had the slots at ``epoch``, beyond doubt."""
    view, claimant, at = claim
    if claimant in (owner, ""):
        return False
    heard = view.members.get(owner)
    if not owner or view.me == claimant:
        return at > epoch
    current = heard is None or heard.epoch >= epoch
    return current and (at > epoch or view.me == owner)


def _members(
    known: ClusterMap, owners: Sequence[str], views: Sequence[View], believed: Sequence[View]
) -> dict[str, ClusterMember]:
    """The nodes that there are: who is believed knows all of them. Owners that are not among them, or not as primaries,
    are as the last view of them says, and with them who follows them. Of whom could not be read what is said now, that
    holds which was said before."""
    base, teller = (believed[0].members, believed[0].me) if believed else (known.members, "")
    members = {identity: _settled(known, member, teller) for identity, member in base.items()}
    if believed:
        members |= {identity: known.members[identity] for identity in believed[0].unread if identity in known.members}
    for owner in owners:
        if owner in members and not members[owner].primary:
            continue
        told = [view for view in views if owner in view.members]
        if not told:
            followers = {member.id: member for member in known.replicas(owner) if member.id not in members}
            members |= {**followers, owner: known.members[owner]}
            continue
        source = max(told, key=lambda view: (not view.members[owner].primary, view.members[owner].epoch))
        members |= {
            identity: _settled(known, member, source.me)
            for identity, member in source.members.items()
            if owner in (identity, member.primary)
        }
    return members


def _settled(known: ClusterMap, member: ClusterMember, teller: str) -> ClusterMember:
    """``member`` as the node ``teller`` has it, reached as before if it announces nothing new: one node says its ip,
    another its host name, and who has been asked where says the same of it in other words. That it lost its primary's
    data has to be told by one of them: others may not have heard yet that it has them."""
    before = known.members.get(member.id)
    if before is None or before.node is None:
        return member
    if before == member:
        return before
    if before.online and before.primary == member.primary and teller not in (member.id, member.primary):
        member = replace(member, online=True)
    (ip, hostname, port), (old_ip, old_hostname, old_port) = member.announced, before.announced
    same = port == old_port and _agree(ip, old_ip) and _agree(hostname, old_hostname)
    if member.node is None or same:
        return replace(member, node=before.node, announced=(ip or old_ip, hostname or old_hostname, port or old_port))
    return member


def _agree(one: str, other: str) -> bool:
    """Whether two may mean the same: "" is what is not known."""
    return one == other or not one or not other


def _names(known: ClusterMap, owners: Sequence[str], members: Mapping[str, ClusterMember]) -> dict[str, str]:
    """The shards' names. A shard keeps its own when a node of it takes over from another; a new one has the lowest
    number that is free."""
    names: dict[str, str] = {}
    for owner in owners:
        if owner not in known.names:
            left = (old for old, name in known.names.items() if name not in names.values())
            heir_of = next((old for old in left if _takes_over(known, owners, members, old, owner)), None)
            if heir_of is not None:
                names[owner] = known.names[heir_of]
    for owner in owners:
        if owner in known.names and known.names[owner] not in names.values():
            names[owner] = known.names[owner]
    numbers = (number for number in count(1) if f"{_NAME}{number}" not in names.values())
    for owner in owners:
        if owner not in names:
            names[owner] = f"{_NAME}{next(numbers)}"
    return names


def _takes_over(
    known: ClusterMap, owners: Sequence[str], members: Mapping[str, ClusterMember], old: str, new: str
) -> bool:
    """Whether ``new`` is of the shard that ``old`` was the owner of: one follows the other, or is where it was.

    A failed primary can go on as the owner of a slot or two, with nodes that these were on the way to.
    """
    member = members.get(old)
    if old in owners and not (member is not None and member.failed):
        return False
    before = known.members.get(new)
    if (before is not None and before.primary == old) or (member is not None and member.primary == new):
        return True
    return known.members[old].node == members[new].node


@dataclass(frozen=True, slots=True)
class ClusterShard:
    """A shard with its slots, as ascending ranges. ``owner``: the id of its primary. ``failing``: that may be down,
    and a replica about to take over. ``lacking``: it has replicas that can not be read from yet."""

    shard: Shard
    owner: str
    ranges: tuple[tuple[int, int], ...]
    failing: bool = False
    lacking: bool = False


def seats(known: ClusterMap) -> tuple[ClusterShard, ...]:
    """The shards by the numbers in their names; none for an owner that nobody knows how to reach.

    Where two nodes are said to be at one address only one can be: an owner, and one that is not down, comes first.
    """
    spans: dict[str, list[tuple[int, int]]] = {}
    for first, last, owner, _ in joined([(*segment[:3], 0) for segment in known.chart]):
        spans.setdefault(owner, []).append((first, last))
    taken: set[Node] = set()
    heads: list[ClusterMember] = []
    for head in sorted(
        (known.members[owner] for owner in known.names), key=lambda member: (member.failed, -member.epoch)
    ):
        if head.node is not None and head.node not in taken:
            taken.add(head.node)
            heads.append(head)
    found: list[ClusterShard] = []
    for head in sorted(heads, key=lambda member: int(known.names[member.id].removeprefix(_NAME))):
        assert head.node is not None
        following = [member for member in known.replicas(head.id) if member.node not in taken]
        usable = {member.node for member in following if member.online and not member.failed and member.node}
        taken |= usable
        replicas = tuple(sorted(usable, key=lambda node: (node.host, node.port)))
        shard = Shard(known.names[head.id], head.node, replicas)
        lacking = len(replicas) < len(following)
        found.append(ClusterShard(shard, head.id, tuple(spans[head.id]), head.suspect and bool(following), lacking))
    return tuple(found)


def gaps(seated: Sequence[ClusterShard]) -> list[tuple[int, int]]:
    """The slots that none of the shards has, as ascending ranges."""
    found = []
    at = 0
    for first, last in sorted(span for seat in seated for span in seat.ranges):
        if first > at:
            found.append((at, first - 1))
        at = last + 1
    if at < SLOTS:
        found.append((at, SLOTS - 1))
    return found


def topology(seated: Sequence[ClusterShard], epoch: int) -> Topology:
    """The snapshot of the shards."""
    return Topology.found([seat.shard for seat in seated], [seat.ranges for seat in seated], cluster=True, epoch=epoch)
