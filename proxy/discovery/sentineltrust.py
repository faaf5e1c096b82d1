"""Decides which sentinels are believed about which masters. No I/O.

A sentinel keeps its id over restarts, and sentinels that monitor the same servers list each other by id. A sentinel
that was believed stays so, at any address; another one is believed once one of these lists it. An address proves
nothing, since a sentinel of another deployment can get it and have a master of the same name; neither does the epoch.

If no such sentinel answers, as at the start, the configured ones are believed. If these disagree, sentinels that list
each other or monitor the same servers form a group, and the largest group is believed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from proxy.discovery.sentinelview import Master, SentinelReport
from proxy.sharding.topology import Node

FORSAKEN = 3.0
"""Seconds without an answer from any believed sentinel after which other configured ones are believed, even if they
monitor other servers: longer than a sentinel takes to restart."""
_MOST_IDS = 256
"""The most sentinels of a master that are remembered."""

_Voice = tuple[SentinelReport, Master]
"""The report of a sentinel, and the part of it about one master."""


class Trust:
    """The believed sentinels over time; ``configured`` are the addresses of some."""

    def __init__(self, configured: Sequence[Node]) -> None:
        self._configured = tuple(configured)
        self._ids: dict[str, dict[str, None]] = {}
        """The ids of the believed sentinels and of those that they list, by master."""
        self._forsaken: dict[str, float] = {}
        """The masters that only sentinels report that are not believed, and since when."""

    def believed(
        self, reports: Mapping[Node, SentinelReport], servers: Mapping[str, Collection[Node]], now: float
    ) -> dict[Node, SentinelReport]:
        """The latest reports, each with only the masters about which it is believed. ``servers`` are the known servers
        of each master; ``now`` is in seconds."""
        names = {name for report in reports.values() for name in report.masters}
        heard = {name: self._heard(name, reports, servers.get(name, ()), now) for name in names}
        found = {}
        for node, report in reports.items():
            masters = {name: master for name, master in report.masters.items() if report.id in heard[name]}
            found[node] = replace(report, masters=masters)
        return found

    @property
    def forsaken(self) -> Collection[str]:
        """The masters whose believed sentinels are silent, while other configured ones report them."""
        return self._forsaken.keys()

    def deny(self, name: str, now: float) -> None:
        """Reject the other sentinels' reports about a master, because its primary contradicts them."""
        self._forsaken[name] = now

    def _heard(
        self, name: str, reports: Mapping[Node, SentinelReport], servers: Collection[Node], now: float
    ) -> Collection[str]:
        voices = {node: (report, report.masters[name]) for node, report in reports.items() if name in report.masters}
        ids = self._ids.setdefault(name, {})
        found = _listed(ids, voices.values())
        if not found:
            own = {node: voices[node] for node in self._configured if node in voices}
            near = {node: voice for node, voice in own.items() if voice[1].servers.intersection(servers)}
            if not ids or near:
                found = _listed(_begin(near or own), voices.values())
            elif own and now - self._forsaken.setdefault(name, now) >= FORSAKEN:
                found = _listed(_begin(own), voices.values())
        if found or not voices:
            self._forsaken.pop(name, None)
        for report, master in voices.values():
            if report.id in found:
                ids |= dict.fromkeys((report.id, *master.peers))
        for identity in list(ids)[:-_MOST_IDS]:
            del ids[identity]
        return found


def _listed(ids: Collection[str], voices: Iterable[_Voice]) -> set[str]:
    """The ids of the sentinels in ``ids``, and of all that these list, directly or through others."""
    found: set[str] = set()
    left = list(voices)
    while more := [(report, master) for report, master in left if report.id in ids or report.id in found]:
        left = [voice for voice in left if voice not in more]
        for report, master in more:
            # Before Redis 6.2 sentinels do not tell their id, so the address stands for it.
            found |= {report.id, *master.peers, *(node.address for node in master.peers.values())}
    return found


def _begin(voices: Mapping[Node, _Voice]) -> set[str]:
    """The ids of the sentinels to believe at the start: those of the largest group, then of the one that lists most
    sentinels, then of the first."""
    groups: list[list[_Voice]] = []
    for voice in voices.values():
        near = [group for group in groups if any(_together(voice, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), voice])
    order = list(voices.values())

    def rank(group: list[_Voice]) -> tuple[int, int, int]:
        return len(group), len({peer for _, master in group for peer in master.peers}), -min(map(order.index, group))

    return {report.id for report, _ in max(groups, key=rank)} if groups else set()


def _together(one: _Voice, other: _Voice) -> bool:
    lists = other[0].id in one[1].peers and one[0].id in other[1].peers
    return lists or not one[1].servers.isdisjoint(other[1].servers)
