"""Requests that a server may answer with more than one frame (``proxy.planning.reply_counts``).

Each of them uses a connection that its client has for itself meanwhile. Only the first frame is the reply, and a
connection with further frames is closed. A client that tracks has connections of its own, which its scripts use: over
any other connection, the keys that they read would not be tracked.
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
from proxy.planning.proof import RUNS_CODE
from proxy.planning.scatter import Part, Scatter
from proxy.resp import encode
from proxy.transport.flow_control import Stop

_ANSWER, _FENCE = range(2)
"""The tokens of replies: to the request, and to the ECHO behind it."""
_NONCE_BYTES = 16


class FencedReply(WholeReplySink):
    """The sink of the reply to a request that uses a connection of ``client``'s own; the reply is passed on to
    ``sink``.

    An ECHO of a random text is sent behind the request: if the second frame is not that text, the client's connections
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
        """The window of the client."""
        return self._client.window

    def halt(self) -> None:
        """Halt the client."""
        self._client.window.halt()

    def send(self, shard: int, block: bytes, *, read: bool, now: float) -> None:
        """Send the request and the ECHO behind it; no other request of the client is in flight, and none follows."""
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
            # A refused request is sent to another server, without the ECHO behind it: its error may have been more than
            # one frame.
            for backend in self._client.service.upstream.pool.owned(self._client.number):
                backend.renew()
        self._sink.deliver(self._token, self._reply, 0, len(self._reply))


def over_own(client: Host, request: Request, plan: Forward | Scatter) -> bool | None:
    """Carry out a script of a tracking client over the client's own connections. Returns False if it must wait, and
    None if these connections can not be used."""
    modes, service = client.modes, client.service
    if modes is None or modes.tracker is None or isinstance(plan, Scatter) or request.fact.name not in RUNS_CODE:
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
    """Carry out a plan over dedicated connections. Returns False if it must wait until all earlier requests of the
    client are answered."""
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
            # Any slot of the shard will do.
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
    """Send the parts to the connected replicas too, and discard their replies."""
    service = client.service
    there = {backend.place.node for backend in service.upstream.pool if backend.ready}
    for part in plan.parts:
        shard = service.topology.shards[part.shard]
        for node in shard.replicas:
            if node in there:
                session = client.session
                user = session.route.server_user
                place = Place(shard.name, node, False, session.protocol, session.db, 0, user=user)
                SingleRequest(service.upstream, DISCARD, 0, place, part.frame, client.holder)
