"""SLOTGATE: information about the proxy and its servers for users with ``admin = true``, and SEND to one of the
servers.

The information is that of the worker which is asked, except for CLIENTS, which spans all workers.
"""

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping

from proxy import errors
from proxy.backends.settings import ConnectionState, Place
from proxy.backends.single_request import SingleRequest
from proxy.config.settings import settings
from proxy.engine.jobs import MORE, Job
from proxy.features.host import Services
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.resp import encode
from proxy.sharding.topology import NOBODY, Node, Shard, Topology, format_ranges
from proxy.transport.flow_control import Stop

HELP = (
    "SLOTGATE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CLIENTS",
    "    Return the clients as CLIENT LIST does, and what waits in the proxy for each.",
    "CONFIG [<pattern>]",
    "    Return the configuration in use, without its secrets.",
    "NODES",
    "    Return every server: its shard, role, slots, state, requests in flight, and how far a replica is behind.",
    "RELOAD [DRYRUN]",
    "    Read the configuration again, and return the keys that have changed and from when on they hold.",
    "SCRIPTS [<seconds>]",
    "    Watch the primaries by MONITOR (1 second, at most 60), and return what scripts use beyond their keys.",
    "SEND <node> <command> [<arg> ...]",
    "    Send a command to one server, named by its address or, for the primary of a shard, by the shard's name.",
    "WHERE <key> [<key> ...]",
    "    Return the slot of each key, its shard and the address of its primary.",
    "HELP",
    "    Print this help.",
)

_BETTER = (
    ConnectionState.READY,
    ConnectionState.HELD,
    ConnectionState.NEW,
    ConnectionState.FAILING,
    ConnectionState.CLOSED,
)
"""The state of a server is the first of these that one of its connections has."""


def nodes(service: Services, args: list[bytes], protocol: int) -> bytes:
    """SLOTGATE NODES."""
    lags = {node: behind for _, node, behind in service.discovery.lags()}
    found = []
    for index, shard in enumerate(service.topology.shards):
        slots = format_ranges(service.topology.ranges(index))
        for node in shard.nodes:
            backends = [backend for backend in service.upstream.pool if backend.place.node == node]
            states = {backend.state for backend in backends}
            state = next((state for state in _BETTER if state in states), None)
            behind = lags.get(node, math.inf)
            found.append(
                _map(
                    {
                        "shard": shard.name,
                        "address": node.address,
                        "role": "primary" if node == shard.primary else "replica",
                        "slots": slots,
                        "state": "unused" if state is None else state.value,
                        "connections": sum(backend.ready for backend in backends),
                        "in-flight": sum(backend.inflight.written + backend.inflight.unsent for backend in backends),
                        "lag-ms": 0 if node == shard.primary else round(behind * 1000) if behind < math.inf else -1,
                    },
                    protocol,
                )
            )
    return encode.array(found)


def where(service: Services, keys: list[bytes], protocol: int) -> Job[bytes]:
    """SLOTGATE WHERE key [key ...]."""
    found = []
    for key in keys:
        found.append(_where(service.topology, service.inspector.slot_of(key), protocol))
        yield MORE
    return encode.array(found)


def _where(topology: Topology, slot: int, protocol: int) -> bytes:
    index = topology.slot_shard[slot]
    shard = None if index == NOBODY else topology.shards[index]
    return _map(
        {
            "slot": slot,
            "shard": shard.name if shard else "",
            "address": shard.primary.address if shard else "",
        },
        protocol,
    )


def say_help(service: Services, args: list[bytes], protocol: int) -> bytes:
    """SLOTGATE HELP."""
    return encode.array(map(encode.simple, HELP))


def config(service: Services, patterns: list[bytes], protocol: int) -> bytes:
    """SLOTGATE CONFIG [pattern ...]."""
    wanted = [pattern.decode("utf-8", "replace") for pattern in patterns] or ["*"]
    found = {
        name: value
        for name, value in settings(service.config)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
    }
    return encode.mapping({encode.bulk(name): encode.bulk(value) for name, value in found.items()}, protocol)


def _map(fields: Mapping[str, str | int], protocol: int) -> bytes:
    return encode.mapping(
        {
            encode.bulk(name): encode.integer(value) if isinstance(value, int) else encode.bulk(value)
            for name, value in fields.items()
        },
        protocol,
    )


def find(topology: Topology, name: str) -> tuple[Shard, Node] | None:
    """The server with this address, or the primary of the shard with this name; None if there is none."""
    for shard in topology.shards:
        for node in shard.nodes:
            if name in (node.address, f"{node.host}:{node.port}"):
                return shard, node
    return next(((shard, shard.primary) for shard in topology.shards if shard.name == name), None)


# ---- as commands

Say = Callable[[Services, list[bytes], int], bytes]


def say(make: Say) -> Callable[[Modes, Request], bool]:
    """The handler of a command whose reply ``make`` returns for the arguments behind the subcommand."""

    def command(modes: Modes, request: Request) -> bool:
        client = modes.client
        client.say(request.fact, make(client.service, request.args[2:], client.session.protocol))
        return True

    return command


def say_where(modes: Modes, request: Request) -> bool:
    """Carry out SLOTGATE WHERE as a job, as there may be very many keys."""
    client = modes.client
    client.say_later(request.fact, where(client.service, request.args[2:], client.session.protocol))
    return True


def send(modes: Modes, request: Request) -> bool:
    """Carry out SLOTGATE SEND node command [arg ...], after all earlier requests are answered; the next ones wait."""
    client = modes.client
    if not client.alone():
        return False
    service = client.service
    found = find(service.topology, request.args[2].decode("utf-8", "replace"))
    if found is None:
        client.refuse(request.fact, errors.no_such_node(errors.text(request.args[2]), list(_names(service.topology))))
        return True
    shard, node = found
    session = client.session
    pending = client.hold(request.fact)
    place = Place(shard.name, node, node == shard.primary, session.protocol, session.db, 0)
    modes.sent = SingleRequest(
        service.upstream, pending.sink, pending.token, place, encode.request(request.args[3:]), client.holder
    )
    client.flow.stop(Stop.ORDER)
    return True


def _names(topology: Topology) -> Iterator[str]:
    for shard in topology.shards:
        yield shard.name
        yield from (node.address for node in shard.nodes)
