"""MULTI, EXEC and DISCARD, WATCH and UNWATCH, carried out for a client.

Commands are queued here, with Redis's errors. EXEC carries a transaction out in one of these ways::

    no command for a server           answered by the proxy
    with WATCH, SELECT or HELLO       one block over a lease (proxy.backends.exec_request, proxy.features.watch)
    with a command that a server may answer with several frames (proxy.planning.reply_counts)       the same
    any other transaction             one block over the shared connection of the shard's primary

The proxy's own commands in a transaction (CLIENT, ECHO ...) are carried out when EXEC is answered
(proxy.features.exec_reply).
"""

from collections.abc import Iterable, Sequence

from proxy import errors
from proxy.backends.dedicated_pool import Lease
from proxy.backends.dedicated_request import Fate
from proxy.backends.exec_request import ExecRequest
from proxy.backends.routes import Routes
from proxy.commands.facts import Fact
from proxy.engine.jobs import Job, at_once
from proxy.engine.sink import Sink
from proxy.features import login, publish, unseen_scripts
from proxy.features.exec_reply import Ending, follow
from proxy.features.host import Host
from proxy.features.publish import PUBLISHES
from proxy.features.request import PendingReply, Request
from proxy.features.state import Modes
from proxy.features.unshared import FencedReply
from proxy.features.watch import Watch
from proxy.planning import exec_block
from proxy.planning.channels import BEGIN
from proxy.planning.exec_block import Queue, Queued, TransactionEvent
from proxy.planning.planner import Reject
from proxy.planning.proof import RUNS_CODE
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.session.acl_access import LOGINS, denied_at_exec
from proxy.session.session import Session
from proxy.transport.flow_control import Stop

_CHECKED_LATE = LOGINS | {"sort", "sort_ro"}
"""The commands that the rules of the client's user may deny only when they are executed, and logins, behind which the
rules are those of another user."""
_FEW = 100
"""The most calls of scripts whose scripts are looked up without a pause for other clients."""


def multi(modes: Modes, request: Request) -> bool:
    """Begin a transaction."""
    client = modes.client
    if modes.queue is not None:
        client.say(request.fact, encode.error(errors.NESTED_MULTI))
        return True
    modes.queue = Queue()
    client.session.queued = 0
    client.say(request.fact, encode.OK)
    return True


def enqueue(modes: Modes, request: Request) -> bool:
    """Queue a command until EXEC, or refuse it if it is not allowed in a transaction. False if the command must wait
    (nothing was done)."""
    fact, args, frame = request.fact, request.args, request.frame
    client, queue = modes.client, modes.queue
    assert queue is not None
    service = client.service
    if fact.for_admins is not None and client.session.admin:
        fact = fact.for_admins
    as_cluster = client.session.listener.presented is not None
    found = service.planner.shown(as_cluster).member(fact, args, frame)
    if isinstance(found, Reject):
        if unseen_scripts.is_awaited(client, found, args):
            return False
        client.reject(fact, found)
        return True
    if isinstance(found, Scatter):
        item = Queued(fact, args, found.parts[0].frame, found)
        slots = frozenset[int]()
    else:
        item, slots = Queued(fact, args, frame), found
    if not queue.spoiled:
        most = service.limits.requests.request
        if queue.size + item.size > most:
            client.refuse(fact, errors.transaction_too_big(most))
            return True
        if queue.size + item.size > service.query.limit and queue.held() + item.taken > service.query.limit:
            client.refuse(fact, errors.transaction_too_large(service.query.limit))
            return True
        queue.allow(client.session.permissions)
        queue.add(item, slots)
    client.queued(item, slots, service.planner)
    return True


def spoil(modes: Modes, fact: Fact | None) -> None:
    """Note that a command was refused, so that EXEC will execute nothing. A refused EXEC ends the transaction."""
    if fact is not None and fact.name == "exec":
        discard(modes)
    elif modes.queue is not None:
        modes.queue.drop()


def discard(modes: Modes) -> None:
    """End the transaction, and release the watched keys."""
    _end(modes)
    modes.forget_expected()
    watch, modes.watch = modes.watch, None
    if watch is not None:
        watch.release()


def _end(modes: Modes) -> None:
    modes.queue = None
    modes.client.session.queued = -1
    modes.client.session.watched = 0


def discard_command(modes: Modes, request: Request) -> bool:
    """Carry out DISCARD."""
    client = modes.client
    if modes.queue is None:
        client.say(request.fact, encode.error(errors.without_multi(request.fact.name)))
        return True
    discard(modes)
    client.say(request.fact, encode.OK)
    return True


def unwatch(modes: Modes, request: Request) -> bool:
    """Carry out UNWATCH outside of a transaction."""
    discard(modes)
    modes.client.say(request.fact, encode.OK)
    return True


def unwatch_at_exec(client: Host, name: str, args: Sequence[bytes]) -> bytes:
    """Return the reply to a queued UNWATCH, which does nothing: EXEC has released the watched keys already."""
    return encode.OK


def watch(modes: Modes, request: Request) -> bool:
    """Carry out WATCH. Commands behind it wait until the server has confirmed it, so that no read can overtake it."""
    fact, args, frame = request.fact, request.args, request.frame
    client = modes.client
    service = client.service
    if modes.queue is not None:
        client.say(fact, encode.error(errors.WATCH_IN_MULTI))
        return True
    if not client.alone():
        return False
    held = modes.watch
    slots = service.planner.watched(fact, args, frozenset() if held is None else held.slots)
    if isinstance(slots, Reject):
        client.say(fact, _reject(client, slots))
        return True
    pending = client.hold(fact)
    client.flow.stop(Stop.ORDER)

    def watched(kept: Watch | None, reply: bytes) -> None:
        modes.watch = kept
        client.session.watched += len(args) - 1 if kept is not None and not reply.startswith(b"-") else 0
        client.adopt_session()
        pending.answer(reply)

    if held is None:
        modes.watch = Watch(client)
        modes.watch.begin(slots, frame, watched)
    else:
        held.add(frame, watched)
    return True


def execute(modes: Modes, request: Request) -> bool:
    """Carry out EXEC. False if it must wait (nothing was done)."""
    fact, now = request.fact, request.now
    client, queue, held = modes.client, modes.queue, modes.watch
    service = client.service
    if queue is None:
        client.say(fact, encode.error(errors.without_multi(fact.name)))
        return True
    if queue.spoiled:
        discard(modes)
        client.say(fact, encode.error(errors.EXECABORT))
        return True
    if service.clients.paused and service.clients.pausing.holds_any(queue):
        client.postpone()
        return False
    permissions = client.session.permissions
    names = {kind.fact.name for kind in queue.kinds.values()}
    changed = queue.allowed_by is not permissions and not permissions.unrestricted
    if changed or not names.isdisjoint(_CHECKED_LATE):
        queue = modes.queue = _without_denied(client.session, queue)
        names = {kind.fact.name for kind in queue.kinds.values()}
    if not names.isdisjoint(PUBLISHES) and publish.awaits_listeners(
        modes, [item for item in queue.items if not item.denied]
    ):
        return False
    listens = not names.isdisjoint(BEGIN)
    moves = queue.moves
    odd = queue.odd or (service.upstream.may_raise() and any(fact.name in RUNS_CODE for fact in queue.facts))
    large = queue.size >= service.query.large
    if (held is not None or moves or listens or odd or large) and not client.alone():
        return False
    if not names.isdisjoint(LOGINS) and not login.may_change_user(client):
        return False
    if queue.calls and not client.may_call_scripts():
        return False
    if listens:
        problem = modes.listening().expect([(item.fact.name, item.args) for item in queue.items if not item.denied])
        if problem == "":
            return False
        if problem is not None:
            discard(modes)
            client.say(fact, exec_block.aborted(encode.error(problem)))
            return True
    shard = 0
    if held is not None or queue.frames:
        place = service.planner.together(queue.slots if held is None else queue.slots | held.slots)
        if isinstance(place, Reject):
            reply = _reject(client, place)
            discard(modes)
            client.say(fact, reply)
            return True
        shard = place.shard
    if held is not None and held.broken:
        discard(modes)
        client.say(fact, exec_block.NULLS[client.session.protocol == 3])
        return True
    for kind in queue.kinds.values():
        service.counters.command(kind.fact.name).calls += kind.count
    queue.happened(TransactionEvent.EXECUTED)
    modes.queue = modes.watch = None
    client.session.watched = 0
    _carry_out(client, queue, held, shard, client.hold(fact), now, odd=odd, moves=moves)
    client.count_sent(queue.size)
    if not queue.own:
        _end(modes)
    client.adopt_session()
    return True


def _without_denied(session: Session, queue: Queue) -> Queue:
    """Return the queue with errors in place of the commands that the client may not run when EXEC is carried out."""
    queued = ((at, item.fact, item.args) for at, item in enumerate(queue.items) if not item.denied)
    denied = denied_at_exec(session, queue.allowed_by, queued)
    errors_at = {at: encode.error(text) for at, text in denied}
    if errors_at:
        queue = queue.without(errors_at)
    queue.allowed_by = session.permissions
    return queue


def _carry_out(
    client: Host,
    queue: Queue,
    held: Watch | None,
    shard: int,
    pending: PendingReply,
    now: float,
    *,
    odd: bool,
    moves: bool,
) -> None:
    """Send the block, or carry out a transaction without a command for a server.

    ``odd``: the server may answer with more than one frame for a command, so the block is not sent over a shared
    connection. ``moves``: a command may change the database or the protocol.
    """
    service = client.service
    remote = held is not None or bool(queue.frames)
    if remote and moves:
        follow(client.session, queue.items)
    ending = Ending(client, queue.items, pending)
    if queue.own or odd or held is not None:
        # The proxy's own commands are carried out when EXEC is answered, and later requests must wait for them.
        client.flow.stop(Stop.ORDER)
    if not remote:
        ending.finish([])
        return
    frames: Iterable[bytes] = queue.frames
    if moves:
        frames = (item.along or item.frame for item in queue.items if item.along or not item.own)
    block = exec_block.block(frames)
    calls = queue.calls
    own = odd and client.routes.key.owner and held is None and not moves
    if (held is not None or moves or odd) and not own:
        for name, args in calls:
            service.scripts.note(name, args)
        writes = _writes(queue)
        _send_alone(client, queue, held, block, client.writing([shard], writes, ending), repeat=not writes, fenced=odd)
        return
    if not calls:
        _send(client, queue, ending, block, shard, _routes(client, block), now, fenced=bool(own))
        return
    sending = _sending(client, queue, ending, block, shard, now, fenced=bool(own))
    if len(calls) <= _FEW:
        at_once(sending)
    elif not service.slices.run(sending, client):
        client.flow.stop(Stop.ORDER)


def _writes(queue: Queue) -> bool:
    """Whether one of the queued commands that are sent to a server may write."""
    return any(not fact.readonly for fact in queue.facts if not exec_block.answered_here(fact))


def _sending(
    client: Host, queue: Queue, ending: Ending, block: bytes, shard: int, now: float, *, fenced: bool
) -> Job[None]:
    """Do what ``_send`` does, after loading the scripts that the block calls."""
    service = client.service
    routes = _routes(client, block)
    backend, planner = routes.writers[shard], service.planner
    if backend is not None:
        yield from service.scripts.preparing(queue.calls, backend, now)
    if service.planner is not planner:
        # The topology has changed while scripts were loaded: the shard may be another one.
        place = service.planner.together(queue.slots)
        if isinstance(place, Reject):
            ending.pending.answer(_reject(client, place))
            return
        shard = place.shard
    _send(client, queue, ending, block, shard, routes, now, fenced=fenced)


def _routes(client: Host, block: bytes) -> Routes:
    """Return the routes over which ``block`` is sent. Later requests wait if it has a connection of its own."""
    routes = client.service.upstream.large_routes(block, client.routes, client.session.protocol, client.session.db)
    if routes is None:
        return client.routes
    client.flow.stop(Stop.ORDER)
    return routes


def _send(
    client: Host,
    queue: Queue,
    ending: Ending,
    block: bytes,
    shard: int,
    routes: Routes,
    now: float,
    *,
    fenced: bool,
) -> None:
    """Send the block over the client's connection to the shard's primary. ``fenced``: the server may answer with more
    than one frame for a command."""
    pending, writes = ending.pending, _writes(queue)
    if client.modes is not None and client.modes.tracker is not None:
        client.modes.tracker.before([shard], now)
    if fenced:
        sink = client.writing([shard], writes, ending)
        FencedReply(client, sink, pending.token).send(shard, block, read=False, now=now)
        return
    sink = client.writing([shard], writes, ending if queue.own or queue.wholes else ending.direct())
    client.service.dispatcher.send(shard, False, block, routes, client.flow, sink, pending.token, now)


def _send_alone(
    client: Host, queue: Queue, held: Watch | None, block: bytes, sink: Sink, *, repeat: bool, fenced: bool
) -> None:
    """Send the block over a lease: the lease of the watched keys, or a new one."""

    def done(lease: Lease | None, fate: Fate, reply: bytes) -> None:
        if held is not None and (fate is Fate.REFUSED or (fate is Fate.LOST and repeat)):
            # The block has changed nothing, and the keys can not be watched any more.
            reply = exec_block.NULLS[client.session.protocol == 3]
        elif lease is not None and queue.moves:
            lease.drop()  # the connection's database or protocol may have changed
        elif lease is not None:
            client.service.upstream.leases.give_back(lease)
        sink.deliver(0, reply, 0, len(reply))
        if client.modes is not None:
            client.modes.read_untracked()

    if held is not None:
        held.execute(block, queue.moves, done, fenced=fenced)
    else:
        ExecRequest(client.service.upstream, client, queue.slots, block, done, repeat=repeat, fenced=fenced).start()


def _reject(client: Host, rejected: Reject) -> bytes:
    client.service.counters.crossslots += rejected.text is errors.CROSSSLOT
    return encode.error(rejected.text)
