"""Whose views of a Redis Cluster count: those of its members. Pure.

A node's address proves nothing, as another can get it, and neither does what a node says of itself: it is a member if
those that are known to be members name its id. The ids are random and kept for good, until a node is reset.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from proxy.discovery.clusterview import UNREAD, View


def members_of(known: Collection[str], views: Sequence[View]) -> list[View]:
    """Those of ``views`` that are said by members: ``known`` has their ids, or one of these views that counts has."""
    ids = set(known)
    counted: dict[str, View] = {}
    while found := [view for view in views if view.me in ids and view.me not in counted]:
        counted |= {view.me: view for view in found}
        for view in found:
            ids |= view.members.keys() | view.unread
    return [view for view in views if counted.get(view.me) is view]


def same_cluster(views: Sequence[View]) -> list[list[View]]:
    """``views`` by clusters: those whose nodes name each other belong together. In front the cluster to believe if
    nothing else is known: one that has slots, then that of most views, then the largest, then that of the first view.
    """
    groups: list[list[View]] = []
    for view in views:
        near = [group for group in groups if any(_name_each_other(view, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), view])

    def rank(group: list[View]) -> tuple[bool, int, int, int]:
        serves = any(segment[2] not in ("", UNREAD) for view in group for segment in view.chart)
        return serves, len(group), max(len(view.members) for view in group), -min(map(views.index, group))

    return sorted(groups, key=rank, reverse=True)


def _name_each_other(one: View, other: View) -> bool:
    return one.me in other.members and other.me in one.members
