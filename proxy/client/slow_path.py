"""The slow path: carries out requests that neither fast path took, parsed by hiredis.

::

    carry_out ──▶ refused: unknown command, wrong number of arguments, no permission
              ──▶ postponed by a CLIENT PAUSE
              ──▶ features.commands: taken by a mode that the client is in, or begins
              ──▶ own_commands: answered by the proxy itself
              ──▶ planned: sent to the servers as the planner decides

A request of very many arguments is taken apart in a job, so that other clients are served meanwhile.
"""

from proxy import errors
from proxy.client import own_commands, planned
from proxy.client.client import Client
from proxy.client.fast_path import splitting
from proxy.client.own_answers import LONGEST
from proxy.commands.facts import Fact, Handling
from proxy.commands.table import UnknownSubcommand
from proxy.engine.jobs import ENOUGH, MORE, Job
from proxy.features import commands, login, tracking
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.planning.key_slots import Found, examining
from proxy.planning.planner import Reject
from proxy.planning.split import some_bulks
from proxy.resp import encode
from proxy.resp.requests import split_inline, split_ragged, split_request
from proxy.session import acl_access
from proxy.transport.flow_control import Stop

_LONG = 32 * 1024
_MANY = 1000
"""A request of more than ``_LONG`` bytes and ``_MANY`` arguments is taken apart in a job."""
_STEP = 500
"""Arguments of such a request that are taken apart before other clients are served."""
_HTTP = frozenset({b"post", b"host:"})
_CHANGING_USER = acl_access.LOGINS | {"reset"}
_OF_KEYS = (Handling.KEYED, Handling.MULTI_SHARD)


def carry_out(client: Client, frame: bytes, now: float) -> bool:
    """Carry out the request ``frame``, found by the client's framer. False if it must wait (nothing was done)."""
    framer = client.framer()
    client.said = frame if len(frame) <= LONGEST else None
    if framer.inline or framer.ragged:
        args = split_inline(frame) if framer.inline else split_ragged(frame)
        frame = encode.request(args)
    elif len(frame) > _LONG and _arguments(frame) > _MANY:
        client.flow.stop(Stop.LONG)
        client.service.slices.run(_taking_apart(client, frame, now), client)
        return True
    else:
        args = split_request(frame)
    return _parsed(client, args, frame, now, None)


def carry_out_nothing(client: Client, frame: bytes) -> None:
    """Carry out an empty request: it counts as a command whose reply CLIENT REPLY SKIP leaves out."""
    if client.own:
        client.own_answers.keep(client.known_session(), client.own, frame, None, [], None)
    elif client.session.muted():
        client.adopt_session()


def refuse(client: Client, frame: bytes, text: str) -> None:
    """Refuse the request ``frame``, found by the client's framer, with the error ``text``, whatever the request is."""
    framer = client.framer()
    if framer.inline or framer.ragged:
        args = split_inline(frame) if framer.inline else split_ragged(frame)
    else:
        args = some_bulks(frame, frame.index(b"\n") + 1, min(_arguments(frame), 2))[0]
    try:
        fact = client.service.inspector.table.resolve(args) if args else None
    except UnknownSubcommand as unknown:
        fact = unknown.fact
    client.latest = None
    if fact is not None:
        client.session.last_command = fact.name
    client.refuse(fact, text)


def _taking_apart(client: Client, frame: bytes, now: float) -> Job[None]:
    """Carry out a request of very many arguments. Requests that the client sent behind it wait."""
    done = yield from splitting(client, frame, now)
    if not done:
        args: list[bytes] = []
        at = frame.index(b"\n") + 1
        for left in range(0 if done is None else _arguments(frame), 0, -_STEP):
            some, at = some_bulks(frame, at, min(_STEP, left))
            args += some
            yield MORE
        found = (yield from _examining(client, args)) if args else None
        denied = (yield from _denying(client, args)) if args else ""
        yield ENOUGH  # the caller has used up its input by now, so a request can be put back
        examined = client.service.planner.examined
        examined.found = found
        try:
            if done is None or not _parsed(client, args, frame, now, denied):
                client.take_back(frame)
        finally:
            examined.found = None
    client.flow.go(Stop.LONG)


def _examining(client: Client, args: list[bytes]) -> Job[Found | None]:
    """Compute, a piece at a time, the data that the request's handler needs: the slots of very many keys, the options
    of CLIENT TRACKING, the digests of kept scripts. None if the handler needs none of these."""
    service = client.service
    fact: Fact | None
    try:
        fact = service.inspector.table.resolve(args)
    except UnknownSubcommand:
        return None
    if fact is None or not fact.accepts(len(args)):
        return None
    if fact.name == "client|tracking":
        found = Found(fact, args)
        found.asked = yield from tracking.asking(client, args)
        return found
    if fact.name == "script|exists":
        found = Found(fact, args)
        found.naming = yield from service.scripts.kept_among(args)
        return found
    if fact.handling in _OF_KEYS or fact.name == "watch":
        return (yield from examining(fact, args, service.inspector.slot_of, service.planner.pattern_slot))
    return None


def _denying(client: Client, args: list[bytes]) -> Job[str]:
    """The error if the rules of the client's user deny the request; empty if the rules allow it."""
    try:
        fact = client.service.inspector.table.resolve(args)
    except UnknownSubcommand:
        return ""
    if fact is None or not fact.accepts(len(args)):
        return ""
    return (yield from acl_access.denying(client.session, fact, args))


def _parsed(client: Client, args: list[bytes], frame: bytes, now: float, denied: str | None) -> bool:
    """Carry out a request. False if it must wait (nothing was done). ``denied`` is the error if the rules of the
    client's user deny the request, and empty if they allow it; None if the rules were not checked yet."""
    if not args:
        return True
    session = client.session
    service = client.service
    inspector = service.inspector
    clients = service.clients
    fact: Fact | None
    try:
        fact = inspector.table.resolve(args)
    except UnknownSubcommand as unknown:
        fact = unknown.fact
        if fact.name not in inspector.absent:
            client.refuse_for_good(fact, errors.unknown_subcommand(fact.name, args[1]))
            return True
    if (fact is None or fact.handling is Handling.REFUSED) and args[0].lower() in _HTTP:
        # A web page may have made a browser send this: Redis closes without an answer, before the body is executed.
        client.service.counters.reject("http")
        client.close()
        return True
    if fact is None or fact.name in inspector.absent:
        client.refuse_for_good(None, errors.unknown_command(args))
        return True
    client.latest = None
    session.last_command = fact.name
    if not fact.accepts(len(args)):
        client.refuse_for_good(fact, errors.wrong_arity(fact.name))
    elif (refusal := session.refusal(fact, args)) or (
        not session.unrestricted and (refusal := acl_access.denied(session, fact, args) if denied is None else denied)
    ):
        client.refuse(fact, refusal)
    elif service.query.refuses(frame, args):
        client.refuse(fact, errors.query_too_large(service.query.limit))
    elif clients.paused and clients.pausing.holds(fact, args):
        return _postpone(client, Request(fact, args, frame, now))
    elif clients.monitoring.watching:
        return _carry_out_monitored(client, Request(fact, args, frame, now))
    else:
        return _carry_out(client, Request(fact, args, frame, now))
    return True


def _postpone(client: Client, request: Request) -> bool:
    """Postpone a command until the pause is over, or refuse it at once if the planner rejects its keys.

    A script that this worker does not know is no reason to refuse: the other workers are asked after the pause.
    """
    if request.fact.handling in (Handling.KEYED, Handling.MULTI_SHARD) and not request.fact.blocking:
        plan = client.service.planner.plan(request.fact, request.args, request.frame)
        if isinstance(plan, Reject) and plan.text is not errors.NOSCRIPT:
            return _carry_out(client, request)
    client.postpone()
    return False


def _carry_out_monitored(client: Client, request: Request) -> bool:
    """Carry out a command, and show the command to the monitors unless it was refused."""
    counter = client.service.counters.command(request.fact.name)
    refused = counter.rejected
    done = _carry_out(client, request)
    if done and counter.rejected == refused:
        client.service.clients.monitoring.show(client.session, request.fact, request.args)
    return done


def _carry_out(client: Client, request: Request) -> bool:
    """Carry out a command that the client may call, and record in the audit log that it was or that it was refused.
    False if it must wait (nothing was done)."""
    session = client.session
    audit = session.world.denials.audit
    if audit is None:
        return _carry_out_unrecorded(client, request)
    fact, args = request.fact, request.args
    record = None if session.unrestricted else audit.record(session, fact, args)
    if record is not None and audit.full:
        client.refuse(fact, errors.AUDIT_FULL)
        return True
    counter = client.service.counters.command(fact.name)
    refused = counter.rejected
    done = _carry_out_unrecorded(client, request)
    if done and counter.rejected != refused:
        audit.denied(session, fact, args, "refused")
    elif done and record is not None:
        audit.write(record)
    return done


def _carry_out_unrecorded(client: Client, request: Request) -> bool:
    """Carry out a command that the client may call. False if it must wait (nothing was done)."""
    if request.fact.name in _CHANGING_USER and not login.may_change_user(client):
        return False
    done = _take_by_mode(client, request)
    if done is not None:
        return done
    if request.fact.handling is not Handling.SESSION:
        return planned.send(client, request)
    own_commands.run(client, request)
    return True


def _take_by_mode(client: Client, request: Request) -> bool | None:
    """Offer a command to the features. True if it was carried out, False if it must wait, None if none takes it."""
    modes = client.modes
    if modes is None:
        if request.fact.handling is not Handling.MODE:
            return None
        modes = client.modes = Modes(client)
    return commands.take(modes, request)


def _arguments(frame: bytes) -> int:
    """The number of arguments of a request."""
    return int(frame[1 : frame.index(b"\r")])
