"""Selects the views of a Redis Cluster that count: those of its members. No I/O.

A node's address does not prove that it is a member, since another node can get it, and neither does its own answer: a
node is a member if a known member names its id. Ids are random and stay the same until a node is reset.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from proxy.discovery.clusterview import UNREAD, View


def members_of(known: Collection[str], views: Sequence[View]) -> list[View]:
    """The ``views`` of members: nodes whose ids are in ``known`` or in another view that counts."""
    ids = set(known)
    counted: dict[str, View] = {}
    while found := [view for view in views if view.me in ids and view.me not in counted]:
        counted |= {view.me: view for view in found}
        for view in found:
            ids |= view.members.keys() | view.unread
    return [view for view in views if counted.get(view.me) is view]


def same_cluster(views: Sequence[View]) -> list[list[View]]:
    """``views`` grouped by cluster: views whose nodes name each other belong together. The first group is the one to
    believe if nothing else is known: one that has slots, then the one of most views, then the largest, then the first.
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
