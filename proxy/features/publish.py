"""The commands of pub/sub. PUBLISH and SPUBLISH are sent to one shard, and counted as if every client of the proxy were
a client of the server.

In a transaction or a script they are the server's own, and so is what they count: all clients of a worker as one.
"""

from collections.abc import Sequence

from proxy.commands.facts import Fact
from proxy.engine.jobs import Job
from proxy.engine.sink import ForwardingSink, Sink
from proxy.features.host import Host
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.planning.channels import BEGIN, END, Kind, nothing_ended
from proxy.pubsub.subscriber import Subscriber
from proxy.resp import encode
from proxy.transport.flow_control import Stop

_ASKING = frozenset(f"pubsub|{word}" for word in ("channels", "numsub", "numpat", "shardchannels", "shardnumsub"))


def publish(modes: Modes, request: Request) -> bool:
    """PUBLISH, SPUBLISH."""
    client = modes.client
    service = client.service
    kind = Kind.SHARD if request.fact.name == "spublish" else Kind.CHANNEL
    shard = service.hub.publisher(kind, request.args[1])
    if _waits(client, service.hub.ending(kind, request.args[1], shard)):
        return False
    routes = client.for_large(request.frame)
    if routes is None:
        return False
    pending = client.hold(request.fact)
    if service.hub.busy:
        pending.sink = _Counted(client, pending.sink, kind, request.args[1])
    service.dispatcher.send(shard, False, request.frame, routes, client.flow, pending.sink, pending.token, request.now)
    return True


def asks_too_early(client: Host, fact: Fact) -> bool:
    """Whether a command asks the servers who is subscribed while some of them do not know that somebody is no more:
    then it waits."""
    return fact.name in _ASKING and _waits(client, client.service.hub.endings)


def _waits(client: Host, servers: Sequence[Subscriber]) -> bool:
    """Whether a client has to wait until the servers know of what ends over ``servers``: nobody should count it any
    more."""
    if not servers:
        return False
    if client.alone():
        client.flow.stop(Stop.ORDER)
        client.service.hub.after(servers, lambda: client.flow.go(Stop.ORDER))
    return True


class _Counted(ForwardingSink):
    """Takes the answer to PUBLISH: the worker, which the server counts once, stands for all its clients that hear."""

    __slots__ = ("_channel", "_client", "_kind")

    def __init__(self, client: Host, sink: Sink, kind: Kind, channel: bytes) -> None:
        super().__init__(sink)
        self._client = client
        self._kind = kind
        self._channel = channel

    def accepts_stream(self, token: int) -> bool:
        """No: it is a number."""
        return False

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass on the number, put right; or an error."""
        reply = data[start:end]
        if reply[:1] == b":":
            self._client.service.slices.run(self._counting(token, int(reply[1:-2])), self._client)
        else:
            self.forward(token, reply)

    def _counting(self, token: int, known: int) -> Job[None]:
        """Put right the number that a server knows."""
        heard = yield from self._client.service.hub.counting(self._kind, self._channel, known)
        self.forward(token, encode.integer(heard))


def subscribe(modes: Modes, request: Request) -> bool:
    """SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE."""
    client = modes.client
    if not client.alone():
        return False
    pending = client.hold(request.fact)
    pending.unmute()  # it is told all the same, as Redis does
    modes.listening().begin(BEGIN[request.fact.name], request.args[1:], pending)
    return True


def unsubscribe(modes: Modes, request: Request) -> bool:
    """UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE."""
    client = modes.client
    kind, names = END[request.fact.name], request.args[1:]
    listening = modes.listening()
    if listening.has_none(kind, names):
        pending = client.hold(request.fact)
        pending.unmute()
        pending.answer(nothing_ended(kind, names, listening.count(kind), listening.protocol))
        client.adopt_session()
        return True
    if not client.alone():
        return False  # PUBSUB before it is to see what ends here
    pending = client.hold(request.fact)
    pending.unmute()
    listening.end(kind, names, pending)
    return True


def told_at_exec(client: Host, name: str, args: Sequence[bytes]) -> bytes:
    """Begin or end subscriptions when EXEC is answered: the confirmations."""
    modes = client.modes
    assert modes is not None, "it was queued"
    return modes.told_at_exec(name, args)
