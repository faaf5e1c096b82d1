"""Commands that the proxy answers itself, on the slow path: commands about the client that sends them, and commands
about the clients of all workers."""

from functools import partial

from proxy.client.client import Client
from proxy.engine.jobs import Job
from proxy.features import commands, login
from proxy.features.own_dispatch import FeatureCommand, reply_of_all
from proxy.features.request import PendingReply, Request
from proxy.resp import encode
from proxy.session.cross_worker import CrossWorkerCommand
from proxy.session.own_command import SessionCommand, TimedCommand
from proxy.session.session import ReplyMode
from proxy.transport.flow_control import Stop

_REPLY_ON = ("client|reply", encode.OK)


def run(client: Client, request: Request) -> None:
    """Answer a command that is about clients."""
    row = commands.find(request.fact.name)
    if isinstance(row, CrossWorkerCommand):
        _run_on_all_workers(client, request, row)
    else:
        assert not isinstance(row, FeatureCommand), "the feature would have taken it"
        session = client.session
        if login.takes_long(session, request):
            _run_verified(client, request, row)
        else:
            mode = session.reply_mode
            _run(client, request, row, client.called(request.fact), mode)


def _run_verified(client: Client, request: Request, row: SessionCommand | TimedCommand) -> None:
    """Verify the password of a command that logs in, perhaps after a delay, then answer it. Requests behind the command
    wait for that."""
    pending = client.hold(request.fact)
    client.flow.stop(login.verify(client, request, lambda: _run(client, request, row, pending, ReplyMode.ON)))
    client.adopt_session()


def _run(
    client: Client, request: Request, row: SessionCommand | TimedCommand, pending: PendingReply, mode: ReplyMode
) -> None:
    """Answer a command about the client itself, and adopt the changes of the session. ``mode`` is the client's
    ReplyMode before the command."""
    fact = request.fact
    session = client.session
    before = session.db, session.protocol, session.reads_replicas
    reply = row.run(session, request.args, request.now)
    if fact.name == "reset" and client.modes is not None:
        commands.let_go(client.modes)
        client.modes = None
    if session.reply_mode is ReplyMode.ON and (mode is ReplyMode.OFF or (fact.name, reply) == _REPLY_ON):
        pending.unmute()
    moved = (session.db, session.protocol, session.reads_replicas) != before
    if moved and client.modes is not None and client.modes.tracker is not None:
        client.modes.tracker.follow(pending.reserve(), reply)
    else:
        pending.answer(reply)
    client.changed(moved)
    if session.closing:
        client.drain()


def _run_on_all_workers(client: Client, request: Request, row: CrossWorkerCommand) -> None:
    """Answer a command about the clients of all workers. Requests behind the command wait until it is answered."""
    job = _running_on_all_workers(client, request, row, client.hold(request.fact))
    done = client.service.slices.run(job, client)
    if not done or (client.service.siblings is not None and client.window.pending):
        client.flow.stop(Stop.ORDER)
    client.adopt_session()


def _running_on_all_workers(
    client: Client, request: Request, row: CrossWorkerCommand, pending: PendingReply
) -> Job[None]:
    """Carry out the command on this worker and on the other workers, and answer it."""
    # A partial, because a compiled closure and this generator would keep each other, and the client, in memory.
    answer = partial(_answer, client, pending)
    reply = yield from reply_of_all(client, row, request.fact.name, request.args, request.now, answer)
    if reply is not None:
        answer(reply)


def _answer(client: Client, pending: PendingReply, reply: bytes) -> None:
    """Answer with ``reply``; if the command closed its own client, the connection ends after that reply."""
    pending.answer(reply)
    if client.session.closing:
        client.drain()
