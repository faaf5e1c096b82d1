"""Which sentinels are believed about which masters. Pure.

A sentinel has an id of its own over restarts, and sentinels that watch the same servers list each other by it. One that
was believed stays so, at whatever address; another is believed once one of them lists it. Its address proves nothing,
as another's sentinel can get that (and have a master of the same name), and neither does the epoch that it says.

Where no such sentinel answers, as at the start, those are taken that are configured: if they are of several minds,
those that list each other or watch the same servers belong together, and the most of them count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from proxy.discovery.sentinelview import Master, SentinelReport
from proxy.sharding.topology import Node

FORSAKEN = 3.0
"""Seconds without an answer from any sentinel that is believed after which others that are configured are, though they
watch other servers: longer than a sentinel takes to restart."""
_MOST_IDS = 256
"""So many of a master's sentinels are remembered."""

_Voice = tuple[SentinelReport, Master]
"""A sentinel, and what it says of one master."""


class Trust:
    """The sentinels that are believed, over time; ``configured`` are the addresses of some."""

    def __init__(self, configured: Sequence[Node]) -> None:
        self._configured = tuple(configured)
        self._ids: dict[str, dict[str, None]] = {}
        """By master, whom was believed and who these list."""
        self._forsaken: dict[str, float] = {}
        """The masters of which others say something, but nobody who was believed; since when."""

    def believed(
        self, reports: Mapping[Node, SentinelReport], servers: Mapping[str, Collection[Node]], now: float
    ) -> dict[Node, SentinelReport]:
        """The latest reports, each with those masters only about which it is believed. ``servers``: those known of each
        master. ``now`` in seconds."""
        names = {name for report in reports.values() for name in report.masters}
        heard = {name: self._heard(name, reports, servers.get(name, ()), now) for name in names}
        found = {}
        for node, report in reports.items():
            masters = {name: master for name, master in report.masters.items() if report.id in heard[name]}
            found[node] = replace(report, masters=masters)
        return found

    @property
    def forsaken(self) -> Collection[str]:
        """The masters whose sentinels are silent, while others that are configured say something of them."""
        return self._forsaken.keys()

    def deny(self, name: str, now: float) -> None:
        """What others say of a master is not so, as it says itself."""
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
    """The ids of those sentinels that ``ids`` has, or one of these sentinels lists."""
    found: set[str] = set()
    left = list(voices)
    while more := [(report, master) for report, master in left if report.id in ids or report.id in found]:
        left = [voice for voice in left if voice not in more]
        for report, master in more:
            # Before Redis 6.2 the address is the id.
            found |= {report.id, *master.peers, *(node.address for node in master.peers.values())}
    return found


def _begin(voices: Mapping[Node, _Voice]) -> set[str]:
    """The ids of the sentinels to begin with: of several groups the one of most, then the one that lists most, then the
    first."""
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
