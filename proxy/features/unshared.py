"""Requests that a server may answer with more than one frame (``proxy.planning.reply_counts``).

Each goes over a connection that its client has for itself meanwhile. Only the first frame is the answer, and a
connection that said more is closed. A client that tracks has connections of its own: its scripts go over these, or no
server would tell it of the keys that they read.
"""

from secrets import token_hex

from proxy.backends.dedicated_pool import Lease
from proxy.backends.dedicated_request import Fate
from proxy.backends.exec_request import ExecRequest
from proxy.backends.settings import Place
from proxy.backends.single_request import SingleRequest
from proxy.engine.sink import DISCARD, Sink, WholeReplySink
from proxy.features.host import Host
from proxy.features.request import Request
from proxy.planning.planner import Forward, Reject
from proxy.planning.reply_counts import RAISES
from proxy.planning.scatter import Part, Scatter
from proxy.resp import encode
from proxy.transport.flow_control import Stop

_ANSWER, _FENCE = range(2)
"""The tokens of replies: to the request, and to what goes behind it."""
_NONCE_BYTES = 16


class FencedReply(WholeReplySink):
    """Takes the answer for ``sink`` to a request that goes over a connection of ``client``'s own.

    Behind the request goes an ECHO of what nobody can guess: if that is not the second frame, the client's connections
    are closed.
    """

    __slots__ = ("_client", "_fence", "_nonce", "_reply", "_sink", "_token")

    def __init__(self, client: Host, sink: Sink, token: int) -> None:
        self._client = client
        self._sink = sink
        self._token = token
        self._nonce = token_hex(_NONCE_BYTES).encode()
        self._reply = b""
        self._fence = b""

    @property
    def owner(self) -> object:
        """The client's."""
        return self._client.window

    def halt(self) -> None:
        """The client's."""
        self._client.window.halt()

    def send(self, shard: int, block: bytes, *, read: bool, now: float) -> None:
        """Send the request, and the ECHO behind it; nothing else of the client is in flight, and nothing follows."""
        client = self._client
        client.flow.stop(Stop.ORDER)
        backend = (client.routes.readers if read else client.routes.writers)[shard]
        client.service.dispatcher.send(shard, read, block, client.routes, client.flow, self, _ANSWER, now)
        if backend is None:
            self.take(_FENCE, encode.bulk(self._nonce))
        else:
            backend.send(self, _FENCE, encode.request((b"ECHO", self._nonce)), now, None)

    def take(self, token: int, reply: bytes) -> None:
        """Take a reply."""
        elsewhere = token == _ANSWER and self._fence != b""
        if token == _FENCE:
            self._fence = reply
        else:
            self._reply = reply
        if not (self._reply and self._fence):
            return
        if self._fence != encode.bulk(self._nonce) or (elsewhere and reply.startswith(b"-")):
            # What was refused is sent elsewhere, and nothing goes behind it there: its error may have been more.
            for backend in self._client.service.upstream.pool.owned(self._client.number):
                backend.renew()
        self._sink.deliver(self._token, self._reply, 0, len(self._reply))


def over_own(client: Host, request: Request, plan: Forward | Scatter) -> bool | None:
    """Carry out a script of a client that tracks, over the connections that it has anyway. False if it must wait, None
    if it can not be done so."""
    modes, service = client.modes, client.service
    if modes is None or modes.tracker is None or isinstance(plan, Scatter) or request.fact.name not in RAISES:
        return None
    if not client.alone():
        return False
    if service.upstream.redirections.unsettled or client.for_large(request.frame) is not client.routes:
        return None
    fact, args, now = request.fact, request.args, request.now
    pending = client.hold(fact)
    read = plan.read
    service.scripts.prepare(
        fact.name, args, [(client.routes.readers if read else client.routes.writers)[plan.shard]], now
    )
    pending.sink = client.writing([plan.shard], not fact.readonly, pending.sink)
    modes.tracker.before([plan.shard], now)
    FencedReply(client, pending.sink, pending.token).send(plan.shard, request.frame, read=read, now=now)
    return True


def carry_out(client: Host, request: Request, plan: Forward | Scatter) -> bool:
    """Carry out a request as it is planned, but over leases. False if it must wait until all that its client sent is
    answered."""
    fact, args, frame = request.fact, request.args, request.frame
    if (done := over_own(client, request, plan)) is not None:
        return done
    if not client.alone():
        return False
    service = client.service
    pending = client.hold(fact)
    service.scripts.note(fact.name, args)
    parts = plan.parts if isinstance(plan, Scatter) else [Part(plan.shard, frame)]
    client.flow.stop(Stop.ORDER)
    pending.sink = client.writing([part.shard for part in parts], not fact.readonly, pending.sink)
    gather = service.dispatcher.gather(plan, pending.sink, pending.token) if isinstance(plan, Scatter) else None

    def send(index: int, part: Part) -> None:
        def done(lease: Lease | None, fate: Fate, reply: bytes) -> None:
            if lease is not None:
                service.upstream.leases.give_back(lease, untouched=True)
            if gather is None:
                pending.answer(reply)
            else:
                gather.deliver(index, reply, 0, len(reply))
            if client.modes is not None:
                client.modes.read_untracked()

        slots: frozenset[int] | Reject
        if isinstance(plan, Scatter):
            # Any slot stands for its shard.
            owners = service.topology.slot_shard
            slots = frozenset((owners.index(part.shard),)) if part.shard in owners else frozenset()
        else:
            slots = service.planner.slots(fact, args)
            assert not isinstance(slots, Reject), "it was planned"
        ExecRequest(service.upstream, client, slots, part.frame, done, repeat=fact.readonly, fenced=True).start()

    for index, part in enumerate(parts):
        send(index, part)
    if isinstance(plan, Scatter) and plan.way.replicas:
        _send_to_replicas(client, plan)
    client.adopt_session()
    return True


def _send_to_replicas(client: Host, plan: Scatter) -> None:
    """Replicas get it too if they are there; their replies are nobody's."""
    service = client.service
    there = {backend.place.node for backend in service.upstream.pool if backend.ready}
    for part in plan.parts:
        shard = service.topology.shards[part.shard]
        for node in shard.replicas:
            if node in there:
                place = Place(shard.name, node, False, client.session.protocol, client.session.db, 0)
                SingleRequest(service.upstream, DISCARD, 0, place, part.frame, client.holder)
