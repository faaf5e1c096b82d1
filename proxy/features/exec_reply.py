"""The end of a transaction: the server's reply to EXEC, completed by the replies to the proxy's own commands; and what
is sent along with those of these commands after which the connection has another database or protocol."""

from collections.abc import Iterator, Sequence
from copy import copy

from proxy.engine.jobs import MORE, Job
from proxy.engine.sink import Sink, WholeReplySink
from proxy.features.host import Host
from proxy.features.own_dispatch import reply_of_all, reply_of_one
from proxy.features.request import PendingReply
from proxy.planning import exec_block
from proxy.planning.channels import BEGIN, END
from proxy.planning.exec_block import Queued
from proxy.resp import encode
from proxy.resp.replies import elements
from proxy.session.cross_worker import CrossWorkerCommand
from proxy.session.login_commands import foresee
from proxy.session.session import ReplyMode, Session, select

_TOLD = frozenset((*BEGIN, *END))
"""Commands that are confirmed even after CLIENT REPLY OFF or SKIP, as in Redis."""


class Ending(WholeReplySink):
    """Makes the client's reply of the server's reply to EXEC, and carries out the proxy's own commands in it."""

    __slots__ = ("_client", "_frames", "_items", "_next", "_said", "_silent", "pending")

    def __init__(self, client: Host, items: Sequence[Queued], pending: PendingReply) -> None:
        self._client = client
        self._items = items
        self.pending = pending
        self._silent = pending.muted
        """Whether CLIENT REPLY suppresses the replies to the next commands."""
        self._frames: Iterator[bytes] = iter(())
        self._next = 0
        self._said: list[bytes] = []

    @property
    def owner(self) -> object:
        """The client's reply window."""
        return self._client.window

    @property
    def counted(self) -> bool:
        """Always False: an error is counted later, when the client is answered."""
        return False

    def halt(self) -> None:
        """Halt the client's reply window."""
        self._client.window.halt()

    def direct(self) -> Sink:
        """The sink for a reply that the client gets unchanged."""
        return self.pending.sink

    def take(self, token: int, reply: bytes) -> None:
        """Take the server's reply to EXEC."""
        if reply.startswith(b"*") and reply not in exec_block.NULLS:
            self.finish(elements(reply))
        else:
            self._answer(reply)

    def finish(self, frames: Sequence[bytes]) -> None:
        """Answer EXEC with the server's replies ``frames`` and the proxy's own, in the order of the commands."""
        self._frames = iter(frames)
        if not self._silent:
            self._said.append(b"*%d\r\n" % len(self._items))
        self._go_on()

    def _go_on(self) -> None:
        self._client.service.slices.run(self._going_on(), self._client)

    def _going_on(self) -> Job[None]:
        client = self._client
        while self._next < len(self._items):
            item = self._items[self._next]
            self._next += 1
            if item.denied:
                self._add(item.denied)
            elif item.own:
                if item.along:
                    next(self._frames)
                now = client.service.turn.now()
                name, args = item.fact.name, item.args
                row = client.own_command(name)
                if not isinstance(row, CrossWorkerCommand):
                    self._add_own(item, reply_of_one(client, row, name, args, now))
                else:
                    own = yield from reply_of_all(client, row, name, args, now, self._replied)
                    if own is None:
                        return
                    self._add_own(item, own)
            else:
                reply = next(self._frames)
                self._add(reply if item.whole is None else client.service.dispatcher.merged(item.whole, reply))
            yield MORE
        self.pending.unmute()  # only confirmations are left, which CLIENT REPLY does not suppress
        self._answer(b"".join(self._said))

    def _replied(self, reply: bytes) -> None:
        """Add the reply to a command about the clients of all workers, and go on with the next command."""
        self._add_own(self._items[self._next - 1], reply)
        self._go_on()

    def _add_own(self, item: Queued, reply: bytes) -> None:
        """Add the reply to one of the proxy's own commands."""
        session = self._client.session
        name = item.fact.name
        if name == "client|reply" and session.reply_mode is not ReplyMode.SKIP:
            self._silent = session.reply_mode is ReplyMode.OFF
        if name in _TOLD and not reply.startswith(b"-"):
            self._said.append(reply)
        else:
            self._add(reply)
        self._silent = self._silent or session.closing  # a client that killed itself gets no further reply

    def _add(self, reply: bytes) -> None:
        if not self._silent:
            self._said.append(reply)

    def _answer(self, reply: bytes) -> None:
        client = self._client
        session = client.session
        session.queued = -1
        if client.modes is not None:
            client.modes.forget_expected()
        client.adopt_session()
        self.pending.answer(reply)
        if session.closing:
            client.drain()


def follow(session: Session, items: Sequence[Queued]) -> None:
    """Add a SELECT or HELLO for the server to each queued command that will change the database or protocol of
    ``session``."""
    scratch = copy(session)
    for item in items:
        if item.denied:
            continue
        if item.fact.name == "select":
            db = scratch.db
            select(scratch, item.args)
            if scratch.db != db:
                item.along = encode.request(("SELECT", scratch.db))
        elif item.fact.name == "hello":
            protocol, _ = foresee(scratch, "hello", item.args)
            if protocol != scratch.protocol:
                scratch.protocol = protocol
                item.along = encode.request(("HELLO", protocol))
