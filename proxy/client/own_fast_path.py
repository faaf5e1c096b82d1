"""The own fast path: commands that the proxy answers itself, without hiredis, the table of commands and the modes.

Any client can send such requests at any rate, so they must cost no more than a server's own answers cost::

    PING\\r\\n PING\\r\\n PING\\r\\n ...     the same bytes as the request before: the same answer (``repeat``)
    ECHO 1, ECHO 2 ...                 split here, found by name: answered by the command's function (``answer``)

A client's mode (``ClientMode``) says whether the client queues commands, is subscribed, and so on. The answer to a
request is remembered if it depends only on the request, the mode and whether the client has logged in; otherwise the
function that makes the answer is remembered. All other requests take the slow path (``proxy.client.slow_path``).
"""

from proxy import errors
from proxy.client.client import Client
from proxy.client.own_answers import LONGEST, Call, OwnAnswers
from proxy.features.commands import WHILE_SUBSCRIBED
from proxy.features.state import Modes
from proxy.planning.exec_block import QUEUED, Queue, Queued
from proxy.resp import encode
from proxy.resp.requests import ProtocolError, split_inline, split_short
from proxy.session.session import ClientMode, ReplyMode, Session, pong
from proxy.transport.write_batch import OWN, Turn

_NOAUTH = encode.error(errors.NOAUTH)
_WITHOUT = {name: encode.error(errors.without_multi(name)) for name in ("exec", "discard")}
_OWN = OWN
_IS_OWN = ClientMode.OWN
_QUEUES = ClientMode.QUEUES
_SPOILED = ClientMode.SPOILED
_LISTENS = ClientMode.LISTENS
_ON = ReplyMode.ON
_NONE = (0, 0, 0)
_PING_MOST = 2
"""The most words of a PING that is well-formed."""
_AT_ONCE = 32
"""The most commands of a transaction that are answered without a pause for other clients."""
_FEW = 16
"""The most clients that are listed without a pause for other clients."""
_LINE = 8
"""The credits that each line of CLIENT LIST costs."""


def repeat(client: Client, data: bytes, pos: int, turn: Turn, more: bool) -> int:
    """Answer the requests at ``data[pos:]`` that equal the one that was answered last, while the turn's credit lasts.

    Returns the offset of the first request that is not answered. ``more``: requests behind ``data`` have arrived, too.
    """
    lookup = client.own_answers
    text = lookup.text
    if lookup.mode != client.own or not data.startswith(text, pos):
        return pos
    session = client.known_session()
    if session.authenticated is not lookup.authenticated:
        return pos
    size = len(data)
    step = len(text)
    call = lookup.call
    fixed = lookup.reply
    if call is None and fixed is None:
        while turn.credit > 0 and data.startswith(text, pos):
            turn.credit -= 1
            pos += step
        return pos
    if call is not None and call.restricted and not session.unrestricted and not session.permissions.allows(call.fact):
        return pos
    if call is not None and call.kind is not None:
        if not _ends_nothing(client, session, call, lookup.args):
            return pos
        run = call.run
        assert run is not None
        fixed = run(session, lookup.args)
    window = client.window
    counter = lookup.counter
    queues = lookup.queues
    if queues and lookup.planner is not None and lookup.planner is not client.service.planner:
        return pos
    if queues and not session.unrestricted and lookup.permissions is not session.permissions:
        return pos
    lookup.now = client.last_active
    client.latest = None
    if lookup.name:
        session.last_command = lookup.name
    while turn.credit > 0 and data.startswith(text, pos):
        if queues and not _queue_again(client, session, lookup):
            break
        turn.credit -= _OWN
        pos += step
        window.gathers = more or pos < size
        if counter is not None:
            if lookup.refused:
                counter.rejected += 1
            else:
                counter.calls += 1
        if fixed is not None:
            window.answer(fixed)
        elif call is None or not carry_out(client, session, call, lookup.args):
            break
    return pos


def _queue_again(client: Client, session: Session, lookup: OwnAnswers) -> bool:
    """Queue once more the request that was queued last. False if the transaction has no room for it."""
    if lookup.mode == _QUEUES:
        queue = _queue(client)
        assert lookup.fact is not None
        item = Queued(lookup.fact, lookup.args, lookup.frame, None, lookup.own)
        item.run = lookup.run
        if queue.size + item.size > lookup.most:
            return False
        if not session.unrestricted:
            queue.allow(lookup.permissions)
        queue.add(item, lookup.slots)
    session.queued += 1
    return True


def carry_out(client: Client, session: Session, call: Call, args: list[bytes]) -> bool:
    """Answer ``call`` by its function. False if it changed how the next requests have to be carried out."""
    run = call.run
    assert run is not None
    window = client.window
    if not call.changing:
        reply = run(session, args)
        if reply.startswith(b"-"):
            call.counter.failed += 1
        window.answer(reply)
        return True
    authenticated, db, user = session.authenticated, session.db, session.user
    protocol, reads_replicas = session.protocol, session.reads_replicas
    reply = run(session, args)
    if reply.startswith(b"-"):
        call.counter.failed += 1
    window.answer(reply)
    moved = db != session.db or protocol != session.protocol or reads_replicas is not session.reads_replicas
    same = authenticated is session.authenticated and user is session.user
    if not moved and same and session.reply_mode is _ON:
        return True
    client.changed(moved)
    return False


def answer(client: Client, frame: bytes, inline: bool) -> bool:
    """Answer the request in ``frame`` if the own fast path can. False if the request has to take the slow path."""
    mode = client.own
    if mode == _SPOILED:
        return False
    try:
        args = split_inline(frame) if inline else split_short(frame)
    except ProtocolError:
        return False
    if not args:
        return False
    lookup = client.own_answers
    call = lookup.calls.get(args[0])
    if call is None:
        return False
    count = len(args)
    if call.subcommands is not None and count > 1:
        call = call.subcommands.get(args[1])
        if call is None:
            return False
    session = client.known_session()
    if call.secret and (session.world.users.slow or session.world.delays.active):
        return False  # the login may have to wait
    if (call.secret or call.resets) and client.window.pending and client.service.clients.limited:
        return False  # the user may change only when all is answered
    checked = call.restricted and session.authenticated and not session.unrestricted
    if checked and not session.permissions.allows(call.fact):
        return False
    arity = call.arity
    refusal = b""
    if count != arity and (arity >= 0 or count < -arity):
        refusal = encode.error(errors.wrong_arity(call.name))
    elif not session.authenticated and not call.no_auth:
        refusal = _NOAUTH
    elif mode == _LISTENS:
        if call.ends is not None or call.fact.privileged:
            return False
        if call.name not in WHILE_SUBSCRIBED:
            refusal = encode.error(errors.in_subscribe_mode(call.name))
        elif call.kind is None and (not call.fixed or count > _PING_MOST):
            return False
    elif call.run is None:
        return call.ends is not None and _begin_or_end(client, session, call)
    if refusal and call.ends is not None and call.name == "exec":
        if client.modes is not None:
            return False  # a refused EXEC ends the transaction and releases the watched keys
        refusal = encode.error(errors.exec_refused(errors.text(refusal[1:-2])))
    if call.resets and client.modes is not None:
        return False  # RESET ends the modes of the client
    keeps = len(frame) <= LONGEST and not call.secret
    if mode == _QUEUES:
        # The slow path refuses a command in a transaction, because the refusal spoils the transaction.
        return not (refusal or call.lists) and _enqueue(client, session, lookup, call, args, frame, inline, keeps)
    if not refusal:
        if call.kind is not None and not _ends_nothing(client, session, call, args):
            return False
        if call.lists and not _lists_at_once(client):
            return False
    client.latest = None
    session.last_command = call.name
    window = client.window
    if refusal:
        call.counter.rejected += 1
        window.answer(refusal)
        if keeps:
            lookup.keep_refused(session, client.own, frame, call.counter, refusal)
        return True
    call.counter.calls += 1
    lookup.now = client.last_active
    if call.fixed:
        run = call.run
        assert run is not None
        reply = pong(args) if mode == _LISTENS else run(session, args)
        window.answer(reply)
        if reply.startswith(b"-"):
            call.counter.failed += 1
        elif keeps:
            lookup.keep(session, client.own, frame, call, args, reply)
        return True
    carry_out(client, session, call, args)
    if keeps and not (call.lists or call.resets):
        lookup.keep(session, client.own, frame, call, args, None)
    return True


def _ends_nothing(client: Client, session: Session, call: Call, args: list[bytes]) -> bool:
    """Whether the client has no subscription that ``call`` would end."""
    if session.listening == _NONE:
        return True
    modes = client.modes
    if modes is None or modes.subscriptions is None:
        return True
    kind = call.kind
    assert kind is not None
    return modes.subscriptions.has_none(kind, args[1:])


def _lists_at_once(client: Client) -> bool:
    """Whether so few clients are connected that they are listed here; the turn's credit pays for their lines."""
    service = client.service
    count = len(service.clients)
    if count > _FEW or service.siblings is not None:
        return False
    turn = service.turn
    turn.credit -= count * _LINE
    return True


def _enqueue(
    client: Client,
    session: Session,
    lookup: OwnAnswers,
    call: Call,
    args: list[bytes],
    frame: bytes,
    inline: bool,
    keeps: bool,
) -> bool:
    """Queue a command of the proxy's own. False if the transaction has no room for it."""
    queue = _queue(client)
    item = Queued(call.fact, args, encode.request(args) if inline else frame, None, True)
    if not call.changing and call.kind is None:
        item.run = call.run
    if queue.size + item.size > lookup.most:
        return False
    client.latest = None
    session.last_command = call.name
    if not session.unrestricted:
        queue.allow(session.permissions)
    queue.add(item, ())
    session.queued += 1
    client.window.answer(QUEUED)
    if keeps:
        lookup.keep_queued(session, client.own, frame, item, frozenset(), None)
    return True


def _begin_or_end(client: Client, session: Session, call: Call) -> bool:
    """Carry out MULTI, EXEC or DISCARD in the simple case: no keys are watched, and the few queued commands are all
    answered here. False in any other case."""
    reply = call.ends
    assert reply is not None
    if call.name == "multi":
        if client.own != _IS_OWN:
            return False
        _begin_queue(client)
    elif client.own == _IS_OWN:
        reply = _WITHOUT[call.name]
        call.counter.failed += 1
    else:
        queue = _queue(client)
        if len(queue.items) > _AT_ONCE or not queue.answered or not _only_queues(client):
            return False
        if not session.unrestricted and queue.allowed_by is not session.permissions and queue.items:
            return False
        if queue.items and call.name == "exec":
            reply = _execute(client, session, queue.items)
        _end_queue(client)
    client.latest = None
    session.last_command = call.name
    call.counter.calls += 1
    client.window.answer(reply)
    return True


def _queue(client: Client) -> Queue:
    """The transaction that the client has begun."""
    modes = client.modes
    assert modes is not None
    queue = modes.queue
    assert queue is not None
    return queue


def _begin_queue(client: Client) -> None:
    """Begin a transaction (MULTI) for a client that is in the mode OWN."""
    modes = client.modes
    if modes is None:
        modes = client.modes = Modes(client)
    modes.queue = Queue()
    session = client.known_session()
    session.queued = 0
    client.plain = False
    client.own = _QUEUES


def _only_queues(client: Client) -> bool:
    """Whether the client, which is in a transaction, watches no keys and has no subscriptions."""
    modes = client.modes
    assert modes is not None
    return modes.watch is None and modes.subscriptions is None


def _end_queue(client: Client) -> None:
    """End a transaction that changed no state of the client, which is in no other mode."""
    modes = client.modes
    assert modes is not None
    modes.queue = None
    session = client.known_session()
    session.queued = -1
    client.own = _IS_OWN
    client.plain = session.authenticated and client.lookups.allowed


def _execute(client: Client, session: Session, items: list[Queued]) -> bytes:
    """Carry out the commands of a transaction, all of which are answered here, and return the reply to EXEC."""
    lookup = client.own_answers
    lookup.now = client.last_active
    replies = []
    for item in items:
        run = item.run
        assert run is not None
        lookup.count(item.fact)
        replies.append(run(session, item.args))
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))
