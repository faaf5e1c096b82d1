"""The commands of pub/sub. PUBLISH and SPUBLISH are sent to one shard, and counted as if every client of the proxy were
a client of the server.

In a transaction or a script they are the server's own, and so is what they count: all clients of a worker as one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from proxy.commands.facts import Fact
from proxy.engine.jobs import Job
from proxy.engine.sink import ForwardingSink, Sink
from proxy.features.host import Host
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.planning.channels import BEGIN, END, Kind, nothing_ended
from proxy.pubsub.beginnings import Elsewhere
from proxy.pubsub.subscriber import Subscriber
from proxy.pubsub.topic import PendingSubscription
from proxy.resp import encode
from proxy.transport.flow_control import Stop

PUBLISHES: Mapping[str, Kind] = {"publish": Kind.CHANNEL, "spublish": Kind.SHARD}
"""The commands that publish, and what hears them beside patterns."""
ASKING = frozenset(f"pubsub|{word}" for word in ("channels", "numsub", "numpat", "shardchannels", "shardnumsub"))


class Named(Protocol):
    """A command, and its arguments from its name on."""

    @property
    def fact(self) -> Fact:
        """What is known of it."""

    @property
    def args(self) -> Sequence[bytes]:
        """Its arguments."""


def publish(modes: Modes, request: Request) -> bool:
    """PUBLISH, SPUBLISH."""
    client = modes.client
    service = client.service
    kind = PUBLISHES[request.fact.name]
    shard = service.hub.publisher(kind, request.args[1])
    if _waits(client, service.hub.ending(kind, request.args[1], shard)):
        return False
    if awaits_listeners(modes, (request,)):
        return False
    routes = client.for_large(request.frame)
    if routes is None:
        return False
    pending = client.hold(request.fact)
    if service.hub.busy:
        pending.sink = _Counted(client, pending.sink, kind, request.args[1])
    service.dispatcher.send(shard, False, request.frame, routes, client.flow, pending.sink, pending.token, request.now)
    return True


def awaits_listeners(modes: Modes, requests: Iterable[Named]) -> bool:
    """Whether some of what publishes among ``requests`` would be heard by somebody who has asked for it, and does not
    hear it yet: then it waits, but not for those who ask meanwhile."""
    awaited, beginnings = modes.awaited, modes.client.service.hub.beginnings
    claims: set[PendingSubscription] = set()
    elsewhere: list[Elsewhere] = []
    if awaited is None and beginnings:
        for each in requests:
            if each.fact.name in PUBLISHES:
                claims |= beginnings.of(PUBLISHES[each.fact.name], each.args[1])
                elsewhere += beginnings.elsewhere(each.args[1])
    return _waits_for(modes, claims, elsewhere)


def _waits_for(modes: Modes, claims: Collection[PendingSubscription], elsewhere: Sequence[Elsewhere] = ()) -> bool:
    """Whether a client waits for ``claims``, or for those that it has begun to wait for."""
    client = modes.client
    if modes.awaited is None and (claims or elsewhere):
        beginnings = client.service.hub.beginnings
        modes.awaited = beginnings.wait(claims, elsewhere, lambda: client.flow.go(Stop.ORDER))
    if modes.awaited is None:
        return False
    if modes.awaited.over:
        modes.awaited = None
        return False
    client.flow.stop(Stop.ORDER)
    return True


def asks_too_early(modes: Modes) -> bool:
    """Whether a command of ``ASKING`` asks the servers who is subscribed while some of them do not know that somebody
    is, or is no more: then it waits."""
    hub = modes.client.service.hub
    return _waits(modes.client, hub.endings) or _waits_for(modes, hub.beginnings.all() if modes.awaited is None else ())


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
    listening = modes.listening()
    if not (listening.follows or client.alone()):
        return False
    pending = client.hold(request.fact)
    pending.unmute()  # it is told all the same, as Redis does
    listening.begin(BEGIN[request.fact.name], request.args[1:], pending)
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
