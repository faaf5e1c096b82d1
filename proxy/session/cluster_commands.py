"""The replies to CLUSTER's read subcommands: those of a server without cluster mode, or with ``present_as = "cluster"``
those of a server that shows the proxy's own addresses as the owners of all slots.

Source: https://redis.io/docs/latest/commands/cluster/ and the replies of Redis 7. COUNTKEYSINSLOT and GETKEYSINSLOT are
routed by the planner. READONLY, READWRITE, ASKING, ROLE and MODULE LIST are here too.
"""

from collections.abc import Callable, Sequence

from proxy import errors
from proxy.resp import encode
from proxy.session.session import Command, Session
from proxy.session.virtual_cluster import AdvertisedNode, Presented
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Ranges

_BUS = 10000
"""The distance from a node's port to its cluster bus port. The proxy does not listen there."""


Subcommand = Callable[[Presented, Session, Sequence[bytes]], bytes]


def keyslot(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER KEYSLOT."""
    return encode.integer(session.world.slot_of(args[2]))


def read_from(replicas: bool) -> Command:
    """Return the handler of READONLY (``replicas``) or READWRITE."""

    def command(session: Session, args: Sequence[bytes]) -> bytes:
        if session.listener.presented is None:
            return encode.error(errors.NO_CLUSTER)
        session.reads_replicas = replicas
        return encode.OK

    return command


def asking(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ASKING."""
    return encode.OK if session.listener.presented is not None else encode.error(errors.NO_CLUSTER)


def presented(subcommand: Subcommand) -> Command:
    """Return a handler that refuses the subcommand unless the proxy presents a cluster."""

    def command(session: Session, args: Sequence[bytes]) -> bytes:
        shown = session.listener.presented
        return encode.error(errors.NO_CLUSTER) if shown is None else subcommand(shown, session, args)

    return command


@presented
def info(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER INFO."""
    served = shown.served()
    members = shown.members(session.local_address)
    fields = {
        "cluster_state": "ok" if served == SLOTS else "fail",
        "cluster_slots_assigned": served,
        "cluster_slots_ok": served,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": 0,
        "cluster_known_nodes": len(members),
        "cluster_size": sum(bool(member.slots) for member in members),
        "cluster_current_epoch": 1,
        "cluster_my_epoch": 1,
        "cluster_stats_messages_sent": 0,
        "cluster_stats_messages_received": 0,
        "total_cluster_links_buffer_limit_exceeded": 0,
    }
    text = "".join(f"{field}:{value}\r\n" for field, value in fields.items())
    return encode.verbatim(text, session.protocol)


@presented
def slots(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER SLOTS."""
    return encode.array(
        encode.array(
            (
                encode.integer(first),
                encode.integer(last),
                encode.array(
                    (
                        encode.bulk(member.host),
                        encode.integer(member.port),
                        encode.bulk(member.id),
                        encode.mapping({}, session.protocol),
                    )
                ),
            )
        )
        for member in shown.members(session.local_address)
        for first, last in member.slots
    )


@presented
def shards(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER SHARDS."""
    protocol = session.protocol

    def shard(member: AdvertisedNode) -> bytes:
        node = {
            "id": encode.bulk(member.id),
            "port": encode.integer(member.port),
            "ip": encode.bulk(member.host),
            "endpoint": encode.bulk(member.host),
            "role": encode.bulk("master"),
            "replication-offset": encode.ZERO,
            "health": encode.bulk("online" if member.slots else "fail"),
        }
        return encode.mapping(
            {
                encode.bulk("slots"): encode.array(encode.integer(slot) for span in member.slots for slot in span),
                encode.bulk("nodes"): encode.array(
                    (encode.mapping({encode.bulk(name): value for name, value in node.items()}, protocol),)
                ),
            },
            protocol,
        )

    return encode.array(shard(member) for member in shown.members(session.local_address))


@presented
def nodes(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER NODES."""
    own = shown.myself(session.local_address)
    lines = (
        f"{member.id} {member.host}:{member.port}@{member.port + _BUS} {'myself,' if member == own else ''}master"
        f"{',fail - 0 0 1 disconnected' if not member.slots else f' - 0 0 1 connected {_words(member.slots)}'}\n"
        for member in shown.members(session.local_address)
    )
    return encode.verbatim("".join(lines), session.protocol)


def _words(slots: Ranges) -> str:
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in slots)


@presented
def myid(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER MYID."""
    return encode.bulk(shown.myself(session.local_address).id)


@presented
def myshardid(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER MYSHARDID."""
    return encode.bulk(shown.myself(session.local_address).shard_id)


@presented
def links(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to CLUSTER LINKS."""
    return encode.EMPTY_ARRAY


def of_node(reply: bytes) -> Command:
    """Return the handler of a subcommand about one node; ``reply`` is the answer for every known node."""

    @presented
    def command(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
        known = {member.id for member in shown.members(session.local_address)}
        name = errors.text(args[2])
        return reply if name in known else encode.error(f"ERR Unknown node {name}")

    return command


def refused(name: str) -> Command:
    """Return the handler of the subcommand ``name`` (as a fact names it), refused because all nodes are this proxy."""

    @presented
    def command(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
        return encode.error(errors.refused(name, "the nodes that clients see are this proxy"))

    return command


def modules(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to MODULE LIST."""
    return session.world.modules[session.protocol]


def role(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ROLE."""
    return encode.array((encode.bulk("master"), encode.ZERO, encode.EMPTY_ARRAY))
