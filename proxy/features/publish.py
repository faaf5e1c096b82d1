"""The commands of pub/sub. PUBLISH and SPUBLISH are sent to one shard, and their reply counts each client of the proxy
as if it were a client of the server.

In a transaction or a script the server's own count is the reply: all clients of a worker count as one.
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
from proxy.pubsub.beginnings import Change, Elsewhere
from proxy.pubsub.subscriber import Subscriber
from proxy.resp import encode
from proxy.transport.flow_control import Stop

PUBLISHES: Mapping[str, Kind] = {"publish": Kind.CHANNEL, "spublish": Kind.SHARD}
"""The commands that publish, and the kind of the subscriptions that get the message, beside patterns."""
ASKING = frozenset(f"pubsub|{word}" for word in ("channels", "numsub", "numpat", "shardchannels", "shardnumsub"))


class Named(Protocol):
    """A command and its arguments, the name first."""

    @property
    def fact(self) -> Fact:
        """The facts about the command."""

    @property
    def args(self) -> Sequence[bytes]:
        """The arguments of the command."""


def publish(modes: Modes, request: Request) -> bool:
    """Carry out PUBLISH or SPUBLISH."""
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
    """Whether one of ``requests`` publishes to a subscription that was asked for, or asked to end, without being
    confirmed yet. The client then waits for that, but not for what is asked for later."""
    awaited, beginnings = modes.awaited, modes.client.service.hub.beginnings
    changes: set[Change] = set()
    elsewhere: list[Elsewhere] = []
    if awaited is None and beginnings:
        for each in requests:
            if each.fact.name in PUBLISHES:
                changes |= beginnings.of(PUBLISHES[each.fact.name], each.args[1])
                elsewhere += beginnings.elsewhere(each.args[1])
    return _waits_for(modes, changes, elsewhere)


def _waits_for(modes: Modes, changes: Collection[Change], elsewhere: Sequence[Elsewhere] = ()) -> bool:
    """Whether a client waits for ``changes`` of subscriptions, or for those that it waits for already."""
    client = modes.client
    if modes.awaited is None and (changes or elsewhere):
        beginnings = client.service.hub.beginnings
        modes.awaited = beginnings.wait(changes, elsewhere, lambda: client.flow.go(Stop.ORDER))
    if modes.awaited is None:
        return False
    if modes.awaited.over:
        modes.awaited = None
        return False
    client.flow.stop(Stop.ORDER)
    return True


def asks_too_early(modes: Modes) -> bool:
    """Whether a command of ``ASKING`` must wait because a server does not know yet of a subscription that begins or
    ends."""
    hub = modes.client.service.hub
    return _waits(modes.client, hub.endings) or _waits_for(modes, hub.beginnings.all() if modes.awaited is None else ())


def _waits(client: Host, servers: Sequence[Subscriber]) -> bool:
    """Whether a client has to wait until ``servers`` know that a subscription has ended, as it must not be counted any
    more."""
    if not servers:
        return False
    if client.alone():
        client.flow.stop(Stop.ORDER)
        client.service.hub.after(servers, lambda: client.flow.go(Stop.ORDER))
    return True


class _Counted(ForwardingSink):
    """The sink of the reply to PUBLISH: the server counts the worker once, and the sink counts its clients instead."""

    __slots__ = ("_channel", "_client", "_kind")

    def __init__(self, client: Host, sink: Sink, kind: Kind, channel: bytes) -> None:
        super().__init__(sink)
        self._client = client
        self._kind = kind
        self._channel = channel

    def accepts_stream(self, token: int) -> bool:
        """The whole reply, a number, is needed."""
        return False

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass on the corrected number, or an error."""
        reply = data[start:end]
        if reply[:1] == b":":
            self._client.service.slices.run(self._counting(token, int(reply[1:-2])), self._client)
        else:
            self.forward(token, reply)

    def _counting(self, token: int, known: int) -> Job[None]:
        """Correct the number that the server counted."""
        heard = yield from self._client.service.hub.counting(self._kind, self._channel, known)
        self.forward(token, encode.integer(heard))


def subscribe(modes: Modes, request: Request) -> bool:
    """Carry out SUBSCRIBE, PSUBSCRIBE or SSUBSCRIBE."""
    client = modes.client
    listening = modes.listening()
    kind, names = BEGIN[request.fact.name], request.args[1:]
    if not (listening.follows or client.alone()):
        if listening.excess(kind, names) is None:
            listening.changes.announce(kind, names)
        return False
    if refusal := listening.refusal(kind, names):
        client.refuse(request.fact, refusal)
        return True
    pending = client.hold(request.fact)
    pending.unmute()  # as in Redis, CLIENT REPLY does not suppress it
    listening.changes.begin(kind, names, pending)
    return True


def unsubscribe(modes: Modes, request: Request) -> bool:
    """Carry out UNSUBSCRIBE, PUNSUBSCRIBE or SUNSUBSCRIBE."""
    client = modes.client
    kind, names = END[request.fact.name], request.args[1:]
    listening = modes.listening()
    if not listening.begins and listening.has_none(kind, names):
        pending = client.hold(request.fact)
        pending.unmute()
        pending.answer(nothing_ended(kind, names, listening.count(kind), listening.protocol))
        client.adopt_session()
        return True
    if not (listening.follows or client.alone()):
        listening.changes.announce(kind, names)
        return False  # an earlier PUBSUB must still see the subscription
    pending = client.hold(request.fact)
    pending.unmute()
    listening.changes.end(kind, names, pending)
    return True


def told_at_exec(client: Host, name: str, args: Sequence[bytes]) -> bytes:
    """Begin or end subscriptions when EXEC is answered. Returns the confirmations."""
    modes = client.modes
    assert modes is not None, "it was queued"
    return modes.told_at_exec(name, args)
