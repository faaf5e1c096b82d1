"""Requests on the slow path that the planner has looked at: they are sent to the servers, or refused."""

from proxy import errors
from proxy.client.client import Client
from proxy.client.fast_path import reading
from proxy.commands.facts import Handling
from proxy.features import blocking, publish, unseen_scripts, unshared
from proxy.features.request import Request
from proxy.features.scan import Page
from proxy.features.state import Modes
from proxy.planning import reply_counts
from proxy.planning.planner import OF_KEYSPACE, Forward, Pin, Reject
from proxy.planning.proof import RUNS_CODE, runs_code
from proxy.planning.scatter import Scatter


def send(client: Client, request: Request) -> bool:
    """Send a request according to its plan. Returns False if it must wait; then nothing was done."""
    fact, args, frame, now = request.fact, request.args, request.frame, request.now
    service = client.service
    shown = client.listener.presented
    planner = service.planner.shown(shown is not None)
    if client.session.admin and not planner.without_cluster(fact):
        if fact.for_admins is not None:
            fact = fact.for_admins
            request = Request(fact, args, frame, now)
        elif fact.handling is Handling.REFUSED:
            client.refuse(fact, errors.not_for_all(fact.name, fact.reason))
            return True
    if fact.name in publish.ASKING:
        if client.modes is None:
            client.modes = Modes(client)
        if publish.asks_too_early(client.modes):
            return False
    plan = planner.plan(fact, args, frame)
    if service.upstream.redirections.unsettled and runs_code(fact) and service.topology.cluster:
        # A server knows the first key of a module's command only, and replies although other keys are missing.
        plan = planner.by_key(fact, args, frame) or plan
    share = None if shown is None or fact.name not in OF_KEYSPACE else shown.share(client.session.local_address)
    if share is not None:
        divided = planner.divided(plan, fact, args, share)
        if isinstance(divided, bytes):
            client.say(fact, divided)
            return True
        plan = divided
    if isinstance(plan, Reject):
        if unseen_scripts.is_awaited(client, plan, args):
            return False
        client.reject(fact, plan)
        return True
    if isinstance(plan, Pin):
        if client.modes is None:
            client.modes = Modes(client)
        return _passed(client, blocking.begin(client.modes, request, plan.shard))
    if fact.name in reply_counts.NAMES:
        raises = (
            service.upstream.may_raise(plan.shard, plan.read)
            if isinstance(plan, Forward)
            else service.upstream.may_raise()
        )
        if reply_counts.of_its_own(fact.name, args, raises):
            return _passed(client, unshared.carry_out(client, request, plan))
    if fact.name in RUNS_CODE and not client.may_call_scripts():
        return False
    routes = client.for_large(frame, plan)
    if routes is None:
        return False
    pending = client.hold(fact)
    token = pending.token
    if isinstance(plan, Scatter):
        shards, read, writes = [part.shard for part in plan.parts], plan.way.read, plan.way.changes
    else:
        shards, read, writes = [plan.shard], plan.read, not fact.readonly
    if client.own_writes is not None:
        routes = reading(client, shards, read, now, routes)
    sink = client.writing(shards, writes, pending.sink)
    if fact.scripting:
        if isinstance(plan, Scatter):
            targets = [routes.writers[part.shard] for part in plan.parts]
        else:
            targets = [(routes.readers if plan.read else routes.writers)[plan.shard]]
        found = planner.examined.of(fact, args)
        service.scripts.prepare(fact.name, args if found is None else found.naming, targets, now)
    if service.upstream.redirections.unsettled and isinstance(plan, Forward):
        service.upstream.forestall(
            frame, (routes.readers if plan.read else routes.writers)[plan.shard], sink, token, now
        )
    if client.modes is not None and client.modes.tracker is not None:
        client.modes.tracker.before(shards, now)  # no request may come in between
    if isinstance(plan, Scatter) and plan.way.merge == "scan":
        Page(client, plan, routes, sink, token, now)
    elif isinstance(plan, Scatter):
        service.dispatcher.scatter(plan, routes, client.flow, sink, token, now)
    else:
        service.dispatcher.send(plan.shard, plan.read, frame, routes, client.flow, sink, token, now)
    return True


def _passed(client: Client, done: bool) -> bool:
    """Tell the client's tracker, if the command is ``done``, that it used another connection than the tracker's."""
    if done and client.modes is not None and client.modes.tracker is not None:
        client.modes.tracker.passed()
    return done
