"""One client of the proxy: what it has chosen, what it is in the middle of, and how it is answered.

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
from proxy.session.own_command import OwnCommand
from proxy.session.session import ClientMode, ReplyMode, Session
from proxy.transport.flow_control import Flow, Stop

_EVERY_SHARD = 2**64 - 1
_ON = ReplyMode.ON
_OWN = ClientMode.OWN
_LONG_WAY = ClientMode.LONG
_QUEUING = (ClientMode.QUEUES, ClientMode.SPOILED)


class Client(Receiver):
    """The client that requests are carried out for; it knows its session, routes and replies, and not its transport.

    The contract of the class:

    - ``ClientConnection`` is the only subclass, and has no ``__init__``: to call an inherited one costs a tenth of what
      a connection does. ``__init__`` calls ``set_up`` for the subclass's own state.
    - ``begin`` is called once the client is let in; before that ``flow`` and ``routes`` are unset.
    - The subclass implements the methods under "of the connection" below; here they raise NotImplementedError.
    - Whoever changes the session or ``modes`` calls ``adopt_session`` or ``changed`` afterwards: these set ``plain``,
      ``own`` and ``routes``, which are all that the fast paths look at.
    - Each request is answered once and in order, by ``window.answer`` or under a token of ``window.reserve``.
    - What most clients never need (session, framer, modes) is made when it is first asked for.
    """

    __slots__ = (
        "_framer",
        "_session",
        "_usual",
        "calls_scripts",
        "closing",
        "created",
        "flow",
        "held",
        "last_active",
        "latest",
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

    def __init__(self, service: ClientServices) -> None:
        # for good
        limits = service.limits
        self.service = service
        self.window = ReplyWindow(self.wake, limits.output_soft)
        self.number = 0
        self.most = min(limits.max_in_flight, AT_FIRST)
        """How many of its requests may be in flight now."""
        self.lookups = service.fast_paths.lookups
        self.own_answers = service.fast_paths.own_answers
        self.output_hard = limits.output_hard
        """How many bytes may wait for it."""
        self.pacing: Pacing | None = None
        """Sets ``most``, once it has had many requests in flight or is behind with reading."""
        # of the connection, from ``begin`` on
        self.created = self.last_active = 0.0
        self.flow: Flow
        self.routes: Routes
        self.closing = False
        self.own_writes: OwnWrites | None = None  # with ``read_your_writes`` only
        self._framer: RequestFramer | None = None
        # of its requests
        self._session: Session | None = None
        self.modes: Modes | None = None
        """What it is in the middle of, if it ever was."""
        self.latest: CommandCounter | None = None
        """Of the command that the fast path carried out last, until the session is told."""
        self.wrote = 0
        """The shards that it wrote to since its last WAIT: bit n is that of the shards n, n + 64 ..."""
        self.plain = False
        """Whether the fast path may work for it: authenticated, answered, not paused."""
        self.own = ClientMode.LONG
        """Its mode for the own fast path."""
        self.said: bytes | None = None
        """The request that goes the long way, if it is short."""
        self._usual: tuple[tuple[int, int, bool, bool], Routes] | None = None
        """The routes that it would have without modes, behind what they follow from."""
        self.held = False
        """Whether a CLIENT PAUSE holds what it sent: then it counts as blocked."""
        self.calls_scripts = False
        """Whether it has called any: then it has the connections of those who do, and waits behind their scripts."""

        self.set_up()

    def begin(self, number: int, flow: Flow, now: float) -> None:
        """The connection stands; ``number`` is the client's id."""
        service = self.service
        self.number = number
        self.flow = flow
        self.created = self.last_active = now
        if lasting := service.upstream.read_your_writes:
            self.own_writes = OwnWrites(self.window, service.turn, lasting)
        if service.world.users.default_plain:
            quiet = not (service.clients.paused or service.clients.monitoring.watching)
            self.own = ClientMode.OWN if quiet else ClientMode.LONG
            self.plain = self.lookups.allowed and quiet
            plain = service.upstream.plain_routes
            self.routes = plain[0] if len(plain) == 1 else plain[service.shared_counts.rank(number) % len(plain)]
        else:
            self.adopt_session()

    @property
    def session(self) -> Session:
        """What the client has told of itself."""
        return self.known_session()

    def known_session(self) -> Session:
        """``session``, for those who ask at each request."""
        session = self._session
        if session is None:
            session = self._session = Session(self.service.world, self.number, *self.addresses(), self.created)
        return session

    @property
    def holder(self) -> str:
        """Whose the connections are that it has for itself: the user's, at the address."""
        return f"{self.session.user}@{self.session.address.rpartition(':')[0]}"

    def framer(self) -> RequestFramer:
        """What finds the requests that the fast path leaves."""
        framer = self._framer
        if framer is None:
            framer = self._framer = RequestFramer(self.service.limits.requests, UNAUTHENTICATED)
            framer.set_authenticated(self.session.authenticated)
        return framer

    # ---- of the connection: what the subclass implements

    def set_up(self) -> None:
        """Set the subclass's own attributes."""
        raise NotImplementedError

    def wake(self) -> None:
        """Have the replies that are ready written at the end of the turn."""
        raise NotImplementedError

    @property
    def gone(self) -> bool:
        """Whether there is no connection any more."""
        raise NotImplementedError

    def addresses(self) -> tuple[str, str]:
        """The client's address and the proxy's own, as CLIENT LIST shows them."""
        raise NotImplementedError

    def take_back(self, frame: bytes) -> None:
        """Keep a request that must wait after all, before what is kept."""
        raise NotImplementedError

    def unprocessed(self) -> int:
        """Bytes of requests that are not carried out yet."""
        raise NotImplementedError

    def close(self) -> None:
        """Close at once."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """Close at once, for a reason that is logged and counted."""
        raise NotImplementedError

    def drain(self) -> None:
        """Take no more requests; close when what is in flight is answered."""
        raise NotImplementedError

    # ---- its state, and what that means for the requests that follow

    def adopt_session(self) -> None:
        """Take over what the session's state means for the requests that follow."""
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
        now = session.protocol, session.db, session.reads_replicas, self.calls_scripts
        usual = self._usual
        if usual is None or usual[0] != now:
            protocol, db, replicas, rank = now[0], now[1], now[2], service.shared_counts.rank(self.number)
            routes = service.upstream.routes(protocol, db, rank, replicas, self.calls_scripts)
            usual = self._usual = now, routes
        self.routes = usual[1]
        if modes is not None:
            modes.adopted()
            self.plain = self.plain and modes.plain
            self.routes = modes.routes(self.routes)
        self.own = self._mode(session) if on else _LONG_WAY

    @property
    def used_routes(self) -> tuple[Routes, ...]:
        """The routes that it has, and those that it goes back to when what it is in the middle of is over."""
        return (self.routes,) if self._usual is None else (self.routes, self._usual[1])

    def pause_changed(self) -> None:
        """A CLIENT PAUSE has begun or is over, or the first looks on, or none does any more: all clients are told."""
        clients, session = self.service.clients, self._session
        on = (session is None or session.reply_mode is _ON) and not (clients.paused or clients.monitoring.watching)
        self.plain = self.free()
        self.own = _LONG_WAY if not on else _OWN if session is None else self._mode(session)

    def free(self) -> bool:
        """Whether the fast path may work for it, as far as its state goes."""
        clients, session = self.service.clients, self._session
        on = self.lookups.allowed and not (clients.paused or clients.monitoring.watching)
        if session is not None:
            on = on and session.authenticated and session.reply_mode is _ON
        return on and (self.modes is None or self.modes.plain)

    def _mode(self, session: Session) -> int:
        """Its mode for the own fast path, which looks at no rules of what is answered or queued."""
        mode = _OWN if self.modes is None else self.modes.mode
        if session.unrestricted or (mode not in _QUEUING and (session.permissions.own or not session.authenticated)):
            return mode
        return _LONG_WAY

    def changed(self, moved: bool) -> None:
        """The session says something else now; ``moved``: what follows goes over other connections."""
        self.adopt_session()
        if moved and self.window.pending:
            self.flow.stop(Stop.ORDER)

    def alone(self) -> bool:
        """Whether nothing that it sent is in flight; if something is, it is not read from until all is answered."""
        if self.window.pending:
            self.flow.stop(Stop.ORDER)
        return not self.window.pending

    def may_call_scripts(self) -> bool:
        """Have the connections of those who call scripts; False if what it sent over others must be answered first."""
        if not self.calls_scripts and not self.routes.key.owner:
            if not self.alone():
                return False
            self.calls_scripts = True
            self.adopt_session()
        return True

    def next_share(self) -> None:
        """Go on, as it waited for its share of a turn and that has come."""
        self.flow.go(Stop.TURN)

    def give_up(self) -> None:
        """Close it, as going on has failed by a fault of ours."""
        self.abort("internal error")

    def own_command(self, name: str) -> OwnCommand:
        """What carries out the command ``name``, which is one of the proxy's own."""
        return commands.find(name)

    def postpone(self) -> None:
        """A CLIENT PAUSE holds what it sent."""
        if not self.held:
            self.held = True
            self.session.blocked = True
            self.service.clients.count_blocked(1)
        self.flow.stop(Stop.PAUSED)

    # ---- its replies

    def refuse(self, fact: Fact | None, text: str) -> None:
        """Answer a command with an error; nothing is executed."""
        if fact is not None and fact.name == "exec":
            text = errors.exec_refused(text)
        if self.modes is not None:
            commands.spoil(self.modes, fact)
        if fact is not None:
            self.service.counters.command(fact.name).rejected += 1
        muted = self.session.muted()
        self.window.answer(b"" if muted else encode.error(text))
        self.adopt_session()

    def reject(self, fact: Fact, rejected: Reject) -> None:
        """Answer a command with what the planner has against it."""
        self.service.counters.crossslots += rejected.text is errors.CROSSSLOT
        self.refuse(fact, rejected.text)

    def refuse_for_good(self, fact: Fact | None, text: str) -> None:
        """Refuse a command that is always refused like that, whoever sends it in this mode."""
        self.refuse(fact, text)
        if self.own and self.said is not None and (fact is None or fact.name != "exec"):
            counter = None if fact is None else self.service.counters.command(fact.name)
            self.own_answers.keep_refused(self.known_session(), self.own, self.said, counter, encode.error(text))

    def queued(self, item: Queued, slots: frozenset[int], planner: object) -> None:
        """A command was queued; ``planner`` says that its keys are in ``slots``."""
        session = self.known_session()
        session.queued += 1
        self.window.answer(b"" if session.muted() else QUEUED)
        self.adopt_session()
        again = item.whole is None and item.fact.for_admins is None
        if self.own and again and self.said is item.frame:
            self.own_answers.keep_queued(session, self.own, self.said, item, slots, planner)

    def called(self, fact: Fact) -> PendingReply:
        """Count a command that is carried out now and answered before any other is: the reply that it waits for."""
        session = self.known_session()
        muted = session.muted()
        if muted and session.reply_mode is _ON:
            self.adopt_session()  # it was the last that CLIENT REPLY SKIP left out
        return PendingReply(self.window, self.service.counters.command(fact.name), muted)

    def hold(self, fact: Fact) -> PendingReply:
        """Count a command that is carried out now: the reply that it waits for, which has its place already."""
        return self.called(fact).reserve()

    def say(self, fact: Fact, reply: bytes) -> None:
        """Answer a command at once."""
        self.called(fact).answer(reply)
        self.adopt_session()

    def say_later(self, fact: Fact, making: Job[bytes]) -> None:
        """Answer a command with what ``making`` returns, at once or in a while; what follows it waits."""
        pending = self.hold(fact)

        def saying() -> Job[None]:
            pending.answer((yield from making))

        if not self.service.slices.run(saying(), self):
            self.flow.stop(Stop.ORDER)
        self.adopt_session()

    # ---- its requests to the servers

    def for_large(self, frame: bytes, plan: Plan | None = None) -> Routes | None:
        """The routes for the request in ``frame``. One that is so large, or has had so long replies, that it needs
        another connection than all share waits until all that came before it is answered (None), and what follows it
        waits until it is."""
        session = self.session
        routes = self.service.upstream.large_routes(frame, self.routes, session.protocol, session.db)
        if routes is None:
            frames = [part.frame for part in plan.parts] if isinstance(plan, Scatter) else [frame]
            routes = self.service.upstream.long_routes(frames, self.routes)
        if routes is None:
            return self.routes
        if not self.alone():
            return None
        self.flow.stop(Stop.ORDER)
        return routes

    def writing(self, shards: Sequence[int], writes: bool, sink: Sink) -> Sink:
        """Where the reply goes to a request to ``shards`` that is sent now, on its way to ``sink``."""
        if not writes:
            return sink
        for shard in shards:
            self.wrote |= 1 << (shard & 63)
        if self.own_writes is not None:
            return self.own_writes.relay(shards, self.routes.slot_shard, sink)
        return sink

    def forget_shards(self) -> None:
        """A number may stand for another shard from now on: what it wrote to may be any."""
        if self.wrote:
            self.wrote = _EVERY_SHARD
        if self.modes is not None:
            self.modes.waited = 0
