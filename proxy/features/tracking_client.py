"""One client that tracks, and its connections to the servers: one to each primary, in the state of its session::

    its requests ──▶ its own Backend ──▶ server          (CLIENT TRACKING ON, HELLO and SELECT follow the session)
    it ◀──────────── "invalidate" ◀──────┘
    whom it redirects to ◀── "invalidate" ◀── a companion ◀── server

What a server says unasked takes its place between that server's replies.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from proxy import errors
from proxy.backends.handshake import Step
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
"""So many replies and invalidations may wait for an earlier reply before what follows becomes one for everything."""
_CACHING, _TOLD, _UNAWAITED = range(3)
"""The tokens of CLIENT CACHING, and of what servers are told again, whose answers are waited for, or are not."""
_CACHING_FRAMES = {word: encode.request(("CLIENT", "CACHING", word)) for word in ("yes", "no")}
_MOMENT = 0.005
"""Seconds that what is said to a blocked client waits: its own command may have caused it, and is answered first."""
_TOGETHER = 0.05
"""Seconds in which all servers may say that all their keys are gone, as FLUSHALL has them do, before that is passed on.
"""


class Tracker(Sink):
    """One client's tracking; connections know it as their ``backends.settings.ConnectionOwner``. Takes the answers to
    what servers are told.

    Its connections have one ``Place`` each, whatever the session's protocol and database are: they change with it, when
    nothing that the client sent is in flight.
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
        """What is answered ``_reply`` when all servers have been told; None: nothing is."""
        self._reply = b""
        self._left = 0
        """Answers to come to what servers were told."""
        self._state = client.session.protocol, client.session.db
        """What the connections have, but for those that are not there."""
        self._version = 0
        """Grows with each change of the options or of the state."""
        self._versions: dict[Node, int] = {}
        """That of which each server knows."""
        self._begun = False
        self._ending = False
        self._closed = False
        self._held: list[bytes] = []
        """What is to be said in a moment."""
        self._all_behind = -1
        """Which request would come next when everything was said to have changed, last of all."""
        self._emptied: set[Node] = set()
        """The servers that have said lately that all their keys are gone."""
        self._emptying: asyncio.TimerHandle | None = None
        """Until that is said though not all of them have."""
        self.number = client.number
        self.holder = client.holder
        """The user and the address that it is of."""
        self.cost = 0
        """How many connections to servers it has, or had when it began."""
        self.tracking = tracking

    # ---- what its servers are told

    def begin(self, pending: PendingReply, reply: bytes) -> None:
        """Answer ``reply`` when the servers track, or would by now if they could be reached."""
        self._await(pending, reply)
        self._look()

    def change(self, tracking: Tracking, pending: PendingReply, reply: bytes) -> None:
        """Other options from now on, over the same connections: answer ``reply`` when the servers have them."""
        # A prefix that a server knows must not be named again.
        more = replace(tracking, prefixes=tuple(sorted({*tracking.prefixes} - {*self.tracking.prefixes})))
        self.tracking = tracking
        self._version += 1
        self._left += 1  # until all are told
        self._await(pending, reply)
        self._task = self._service.loop.create_task(self._telling(list(more.options()), self._version))

    async def _telling(self, options: Sequence[Sequence[bytes]], version: int) -> None:
        """Tell the servers that can be reached; the others are told when they can be."""
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
        """The session may have another protocol or database, and nothing that the client sent is in flight: have the
        connections follow. Answer ``reply``, if one is due, when they do."""
        before, self._state = self._state, (self._client.session.protocol, self._client.session.db)
        if before != self._state:
            self._version += 1
            for backend in self._service.upstream.pool.owned(self.number):
                if backend.usable:
                    self._versions[backend.place.node] = self._version
                    self._tell_state(backend, before, _TOLD if backend.ready else _UNAWAITED)
        if pending is not None:
            self._await(pending, reply)
            self._settle()

    def _tell_state(self, backend: Backend, before: tuple[int, int], token: int) -> None:
        for command in _moves(before, self._state):
            self._send(backend, token, encode.request(command))

    def end(self, pending: PendingReply, reply: bytes) -> None:
        """Answer ``reply`` when no server tracks any more, and be over then."""
        self._ending = True
        for backend in self._service.upstream.pool.owned(self.number):
            if backend.ready:
                self._send(backend, _TOLD, _OFF)
        self._await(pending, reply)
        self._settle()

    def close(self) -> None:
        """It is over."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._emptying is not None:
            self._emptying.cancel()
        self._companions.close()

    def _send(self, backend: Backend, token: int, frame: bytes) -> None:
        self._left += token == _TOLD
        backend.send(self, token, frame, self._service.turn.now(), None)

    def _await(self, pending: PendingReply, reply: bytes) -> None:
        """``reply`` is due when all servers have answered, or had the time to."""
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
        """What a new connection to ``place`` is told. Raises BackendError."""
        if self.tracking.redirect:
            await self._companions.come(place)
        self._versions[place.node] = self._version
        tracking = [(*_ON, *self._redirection(place), *options) for options in self.tracking.options()]
        return [*tracking, *_moves((place.protocol, place.db), self._state)]

    def stood(self, backend: Backend) -> None:
        """A connection has become usable."""
        if self._versions.get(backend.place.node, self._version) != self._version:
            # It was greeted with what was true when that began; what a server knows already it may refuse.
            self._versions[backend.place.node] = self._version
            self._tell_options(backend, self.tracking.one_by_one(), _UNAWAITED)
            self._tell_state(backend, (0, -1), _UNAWAITED)
            self.missed()
        elif self._begun and self.tracking.bcast:
            self.missed()
        self._look()

    def _redirection(self, place: Place) -> tuple[str | int, ...]:
        """A companion hears it in RESP3, whatever the client itself speaks."""
        number = self._companions.number(place.node) if self.tracking.redirect else 0
        return ("REDIRECT", number) if number else ()

    def leave(self, node: Node) -> None:
        """Let go of what listens at ``node``."""
        self._companions.leave(node)

    def missed(self) -> None:
        """Something may have been changed that no server told."""
        self._say(_NULL, next_is=False)

    def redirected(self) -> None:
        """A request was refused and is sent elsewhere, but CLIENT CACHING before it is not."""
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
        """A server has been told, or CLIENT CACHING is answered; if that failed, what was read behind it is not
        tracked."""
        if token == _TOLD:
            self._left -= 1
            self._settle()
        elif token == _CACHING and data[start : start + 1] == b"-":
            self.redirected()

    def before(self, shards: Sequence[int], now: float) -> None:
        """The next request of the client goes to these shards."""
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
        """The client runs a command outside of a transaction: CLIENT CACHING was for it, also if no server sees it."""
        if fact.handling is Handling.SESSION and not fact.name.startswith("client|"):
            self.passed()

    def passed(self) -> None:
        """A command is carried out that goes over none of these connections: CLIENT CACHING was for it all the same."""
        if self.tracking.caching:
            self.tracking.caching = ""
            self._client.adopt_session()

    # ---- what it hears

    def pushed(self, backend: Backend, frame: bytes) -> None:
        """A server says something unasked."""
        if frame.startswith(_INVALIDATE):
            window = self._client.window
            following = backend.inflight.peek() if backend.inflight.written else None
            next_is = following is not None and following.sink is window and following.token == window.head
            self._heard(backend.place.node, frame[len(_INVALIDATE) :], next_is=next_is)

    def _overheard(self, node: Node, frame: bytes) -> None:
        """A companion is told."""
        if frame.startswith(_INVALIDATE):
            self._heard(node, frame[len(_INVALIDATE) :], next_is=False)

    def _heard(self, node: Node, value: bytes, *, next_is: bool) -> None:
        """A server says that keys were changed. ``next_is``: what it says next is what the client waits for first, so
        that this comes before it, as it does there."""
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
        """Tell the client, or whom it redirects to."""
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
            # It must not overtake the reply to a read that came before it and waits for its turn.
            self._line_up(value)

    def _say_other(self, redirect: int, value: bytes) -> None:
        """Say it to the client that it redirects to."""
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
        """Say it behind what the client waits for: in the end that everything has changed, as the line is bounded."""
        window = self._client.window
        if window.pending > _MOST_WAITING:
            if window.issued == self._all_behind:
                return  # that is the last word already, and no read has come since
            self._all_behind = window.issued + 1
            value = _NULL
        window.answer(_INVALIDATE + value)


def _moves(before: tuple[int, int], now: tuple[int, int]) -> list[Step]:
    """What takes a connection from one protocol and database to another."""
    found: list[Step] = []
    if before[0] != now[0]:
        found.append(("HELLO", now[0]))
    if before[1] != now[1]:
        found.append(("SELECT", now[1]))
    return found
