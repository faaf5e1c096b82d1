"""One client that tracks, and its connections to the servers: one to each primary, in the state of its session::

    the client's requests ──▶ its own Backend ──▶ server    (CLIENT TRACKING ON, HELLO and SELECT follow the session)
    the client ◀──────────── "invalidate" ◀─────────┘
    the client of REDIRECT ◀── "invalidate" ◀── a companion connection ◀── server

The push messages of a server keep their place among that server's replies.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from proxy import errors
from proxy.backends.handshake import Step, moves
from proxy.backends.settings import Place
from proxy.backends.shared import Backend
from proxy.commands.facts import Fact, Handling
from proxy.engine.sink import Sink
from proxy.features.host import Host
from proxy.features.request import PendingReply
from proxy.features.tracking_redirect import Companions
from proxy.resp import encode
from proxy.session.tracking_options import Tracking
from proxy.sharding.topology import Node
from proxy.transport.clock import Deadline

_INVALIDATE = b">2\r\n$10\r\ninvalidate\r\n"
_MESSAGE = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
_BROKEN = b">2\r\n$21\r\ntracking-redir-broken\r\n"
_NULL = b"_\r\n"
_NULL2 = b"$-1\r\n"
_ON = ("CLIENT", "TRACKING", "ON")
_OFF = encode.request(("CLIENT", "TRACKING", "OFF"))
_MOST_WAITING = 1000
"""The number of replies and invalidations that may wait for an earlier reply; further ones become one invalidation of
everything."""
_CACHING, _TOLD, _UNAWAITED, _MOVED, _MOVED_UNAWAITED = range(5)
"""The tokens of replies: to CLIENT CACHING, to other commands for the servers, which are waited for or not, and to
commands that change a connection's protocol or database."""
_AWAITED = frozenset((_TOLD, _MOVED))
_MOVES = frozenset((_MOVED, _MOVED_UNAWAITED))
_CACHING_FRAMES = {word: encode.request(("CLIENT", "CACHING", word)) for word in ("yes", "no")}
_MOMENT = 0.005
"""Seconds for which messages to a blocked client wait: its own command may have caused them, and is answered first."""
_TOGETHER = 0.05
"""Seconds for which the proxy waits for all servers to report that all keys are gone, as after FLUSHALL, before that is
passed on."""


class Tracker(Sink):
    """The tracking of one client, which is the ``backends.settings.ConnectionOwner`` of its connections, and the sink
    of the replies to the commands that the proxy sends over them.

    Each connection has one ``Place``, whatever the session's protocol and database are: these change with the session,
    when no request of the client is in flight.
    """

    __slots__ = (
        "_all_behind",
        "_begun",
        "_client",
        "_closed",
        "_companions",
        "_emptied",
        "_emptying",
        "_ending",
        "_held",
        "_left",
        "_pending",
        "_reply",
        "_service",
        "_state",
        "_task",
        "_timer",
        "_version",
        "_versions",
        "cost",
        "holder",
        "number",
        "tracking",
    )

    def __init__(self, client: Host, tracking: Tracking) -> None:
        self._client = client
        self._service = client.service
        self._companions = Companions(self._service, client.holder, self._overheard, self._lost_companion)
        self._timer: Deadline | None = None
        self._task: asyncio.Task[None] | None = None
        self._pending: PendingReply | None = None
        """The pending reply that gets ``_reply`` when all servers have answered; None if none is due."""
        self._reply = b""
        self._left = 0
        """The number of replies that have yet to arrive."""
        self._state = client.session.protocol, client.session.db
        """The protocol and database of the connections that are ready."""
        self._version = 0
        """The version of the options and the state, which grows with each change."""
        self._versions: dict[Node, int] = {}
        """The version that each server has."""
        self._begun = False
        self._ending = False
        self._closed = False
        self._held: list[bytes] = []
        """The invalidations that are sent in a moment."""
        self._all_behind = -1
        """The value of ``window.issued`` after the last invalidation of everything."""
        self._emptied: set[Node] = set()
        """The servers that have reported lately that all their keys are gone."""
        self._emptying: asyncio.TimerHandle | None = None
        """Runs until that is passed on although not all servers have reported it."""
        self.number = client.number
        self.holder = client.holder
        """The user and the address of the client."""
        self.cost = 0
        """The number of connections to servers, as counted when tracking began."""
        self.tracking = tracking

    # ---- commands for the servers

    def begin(self, pending: PendingReply, reply: bytes) -> None:
        """Answer ``reply`` when the servers track, or when those that can be reached do."""
        self._await(pending, reply)
        self._look()

    def change(self, tracking: Tracking, pending: PendingReply, reply: bytes) -> None:
        """Use other options from now on, over the same connections. Answer ``reply`` when the servers have them."""
        # A prefix that a server knows must not be named again.
        more = replace(tracking, prefixes=tuple(sorted({*tracking.prefixes} - {*self.tracking.prefixes})))
        self.tracking = tracking
        self._version += 1
        self._left += 1  # until all servers have been told
        self._await(pending, reply)
        self._task = self._service.loop.create_task(self._telling(list(more.options()), self._version))

    async def _telling(self, options: Sequence[Sequence[bytes]], version: int) -> None:
        """Send the options to the servers that can be reached; the other servers get them when they are connected."""
        for backend in self._service.upstream.pool.owned(self.number):
            try:
                if self.tracking.redirect:
                    await self._companions.come(backend.place)
            except errors.BackendError:
                backend.renew()
                continue
            if backend.ready and not self._closed:
                self._versions[backend.place.node] = version
                self._tell_options(backend, options, _TOLD)
        self._left -= 1
        self._settle()

    def _tell_options(self, backend: Backend, options: Iterable[Sequence[bytes]], token: int) -> None:
        for some in options:
            self._send(backend, token, encode.request((*_ON, *self._redirection(backend.place), *some)))

    def follow(self, pending: PendingReply | None = None, reply: bytes = b"") -> None:
        """Have the connections adopt the session's protocol and database, while no request of the client is in flight.
        Answer ``reply``, if one is due, when they have."""
        before, self._state = self._state, (self._client.session.protocol, self._client.session.db)
        if before != self._state:
            self._version += 1
            for backend in self._service.upstream.pool.owned(self.number):
                if backend.usable:
                    self._versions[backend.place.node] = self._version
                    self._tell_state(backend, before, awaited=backend.ready)
        if pending is not None:
            self._await(pending, reply)
            self._settle()

    def _tell_state(self, backend: Backend, before: tuple[int, int], *, awaited: bool) -> None:
        for command in moves(before, self._state):
            self._send(backend, _MOVED if awaited else _MOVED_UNAWAITED, encode.request(command))

    def end(self, pending: PendingReply, reply: bytes) -> None:
        """End the tracking, and answer ``reply`` when no server tracks any more."""
        self._ending = True
        for backend in self._service.upstream.pool.owned(self.number):
            if backend.ready:
                self._send(backend, _TOLD, _OFF)
        self._await(pending, reply)
        self._settle()

    def close(self) -> None:
        """Close the connections, and cancel the timers."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._emptying is not None:
            self._emptying.cancel()
        self._companions.close()

    def _send(self, backend: Backend, token: int, frame: bytes) -> None:
        self._left += token in _AWAITED
        backend.send(self, token, frame, self._service.turn.now(), None)

    def _await(self, pending: PendingReply, reply: bytes) -> None:
        """Answer ``reply`` when all servers have answered, or had the time to."""
        self._pending, self._reply = pending, reply
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._service.turn.clock.call_later(self._service.config.backend.connect_timeout, self._answer)

    def _settle(self) -> None:
        if not self._left and self._pending is not None:
            self._answer()

    def _look(self) -> None:
        if not self._begun and all(backend.ready for backend in self._client.routes.primaries):
            self._answer()

    def _answer(self) -> None:
        self._begun = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, None
        if self._ending:
            self._service.trackers.end(self)
        if pending is not None:
            pending.answer(self._reply)

    # ---- as the owner of connections

    async def steps(self, place: Place) -> list[Step]:
        """The commands that the handshake of a new connection to ``place`` adds. Raises ``BackendError``."""
        if self.tracking.redirect:
            await self._companions.come(place)
        self._versions[place.node] = self._version
        tracking = [(*_ON, *self._redirection(place), *options) for options in self.tracking.options()]
        return [*tracking, *moves((place.protocol, place.db), self._state)]

    def stood(self, backend: Backend) -> None:
        """Bring a connection that became ready up to date."""
        if self._versions.get(backend.place.node, self._version) != self._version:
            # The handshake used the options of the moment it began; a server may refuse those that it has already.
            self._versions[backend.place.node] = self._version
            self._tell_options(backend, self.tracking.one_by_one(), _UNAWAITED)
            self._tell_state(backend, (0, -1), awaited=False)
            self.missed()
        elif self._begun and self.tracking.bcast:
            self.missed()
        self._look()

    def _redirection(self, place: Place) -> tuple[str | int, ...]:
        """The option REDIRECT: a companion connection receives the invalidations in RESP3, whatever protocol the client
        uses."""
        number = self._companions.number(place.node) if self.tracking.redirect else 0
        return ("REDIRECT", number) if number else ()

    def leave(self, node: Node) -> None:
        """Close the companion connection to ``node``."""
        self._companions.leave(node)

    def missed(self) -> None:
        """Invalidate everything, as a change may have been missed."""
        self._say(_NULL, next_is=False)

    def redirected(self) -> None:
        """Take notice that a request was refused and is sent to another server, while CLIENT CACHING ahead of it is
        not."""
        if self.tracking.optin:
            self.missed()

    def _lost_companion(self, node: Node) -> None:
        if self.tracking.redirect:
            self._service.upstream.renew(self.number, node)

    # ---- CLIENT CACHING

    @property
    def counted(self) -> bool:
        """The proxy's own requests are not counted."""
        return False

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take a server's reply to a command of the proxy. If CLIENT CACHING failed, the read behind it is not
        tracked. If a connection's database or protocol did not change, as the server was busy or the user may not do
        that, all connections are made anew: what follows would run in another database."""
        failed = data[start : start + 1] == b"-"
        if failed and token in _MOVES:
            for backend in self._service.upstream.pool.owned(self.number):
                backend.renew()
        if token in _AWAITED:
            self._left -= 1
            self._settle()
        elif failed and token == _CACHING:
            self.redirected()

    def before(self, shards: Sequence[int], now: float) -> None:
        """Take notice that the client's next request goes to ``shards``."""
        word = self.tracking.caching
        if not word:
            return
        self.tracking.caching = ""
        client = self._client
        for shard in shards:
            backend = client.routes.writers[shard]
            if backend is not None:
                backend.send(self, _CACHING, _CACHING_FRAMES[word], now, None)
        client.adopt_session()

    def taken(self, fact: Fact) -> None:
        """Take notice that the client runs a command outside of a transaction: CLIENT CACHING was for that, also if no
        server gets it."""
        if fact.handling is Handling.SESSION and not fact.name.startswith("client|"):
            self.passed()

    def passed(self) -> None:
        """Take notice that a command uses none of these connections: CLIENT CACHING was for that all the same."""
        if self.tracking.caching:
            self.tracking.caching = ""
            self._client.adopt_session()

    # ---- messages of the servers

    def pushed(self, backend: Backend, frame: bytes) -> None:
        """Take a push message of a server."""
        if frame.startswith(_INVALIDATE):
            window = self._client.window
            following = backend.inflight.peek() if backend.inflight.written else None
            next_is = following is not None and following.sink is window and following.token == window.head
            self._heard(backend.place.node, frame[len(_INVALIDATE) :], next_is=next_is)

    def _overheard(self, node: Node, frame: bytes) -> None:
        """Take a push message from a companion connection."""
        if frame.startswith(_INVALIDATE):
            self._heard(node, frame[len(_INVALIDATE) :], next_is=False)

    def _heard(self, node: Node, value: bytes, *, next_is: bool) -> None:
        """Take the invalidation of keys. ``next_is``: the server's next reply is the one that the client waits for
        first, so the invalidation is sent before it, as the server did."""
        modes = self._client.modes
        if value == _NULL:
            servers = sum(backend.ready for backend in self._client.routes.primaries)
            self._emptied.add(node)
            if len(self._emptied) >= servers:
                self._say_emptied(next_is=next_is and servers == 1)
            elif self._emptying is None:
                self._emptying = self._service.loop.call_later(_TOGETHER, self._say_emptied)
        elif modes is not None and modes.blocked and not self.tracking.redirect:
            if not self._held:
                self._service.loop.call_later(_MOMENT, self._say_held)
            self._held.append(value)
        else:
            self._say(value, next_is=next_is)

    def _say_emptied(self, *, next_is: bool = False) -> None:
        self._emptied.clear()
        if self._emptying is not None:
            self._emptying.cancel()
            self._emptying = None
        self._say(_NULL, next_is=next_is)

    def _say_held(self) -> None:
        held, self._held = self._held, []
        for value in held:
            self._say(value, next_is=False)

    def _say(self, value: bytes, *, next_is: bool) -> None:
        """Send an invalidation to the client, or to the one that it redirects to."""
        if self._closed or self._ending:
            return
        client, redirect = self._client, self.tracking.redirect
        window, modes = client.window, client.modes
        if redirect and (redirect != client.number or client.session.protocol < 3):
            self._say_other(redirect, value)
        elif client.session.protocol < 3:
            return
        elif not window.pending or next_is or (modes is not None and modes.blocked):
            window.push(_INVALIDATE + value)
        else:
            # The invalidation must not overtake the reply to an earlier read that waits for its turn.
            self._line_up(value)

    def _say_other(self, redirect: int, value: bytes) -> None:
        """Send the invalidation to the client with the id ``redirect``."""
        client = self._client
        target = self._service.clients.get(redirect)
        if target is None:
            self.tracking.broken = True
            if client.session.protocol >= 3:
                client.window.push(_BROKEN + encode.integer(redirect))
        elif target.session.protocol >= 3:
            target.window.push(_INVALIDATE + value)
        elif any(target.session.listening):
            target.window.push(_MESSAGE + (_NULL2 if value == _NULL else value))

    def _line_up(self, value: bytes) -> None:
        """Send the invalidation behind the pending replies. Their number is bounded: beyond it, everything is
        invalidated once."""
        window = self._client.window
        if window.pending > _MOST_WAITING:
            if window.issued == self._all_behind:
                return  # everything is invalidated already, and no read has come since
            self._all_behind = window.issued + 1
            value = _NULL
        window.answer(_INVALIDATE + value)
