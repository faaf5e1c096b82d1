"""One client of the proxy: its session, the modes that it is in (a transaction, subscriptions ...) and its replies.

``ClientConnection`` moves the bytes of a client; the fast paths and ``proxy.client.slow_path`` carry out its requests.
"""

from collections.abc import Sequence

from proxy import errors
from proxy.backends.routes import Routes
from proxy.client.pacing import AT_FIRST, Pacing
from proxy.client.read_your_writes import OwnWrites
from proxy.client.services import ClientServices
from proxy.commands.facts import Fact
from proxy.engine.jobs import Job
from proxy.engine.receiver import Receiver
from proxy.engine.sink import Sink
from proxy.engine.window import ReplyWindow
from proxy.features import commands
from proxy.features.request import PendingReply
from proxy.features.state import Modes
from proxy.metrics import CommandCounter
from proxy.planning.exec_block import QUEUED, Queued
from proxy.planning.planner import Plan, Reject
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.resp.limits import UNAUTHENTICATED
from proxy.resp.requests import RequestFramer
from proxy.session.listener import Listener, UserRoute
from proxy.session.own_command import OwnCommand
from proxy.session.session import DEFAULT_USER, ClientMode, ReplyMode, Session
from proxy.transport.flow_control import Flow, Stop

_EVERY_SHARD = 2**64 - 1
_ON = ReplyMode.ON
_OWN = ClientMode.OWN
_LONG_WAY = ClientMode.LONG


class Client(Receiver):
    """The client whose requests are carried out; the class holds its session, routes and replies, not its transport.

    The contract of the class:

    - ``ClientConnection``, the only subclass in use, has no ``__init__``: calling the inherited one would add a tenth
      to the cost of a connection. ``__init__`` calls ``set_up`` for the subclass's own state.
    - ``begin`` is called once the client is admitted; before that call, ``flow`` and ``routes`` are unset.
    - The subclass implements the methods under "of the connection" below; here these raise NotImplementedError.
    - Code that changes the session or ``modes`` calls ``adopt_session`` or ``changed`` afterwards: these set ``plain``,
      ``own`` and ``routes``, the only state that the fast paths read.
    - Each request is answered once and in order, by ``window.answer`` or under a token of ``window.reserve``.
    - Objects that most clients never need (session, framer, modes) are made on first use.
    """

    __slots__ = (
        "_framer",
        "_session",
        "_usual",
        "closing",
        "created",
        "flow",
        "held",
        "last_active",
        "latest",
        "listener",
        "lookups",
        "modes",
        "most",
        "number",
        "output_hard",
        "own",
        "own_answers",
        "own_writes",
        "pacing",
        "plain",
        "routes",
        "said",
        "service",
        "window",
        "wrote",
    )

    def __init__(self, service: ClientServices, listener: Listener | None = None) -> None:
        limits = service.limits
        self.service = service
        self.listener: Listener = service.listeners[0] if listener is None else listener
        self.window = ReplyWindow(self.wake, limits.output_soft)
        self.number = 0
        self.most = min(limits.max_in_flight, AT_FIRST)
        """How many of the client's requests may be in flight now."""
        self.lookups = service.fast_paths.lookups
        self.own_answers = service.fast_paths.own_answers
        self.output_hard = limits.output_hard
        """How many bytes of replies may wait for the client."""
        self.pacing: Pacing | None = None
        """Sets ``most``, once the client has had many requests in flight or reads its replies too slowly."""
        # State of the connection, set from ``begin`` on.
        self.created = self.last_active = 0.0
        self.flow: Flow
        self.routes: Routes
        self.closing = False
        self.own_writes: OwnWrites | None = None  # None without ``read_your_writes``
        self._framer: RequestFramer | None = None
        # State of the requests.
        self._session: Session | None = None
        self.modes: Modes | None = None
        """The client's transaction, subscriptions and other modes; None as long as the client has used none."""
        self.latest: CommandCounter | None = None
        """The counter of the command that the fast path carried out last; None if the session knows a later one."""
        self.wrote = 0
        """The shards that the client wrote to since its last WAIT: bit n stands for the shards n, n + 64 ..."""
        self.plain = False
        """Whether the fast path may be used: the client is logged in, wants replies and is not paused."""
        self.own = ClientMode.LONG
        """The client's mode for the own fast path."""
        self.said: bytes | None = None
        """The request that the slow path carries out now, if the request is short."""
        self._usual: tuple[tuple[int, int, bool, bool, UserRoute], Routes] | None = None
        """The session's state that selects the routes, and the routes that the client has outside of any mode."""
        self.held = False
        """Whether a CLIENT PAUSE holds a request of the client, which then counts as blocked."""
        self.set_up()

    def begin(self, number: int, flow: Flow, now: float) -> None:
        """Start serving the client over its new connection; ``number`` is the client's id."""
        service = self.service
        self.number = number
        self.flow = flow
        self.created = self.last_active = now
        if lasting := service.upstream.read_your_writes:
            self.own_writes = OwnWrites(self.window, service.turn, lasting)
        if self.listener.plain(service.world.users) and DEFAULT_USER not in service.world.routes:
            quiet = not (service.clients.paused or service.clients.monitoring.watching)
            self.own = ClientMode.OWN if quiet else ClientMode.LONG
            self.plain = self.lookups.allowed and quiet
            plain = service.upstream.plain_routes[self.listener.read_from]
            self.routes = plain[0] if len(plain) == 1 else plain[service.shared_counts.rank(number) % len(plain)]
        else:
            self.adopt_session()

    @property
    def session(self) -> Session:
        """The state that the client's commands have set: user, database, protocol, name ..."""
        return self.known_session()

    def known_session(self) -> Session:
        """Return ``session``, without the cost of a property, for code that runs at each request."""
        session = self._session
        if session is None:
            world, listener = self.service.world, self.listener
            session = self._session = Session(world, self.number, *self.addresses(), self.created, listener)
        return session

    @property
    def holder(self) -> str:
        """The user and address under which the client's dedicated connections are counted."""
        return f"{self.session.user}@{self.session.address.rpartition(':')[0]}"

    def framer(self) -> RequestFramer:
        """The framer of the requests that the fast paths do not take."""
        framer = self._framer
        if framer is None:
            framer = self._framer = RequestFramer(self.service.limits.requests, UNAUTHENTICATED)
            framer.set_authenticated(self.session.authenticated)
        return framer

    # ---- of the connection: methods that the subclass implements

    def set_up(self) -> None:
        """Set the subclass's own attributes."""
        raise NotImplementedError

    def wake(self) -> None:
        """Schedule the replies that are ready to be written at the end of the turn."""
        raise NotImplementedError

    @property
    def gone(self) -> bool:
        """Whether the connection has ended."""
        raise NotImplementedError

    def addresses(self) -> tuple[str, str]:
        """The client's address and the proxy's own, as CLIENT LIST shows them."""
        raise NotImplementedError

    def take_back(self, frame: bytes) -> None:
        """Put a request that must wait back, in front of the input that is kept."""
        raise NotImplementedError

    def unprocessed(self) -> int:
        """The number of bytes of requests that are not carried out yet."""
        raise NotImplementedError

    def count_sent(self, size: int) -> None:
        """Count ``size`` bytes of requests that were carried out and may be unanswered."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection at once."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """Close the connection at once, for a ``reason`` that is logged and counted."""
        raise NotImplementedError

    def drain(self) -> None:
        """Take no more requests, and close the connection when all requests in flight are answered."""
        raise NotImplementedError

    # ---- the state of the client, and how requests are carried out in that state

    def adopt_session(self) -> None:
        """Set ``lookups``, ``plain``, ``own`` and ``routes`` as the state of the session and the modes requires."""
        session = self.known_session()
        service = self.service
        on = session.reply_mode is _ON and not (service.clients.paused or service.clients.monitoring.watching)
        permissions = session.permissions
        session.unrestricted = permissions.unrestricted
        self.lookups = service.fast_paths.of(permissions)
        self.plain = on and session.authenticated and self.lookups.allowed
        modes = self.modes
        framer = self._framer
        if framer is not None:
            framer.set_authenticated(session.authenticated)
        route = session.route
        now = session.protocol, session.db, session.reads_replicas, session.calls_scripts, route
        usual = self._usual
        if usual is None or usual[0] != now:
            protocol, db, replicas, scripts, _ = now
            policy, rank = self.listener.policy(replicas, route.read_from), service.shared_counts.rank(self.number)
            usual = now, service.upstream.routes(protocol, db, policy, rank, scripts, route.server_user)
            self._usual = usual
        self.routes = usual[1]
        if modes is not None:
            modes.adopted()
            self.plain = self.plain and modes.plain
            self.routes = modes.routes(self.routes)
        self.own = self._mode(session) if on else _LONG_WAY

    @property
    def used_routes(self) -> tuple[Routes, ...]:
        """The client's present routes, and the routes that the client returns to when its modes end."""
        return (self.routes,) if self._usual is None else (self.routes, self._usual[1])

    def pause_changed(self) -> None:
        """Adapt to the begin or end of a CLIENT PAUSE, or to the first MONITOR or the end of the last one."""
        clients, session = self.service.clients, self._session
        on = (session is None or session.reply_mode is _ON) and not (clients.paused or clients.monitoring.watching)
        self.plain = self.free()
        self.own = _LONG_WAY if not on else _OWN if session is None else self._mode(session)

    def free(self) -> bool:
        """Whether the state of the client allows the fast path."""
        clients, session = self.service.clients, self._session
        on = self.lookups.allowed and not (clients.paused or clients.monitoring.watching)
        if session is not None:
            on = on and session.authenticated and session.reply_mode is _ON
        return on and (self.modes is None or self.modes.plain)

    def _mode(self, session: Session) -> int:
        """The client's mode for the own fast path, which does not check the ACL rules of the client's user."""
        mode = _OWN if self.modes is None else self.modes.mode
        if not session.authenticated:  # the audit log may record what a client tries before its login
            return _LONG_WAY if session.full or session.world.denials.audit is not None else mode
        return mode if session.unrestricted or (mode != ClientMode.LISTENS and session.permissions.own) else _LONG_WAY

    def changed(self, moved: bool) -> None:
        """Adopt a change of the session; ``moved``: the requests that follow go over other connections."""
        before = self.routes
        self.adopt_session()
        if (moved or self.routes is not before) and self.window.pending:
            self.flow.stop(Stop.ORDER)

    def alone(self) -> bool:
        """Whether the client has no request in flight; if it has one, reading stops until all are answered."""
        if self.window.pending:
            self.flow.stop(Stop.ORDER)
        return not self.window.pending

    def may_call_scripts(self) -> bool:
        """Use the connections for callers of scripts. False if requests on other connections must be answered first."""
        if not self.session.calls_scripts and not self.routes.key.owner:
            if not self.alone():
                return False
            self.session.calls_scripts = True
            self.adopt_session()
        return True

    def next_share(self) -> None:
        """Resume reading: the client waited for its share of a turn, and may use the next share now."""
        self.flow.go(Stop.TURN)

    def give_up(self) -> None:
        """Close the connection after a bug of the proxy made a job of the client fail."""
        self.abort("internal error")

    def own_command(self, name: str) -> OwnCommand:
        """The row of the command ``name``, one of the proxy's own, in the table of ``proxy.features.commands``."""
        return commands.find(name)

    def postpone(self) -> None:
        """Have the client wait, with the request that it sent, for the end of a CLIENT PAUSE."""
        if not self.held:
            self.held = True
            self.session.blocked = True
            self.service.clients.count_blocked(1)
        self.flow.stop(Stop.PAUSED)

    # ---- replies

    def refuse(self, fact: Fact | None, text: str) -> None:
        """Answer a command that is not executed with the error ``text``."""
        if self.modes is not None:
            commands.spoil(self.modes, fact)
        if fact is not None:
            self.service.counters.command(fact.name).rejected += 1
            text = errors.exec_refused(text) if fact.name == "exec" else text
        self.window.answer(b"" if self.session.muted() else encode.error(text))
        self.adopt_session()

    def reject(self, fact: Fact, rejected: Reject) -> None:
        """Answer a command with the error for which the planner rejected it."""
        self.service.counters.crossslots += rejected.text is errors.CROSSSLOT
        self.refuse(fact, self.service.scripts.worded(rejected.text))

    def refuse_for_good(self, fact: Fact | None, text: str) -> None:
        """Refuse a command that is refused in this mode whichever client sends it, and remember the refusal."""
        self.refuse(fact, text)
        if self.own and self.said is not None and (fact is None or fact.name != "exec"):
            counter = None if fact is None else self.service.counters.command(fact.name)
            self.own_answers.keep_refused(self.known_session(), self.own, self.said, counter, encode.error(text))

    def queued(self, item: Queued, slots: frozenset[int], planner: object) -> None:
        """Answer a command that was queued; ``planner`` found its keys to be in ``slots``."""
        session = self.known_session()
        session.queued += 1
        self.window.answer(b"" if session.muted() else QUEUED)
        self.adopt_session()
        again = item.whole is None and item.fact.for_admins is None
        if self.own and again and self.said is item.frame:
            self.own_answers.keep_queued(session, self.own, self.said, item, slots, planner)

    def called(self, fact: Fact) -> PendingReply:
        """Count a command that is answered before any other command is, and return its pending reply."""
        session = self.known_session()
        muted = session.muted()
        if muted and session.reply_mode is _ON:
            self.adopt_session()  # CLIENT REPLY SKIP ends with this command
        return PendingReply(self.window, self.service.counters.command(fact.name), muted)

    def hold(self, fact: Fact) -> PendingReply:
        """Count a command that is carried out now, and return its pending reply with a reserved place in the window."""
        return self.called(fact).reserve()

    def say(self, fact: Fact, reply: bytes) -> None:
        """Answer a command at once."""
        self.called(fact).answer(reply)
        self.adopt_session()

    def say_later(self, fact: Fact, making: Job[bytes]) -> None:
        """Answer a command with the reply that the job ``making`` returns; requests behind it wait for that reply."""
        pending = self.hold(fact)

        def saying() -> Job[None]:
            pending.answer((yield from making))

        if not self.service.slices.run(saying(), self):
            self.flow.stop(Stop.ORDER)
        self.adopt_session()

    # ---- requests to the backends

    def for_large(self, frame: bytes, plan: Plan | None = None) -> Routes | None:
        """The routes for the request in ``frame``. A request that is very large, or has had very long replies, is not
        sent over a shared connection: it waits until all earlier requests are answered (None), and later requests wait
        until it is answered."""
        routes = self.service.upstream.large_routes(frame, self.routes, self.session.protocol, self.session.db)
        if routes is None:
            frames = [part.frame for part in plan.parts] if isinstance(plan, Scatter) else [frame]
            routes = self.service.upstream.long_routes(frames, self.routes)
        if routes is None or not self.alone():
            return self.routes if routes is None else None
        self.flow.stop(Stop.ORDER)
        return routes

    def writing(self, shards: Sequence[int], writes: bool, sink: Sink) -> Sink:
        """The sink for the reply to a request to ``shards`` that is sent now; it passes the reply on to ``sink``."""
        if not writes:
            return sink
        for shard in shards:
            self.wrote |= 1 << (shard & 63)
        if self.own_writes is not None:
            return self.own_writes.relay(shards, self.routes.slot_shard, sink)
        return sink

    def forget_shards(self) -> None:
        """Assume that the client wrote to every shard, because a change of the topology may renumber the shards."""
        if self.wrote:
            self.wrote = _EVERY_SHARD
        if self.modes is not None:
            self.modes.waited = 0
