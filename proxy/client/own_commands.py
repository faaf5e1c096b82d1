"""Commands that the proxy answers itself, on the slow path: those about the client that asks, and those about the
clients of all workers."""

from collections.abc import Sequence
from functools import partial

from proxy.client.client import Client
from proxy.engine.jobs import Job
from proxy.features import commands
from proxy.features.request import Request
from proxy.resp import encode
from proxy.session import client_commands, cross_worker
from proxy.session.session import ReplyMode
from proxy.transport.flow_control import Stop

_REPLY_ON = ("client|reply", encode.OK)


def run(client: Client, request: Request) -> None:
    """Answer a command that is about the client itself, and adopt what it changed."""
    fact, args, now = request.fact, request.args, request.now
    session = client.session
    counter = client.service.counters.command(fact.name)
    counter.calls += 1
    mode = session.reply_mode
    muted = session.muted()
    before = session.db, session.protocol, session.reads_replicas
    reply = client_commands.run(session, fact.name, args, now)
    if fact.name == "reset" and client.modes is not None:
        commands.let_go(client.modes)
        client.modes = None
    if reply[:1] == b"-":
        counter.failed += 1
    if session.reply_mode is ReplyMode.ON and (mode is ReplyMode.OFF or (fact.name, reply) == _REPLY_ON):
        muted = False
    moved = (session.db, session.protocol, session.reads_replicas) != before
    if moved and client.modes is not None and client.modes.tracker is not None:
        client.modes.tracker.follow(client.window.reserve(), b"" if muted else reply)
    else:
        client.window.answer(b"" if muted else reply)
    client.changed(moved)
    if session.closing:
        client.drain()


def run_on_all_workers(client: Client, request: Request) -> None:
    """Answer a command about the clients of all workers. What follows it waits until each worker has done its part."""
    session = client.session
    command = cross_worker.COMMANDS[request.fact.name]
    client.service.counters.command(request.fact.name).calls += 1
    token = client.window.reserve()
    done = client.service.slices.run(_running_on_all_workers(client, request, command, token, session.muted()), client)
    if not done or (client.service.siblings is not None and client.window.pending):
        client.flow.stop(Stop.ORDER)
    client.adopt_session()


def _running_on_all_workers(
    client: Client, request: Request, command: cross_worker.CrossWorkerCommand, token: int, muted: bool
) -> Job[None]:
    """Do this worker's part, ask the other workers for theirs, and answer."""
    fact, args = request.fact, request.args
    session = client.session
    siblings = client.service.siblings
    wrong = yield from command.check(session.world, args)
    if wrong is not None:
        client.service.counters.command(fact.name).failed += 1
        reply = b"" if muted else encode.error(wrong)
        client.window.deliver(token, reply, 0, len(reply))
        return
    own = yield from command.part(session.world, session.id, args, request.now)
    if siblings is None:
        _answer_for_all(client, request, token, muted, (own,))
    else:
        then = partial(_answer_for_all, client, request, token, muted)
        siblings.ask(fact.name, args, session.id, lambda others: then((own, *others)))


def _answer_for_all(
    client: Client, request: Request, token: int, muted: bool, parts: Sequence[cross_worker.Part]
) -> None:
    """Answer with the parts of all workers put together."""
    session = client.session
    data = cross_worker.COMMANDS[request.fact.name].reply(parts, request.args, session.protocol)
    client.service.counters.command(request.fact.name).failed += data[:1] == b"-"
    if muted:
        data = b""
    client.window.deliver(token, data, 0, len(data))
    if session.closing:
        client.drain()
