"""Clusters for tests: what real nodes answered, and views made by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hiredis

from proxy.discovery.clusterview import NO_EPOCH, ClusterMember, Segment, SlotOwners, View, joined, read
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node

RECORDED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("cluster_replies.json").read_text())
"""By server and scene: the port that was ``asked``, and its replies to CLUSTER SHARDS, SLOTS and NODES as they came.

Three primaries with a replica each, of which the second was asked, in the middle of moving slot 9000 to the first; in
``failed_over`` the first was asked, when the second was dead and its replica had taken over. ``redis_8`` is at rest; in
``wiped`` a replica had been emptied, and came back at its address under another id that nobody knows. ``hostname`` and
``unknown`` are the preferred endpoint types; the first and its replica have host names, the others have none.
"""


def decoded(frame: str) -> object:
    """A reply as hiredis decodes it."""
    reader = hiredis.Reader()
    reader.feed(frame.encode())
    return reader.gets()


def recorded(
    name: str, places: str = "shards", host: str = "seed", remap: Mapping[str, str] | None = None, tls: bool = False
) -> View:
    """The view in a recorded scene, asked at ``host``."""
    scene = RECORDED[name]
    asked = Node(host, scene["asked"])
    return read(asked, decoded(scene[places]), decoded(scene["nodes"]), remap or {}, tls)


def node(name: str) -> Node:
    """Where the node called so is reached."""
    return Node(f"node-{name}", 7000)


Claims = Mapping[str, tuple[int, Sequence[tuple[int, int]]]]
"""By the name of a primary: its epoch and its slots."""


def chart(claims: Claims) -> SlotOwners:
    """A whole chart, with nobody in the gaps."""
    segments: list[Segment] = []
    at = 0
    for first, last, name, epoch in sorted(
        (*span, name, epoch) for name, (epoch, spans) in claims.items() for span in spans
    ):
        segments += [(at, first - 1, "", NO_EPOCH)] * (first > at) + [(first, last, name, epoch)]
        at = last + 1
    return tuple(joined([*segments, *[(at, SLOTS - 1, "", NO_EPOCH)] * (at < SLOTS)]))


def view(me: str, claims: Claims, failed: Sequence[str] = (), **followers: str) -> View:
    """What ``me`` says; ``followers`` are replicas, ``a="A"`` follows A and has its epoch."""
    primaries = {
        name: ClusterMember(name, node(name), ("", node(name).host, 7000), "", epoch)
        for name, (epoch, _) in claims.items()
    }
    replicas = {
        name: ClusterMember(name, node(name), ("", node(name).host, 7000), of, claims[of][0])
        for name, of in followers.items()
    }
    members = {
        name: member if name not in failed else ClusterMember(*_fields(member), failed=True, suspect=True)
        for name, member in (primaries | replicas).items()
    }
    return View(node(me), me, members, chart(claims))


def _fields(member: ClusterMember) -> tuple[str, Node | None, tuple[str, str, int], str, int]:
    return member.id, member.node, member.announced, member.primary, member.epoch
