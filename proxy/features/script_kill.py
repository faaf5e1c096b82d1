"""Commands that must reach a server while a script keeps it busy: SCRIPT KILL, FUNCTION KILL, FUNCTION STATS.

While a script runs, its server reads no further requests from the connection of the script, which many clients share.
So these commands are sent over connections of their own, to all primaries and to the connected replicas. Some
connections are reserved for that, however many dedicated ones clients use. A server accepts the commands once the
script has run for its threshold (``busy-reply-threshold``); until then it answers nothing, and the commands wait.
"""

from collections.abc import Iterator

from proxy import server_errors
from proxy.backends.dedicated_pool import OWN
from proxy.backends.settings import Place
from proxy.backends.single_request import SingleRequest
from proxy.features.host import Services
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.planning.scatter import Part, Scatter, Way
from proxy.transport.flow_control import Stop

_KILLS = ("script|kill", "function|kill")
_PLAIN_DB = 0
"""A busy server refuses SELECT."""


def ask_all(modes: Modes, request: Request) -> bool:
    """Send the command to all servers, and answer with the merged replies; the client's next requests wait.

    A command that kills is sent at once, as the client's earlier requests may wait for that script.
    """
    client = modes.client
    service = client.service
    if request.fact.name not in _KILLS and not client.alone():
        return False
    places = list(_places(service, client.session.protocol))
    if not places:
        client.refuse(request.fact, server_errors.incomplete((), service.topology.cluster))
        return True
    pending = client.hold(request.fact)
    way = Way(request.fact.name, request.fact.merge or "one_ok", len(service.topology.shards))
    plan = Scatter(way, [Part(0, request.frame) for _ in places])
    gather = service.dispatcher.gather(plan, pending.sink, pending.token)
    client.flow.stop(Stop.ORDER)
    for index, place in enumerate(places):
        SingleRequest(service.upstream, gather, index, place, request.frame, OWN, patient=True)
    return True


def _places(service: Services, protocol: int) -> Iterator[Place]:
    there = {backend.place.node for backend in service.upstream.pool if backend.ready}
    for shard in service.topology.shards:
        for node in shard.nodes:
            if node == shard.primary or node in there:
                yield Place(shard.name, node, node == shard.primary, protocol, _PLAIN_DB, 0)
