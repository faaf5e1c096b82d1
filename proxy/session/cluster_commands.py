"""What CLUSTER's reads answer: of a server without cluster mode, or with ``present_as = "cluster"`` of one that shows
the proxy's own addresses as the owners of all slots.

Source: https://redis.io/docs/latest/commands/cluster/ and what Redis 7 answers. The slots that COUNTKEYSINSLOT and
GETKEYSINSLOT name are the planner's.
"""

from collections.abc import Callable, Mapping, Sequence

from proxy import errors
from proxy.resp import encode
from proxy.session.session import Session
from proxy.session.virtual_cluster import AdvertisedNode, Presented
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Ranges

_BUS = 10000
"""A node's other nodes connect to its port plus this; nobody does here."""


def run(session: Session, name: str, args: Sequence[bytes]) -> bytes:
    """The reply to the CLUSTER subcommand ``name`` (as a fact names it)."""
    if name == "cluster|keyslot":
        return encode.integer(session.world.slot_of(args[2]))
    shown = session.world.presented
    if shown is None:
        return encode.error(errors.NO_CLUSTER)
    command = _COMMANDS.get(name)
    if command is None:
        return encode.error(errors.refused(name, "the nodes that clients see are this proxy"))
    return command(shown, session, args)


def _info(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
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


def _slots(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
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


def _shards(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
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


def _nodes(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    own = shown.myself(session.local_address)
    lines = (
        f"{member.id} {member.host}:{member.port}@{member.port + _BUS} {'myself,' if member == own else ''}master"
        f"{',fail - 0 0 1 disconnected' if not member.slots else f' - 0 0 1 connected {_words(member.slots)}'}\n"
        for member in shown.members(session.local_address)
    )
    return encode.verbatim("".join(lines), session.protocol)


def _words(slots: Ranges) -> str:
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in slots)


def _myid(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    return encode.bulk(shown.myself(session.local_address).id)


def _myshardid(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    return encode.bulk(shown.myself(session.local_address).shard_id)


def _links(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
    return encode.EMPTY_ARRAY


def _of_node(reply: bytes) -> "Command":
    def command(shown: Presented, session: Session, args: Sequence[bytes]) -> bytes:
        known = {member.id for member in shown.members(session.local_address)}
        name = errors.text(args[2])
        return reply if name in known else encode.error(f"ERR Unknown node {name}")

    return command


Command = Callable[[Presented, Session, Sequence[bytes]], bytes]

_COMMANDS: Mapping[str, Command] = {
    "cluster|info": _info,
    "cluster|slots": _slots,
    "cluster|shards": _shards,
    "cluster|nodes": _nodes,
    "cluster|myid": _myid,
    "cluster|myshardid": _myshardid,
    "cluster|links": _links,
    "cluster|replicas": _of_node(encode.EMPTY_ARRAY),
    "cluster|slaves": _of_node(encode.EMPTY_ARRAY),
    "cluster|count-failure-reports": _of_node(encode.ZERO),
}
