"""Requests that a server may answer with more than one frame (``proxy.planning.reply_counts``).

Each goes over a connection that its client has for itself meanwhile. Only the first frame is the answer, and a
connection that said more is closed.
"""

from proxy.backends.dedicated_pool import Lease
from proxy.backends.dedicated_request import Fate
from proxy.backends.exec_request import ExecRequest
from proxy.backends.settings import Place
from proxy.backends.single_request import SingleRequest
from proxy.engine.sink import DISCARD
from proxy.features.host import Host
from proxy.features.request import Request
from proxy.planning.planner import Forward, Reject
from proxy.planning.scatter import Part, Scatter
from proxy.transport.flow_control import Stop


def carry_out(client: Host, request: Request, plan: Forward | Scatter) -> bool:
    """Carry out a request as it is planned, but over leases. False if it must wait until all that its client sent is
    answered."""
    fact, args, frame = request.fact, request.args, request.frame
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
