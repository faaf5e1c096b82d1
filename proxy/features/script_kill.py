"""Commands that go around what keeps a server busy: SCRIPT KILL, FUNCTION KILL, FUNCTION STATS.

While a script runs, its server reads nothing more from the connection that it came over, which many clients share: so
they are sent over connections of their own, to the primaries and to the replicas that are there. There are always some
for that, however many clients have for themselves. A server takes them once the script has run for its threshold
(``busy-reply-threshold``); until then it answers nobody, and they wait.
"""

from collections.abc import Iterator

from proxy import errors
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
"""A server that is busy takes no SELECT."""


def ask_all(modes: Modes, request: Request) -> bool:
    """Send it to all servers, and answer what is made of their replies; what follows waits.

    To kill what runs it goes at once, as what this client sent before may wait for just that.
    """
    client = modes.client
    service = client.service
    if request.fact.name not in _KILLS and not client.alone():
        return False
    places = list(_places(service, client.session.protocol))
    if not places:
        client.refuse(request.fact, errors.incomplete((), service.topology.cluster))
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
