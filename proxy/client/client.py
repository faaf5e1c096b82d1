"""One client's requests, one at a time: answered by its session, planned and dispatched, or refused.

What the fast lane does not take comes here, parsed by hiredis.
"""

from collections.abc import Sequence
from functools import partial

from proxy import errors
from proxy.backends.dispatch import Muted
from proxy.backends.routes import Routes
from proxy.client.own_answers import LONGEST
from proxy.client.read_your_writes import OwnWrites
from proxy.client.services import ClientServices
from proxy.commands.facts import Fact, Handling
from proxy.commands.table import UnknownSubcommand
from proxy.engine.jobs import Job
from proxy.engine.receiver import Receiver
from proxy.engine.sink import Sink
from proxy.engine.window import ReplyWindow
from proxy.features import blocking, commands, publish, tracking, unshared
from proxy.features.scan import Page
from proxy.features.state import Modes
from proxy.metrics import CommandCounter
from proxy.planning import reply_counts
from proxy.planning.exec_block import QUEUED, Queue, Queued
from proxy.planning.key_slots import Found, examining
from proxy.planning.planner import OF_KEYSPACE, Forward, Pin, Plan, Reject
from proxy.planning.proof import RUNS_CODE, runs_code
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.resp.limits import UNAUTHENTICATED
from proxy.resp.requests import RequestFramer, split_inline, split_ragged, split_request
from proxy.session import client_commands, cross_worker
from proxy.session.session import Manner, ReplyMode, Session
from proxy.transport.flow_control import Flow, Stop

EVERY_SHARD = 2**64 - 1
_ON = ReplyMode.ON
_OWN = Manner.OWN
_QUEUES = Manner.QUEUES
_LONG_WAY = Manner.LONG
_REPLY_ON = ("client|reply", encode.OK)
_LONG = 32 * 1024
_MANY = 1000
"""A request of more bytes and of more arguments is taken apart in slices."""
_HTTP = frozenset({b"post", b"host:"})
_OF_KEYS = (Handling.KEYED, Handling.MULTI_SHARD)


class Conversation(Receiver):
    """What one client and the proxy say to each other; ``ClientConnection`` moves the bytes.

    Most clients only ever use the fast lane: what the others need is made when it is first asked for.
    """

    __slots__ = (
        "_adopted",
        "_framer",
        "_muted",
        "_plain_routes",
        "_said",
        "_session",
        "calls_scripts",
        "created",
        "flow",
        "held",
        "lanes",
        "last_active",
        "latest",
        "modes",
        "most",
        "number",
        "output_hard",
        "own",
        "own_lane",
        "own_writes",
        "plain",
        "routes",
        "service",
        "window",
        "wrote",
    )

    def prepare(self, service: ClientServices, window: ReplyWindow, most: int) -> None:
        """Set everything; in place of ``__init__``, which is dear to inherit."""
        # for good
        self.service = service
        self.window = window
        self.number = 0
        self.most = most
        """How many of its requests may be in flight now."""
        self.lanes = service.lanes
        self.own_lane = service.own_lane
        self.output_hard = service.limits.output_hard
        """How many bytes may wait for it."""
        self._muted: Muted | None = None
        # of the connection, from ``begin`` on
        self.created = 0.0
        self.last_active = 0.0
        self.flow: Flow
        self.routes: Routes
        self.own_writes: OwnWrites | None = None
        """With ``read_your_writes`` only."""
        self._framer: RequestFramer | None = None
        # of the conversation
        self._session: Session | None = None
        self.modes: Modes | None = None
        """What it is in the middle of, if it ever was."""
        self.latest: CommandCounter | None = None
        """Of the command that the fast lane carried out last, until the session is told."""
        self.wrote = 0
        """The shards that it wrote to since its last WAIT: bit n is that of the shards n, n + 64 ..."""
        self.plain = False
        """Whether the fast lane may work for it: authenticated, answered, not paused."""
        self.own = Manner.LONG
        """Its manner for the own lane."""
        self._said: bytes | None = None
        """The request that goes the long way, if it is short."""
        self._plain_routes: Routes | None = None
        """What it would have without modes, as long as its session says the same."""
        self._adopted = (0, 0, False, False)
        self.held = False
        """Whether a CLIENT PAUSE holds what it sent: then it counts as blocked."""
        self.calls_scripts = False
        """Whether it has called any: then what it sends goes over connections of those who do, as whatever is sent
        behind a script waits until that has run."""

    def begin(self, number: int, flow: Flow, now: float) -> None:
        """The connection stands; ``number`` is the client's id."""
        service = self.service
        self.number = number
        self.flow = flow
        self.created = self.last_active = now
        if service.read_your_writes:
            self.own_writes = OwnWrites(self.window, service.turn, service.read_your_writes)
        if service.open:
            quiet = not (service.clients.paused or service.spectators.watching)
            self.own = Manner.OWN if quiet else Manner.LONG
            self.plain = service.fast_lane and quiet
            plain = service.upstream.plain_routes
            self.routes = plain[0] if len(plain) == 1 else plain[service.census.rank(number) % len(plain)]
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
        session = self.session
        return f"{session.user}@{session.address.rpartition(':')[0]}"

    @property
    def framer(self) -> RequestFramer:
        """Finds the requests that the fast lane leaves."""
        framer = self._framer
        if framer is None:
            framer = self._framer = RequestFramer(self.service.request_limits, UNAUTHENTICATED)
            framer.set_authenticated(self.session.authenticated)
        return framer

    @property
    def gone(self) -> bool:
        """Whether there is no connection any more."""
        raise NotImplementedError

    def addresses(self) -> tuple[str, str]:
        """The client's address and the proxy's own, as CLIENT LIST shows them."""
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

    def note_latest(self) -> None:
        """Tell the session what the fast lane has carried out."""
        session = self.session
        session.last_active = self.last_active
        if self.latest is not None:
            session.last_command = self.latest.name

    def adopt_session(self) -> None:
        """Take over what the session's state means for the requests that follow."""
        session = self.known_session()
        service = self.service
        on = session.reply_mode is _ON and not (service.clients.paused or service.spectators.watching)
        self.plain = on and session.authenticated and service.fast_lane
        self.own = _OWN if on else _LONG_WAY
        modes = self.modes
        framer = self._framer
        if framer is not None:
            framer.set_authenticated(session.authenticated)
        now = session.protocol, session.db, session.reads_replicas, self.calls_scripts
        if self._plain_routes is None or self._adopted != now:
            self._adopted = now
            self._plain_routes = service.upstream.routes(
                session.protocol,
                session.db,
                service.census.rank(self.number),
                session.reads_replicas,
                self.calls_scripts,
            )
        self.routes = self._plain_routes
        if modes is not None:
            modes.adopted()
            self.plain = self.plain and modes.plain
            if on:
                self.own = modes.manner
            self.routes = modes.routes(self.routes)

    @property
    def used_routes(self) -> tuple[Routes, ...]:
        """The routes that it has, and those that it goes back to when what it is in the middle of is over."""
        return (self.routes,) if self._plain_routes is None else (self.routes, self._plain_routes)

    def pause_changed(self) -> None:
        """A CLIENT PAUSE has begun or is over, or the first looks on, or none does any more: all clients are told."""
        service, session, modes = self.service, self._session, self.modes
        on = not (service.clients.paused or service.spectators.watching)
        on = on and (session is None or session.reply_mode is ReplyMode.ON)
        self.plain = self.free()
        self.own = Manner.LONG if not on else Manner.OWN if modes is None else modes.manner

    def free(self) -> bool:
        """Whether the fast lane may work for it, as far as its state goes."""
        service, session = self.service, self._session
        on = service.fast_lane and not (service.clients.paused or service.spectators.watching)
        if session is not None:
            on = on and session.authenticated and session.reply_mode is ReplyMode.ON
        return on and (self.modes is None or self.modes.plain)

    def changed(self, moved: bool) -> None:
        """The session says something else now; ``moved``: what follows goes over other connections."""
        self.adopt_session()
        if moved and self.window.pending:
            self.flow.stop(Stop.ORDER)

    def asked_nothing(self, frame: bytes) -> None:
        """An empty request: it counts as a command that CLIENT REPLY SKIP leaves out."""
        if self.own:
            self.own_lane.keep(self.known_session(), self.own, frame, None, [], None)
        elif self.session.muted():
            self.adopt_session()

    def queue(self) -> Queue:
        """Its transaction."""
        modes = self.modes
        assert modes is not None
        queue = modes.queue
        assert queue is not None
        return queue

    def begin_queue(self) -> None:
        """MULTI, in the middle of nothing."""
        modes = self.modes
        if modes is None:
            modes = self.modes = Modes(self)
        modes.queue = Queue()
        session = self.known_session()
        session.queued = 0
        self.plain = False
        self.own = _QUEUES

    def only_queues(self) -> bool:
        """Whether its transaction is all that it is in the middle of: nothing is watched, nothing subscribed to."""
        modes = self.modes
        assert modes is not None
        return modes.watch is None and modes.subscriptions is None

    def end_queue(self) -> None:
        """Its transaction is over, which was all that it was in the middle of, and has changed nothing else."""
        modes = self.modes
        assert modes is not None
        modes.queue = None
        session = self.known_session()
        session.queued = -1
        self.own = _OWN
        self.plain = session.authenticated and self.service.fast_lane

    def alone(self) -> bool:
        """Whether nothing that it sent is in flight; if something is, it is not read from until all is answered."""
        if self.window.pending:
            self.flow.stop(Stop.ORDER)
        return not self.window.pending

    def may_call_scripts(self) -> bool:
        """Whether what it sends goes over the connections of those who call scripts, from now on at the latest; False
        if it must wait until all that it sent over others is answered."""
        if not self.calls_scripts and not self.routes.manner.owner:
            if not self.alone():
                return False
            self.calls_scripts = True
            self.adopt_session()
        return True

    def request(self, frame: bytes, now: float) -> bool:
        """Carry out the request that ``framer`` found. False if it must wait (nothing was done)."""
        framer = self.framer
        self._said = frame if len(frame) <= LONGEST else None
        if framer.inline or framer.ragged:
            args = split_inline(frame) if framer.inline else split_ragged(frame)
            frame = encode.request(args)
        elif len(frame) > _LONG and arguments(frame) > _MANY:
            self.flow.stop(Stop.LONG)
            self.service.slices.run(self.taking_apart(frame, now), self)
            return True
        else:
            args = split_request(frame)
        return self.parsed(args, frame, now)

    def taking_apart(self, frame: bytes, now: float) -> Job[None]:
        """Carry out the request of very many arguments in ``frame``. What follows it waits for that."""
        raise NotImplementedError

    def examine(self, args: list[bytes]) -> Job[Found | None]:
        """Find out about a request what will be asked for when it is carried out, and takes long."""
        service = self.service
        fact: Fact | None
        try:
            fact = service.inspector.table.resolve(args)
        except UnknownSubcommand:
            return None
        if fact is None or not fact.accepts(len(args)):
            return None
        if fact.name == "client|tracking":
            found = Found(fact, args)
            found.asked = yield from tracking.asking(self, args)
            return found
        if fact.handling in _OF_KEYS or fact.name == "watch":
            return (yield from examining(fact, args, service.slot_of))
        return None

    def take_back(self, frame: bytes) -> None:
        """A request must wait after all: it comes before what is kept."""
        raise NotImplementedError

    def parsed(self, args: list[bytes], frame: bytes, now: float) -> bool:
        """Carry out a request. False if it must wait (nothing was done)."""
        if not args:
            return True
        session = self.session
        service = self.service
        fact: Fact | None
        try:
            fact = service.inspector.table.resolve(args)
        except UnknownSubcommand as unknown:
            fact = unknown.fact
            if fact.name not in service.absent:
                self.refuse_for_good(fact, errors.unknown_subcommand(fact.name, args[1]))
                return True
        if (fact is None or fact.handling is Handling.REFUSED) and args[0].lower() in _HTTP:
            # A browser was made to talk to this port: Redis closes without a word, before a body is read as commands.
            self.service.counters.reject("http")
            self.close()
            return True
        if fact is None or fact.name in service.absent:
            self.refuse_for_good(None, errors.unknown_command(args))
            return True
        self.latest = None
        session.last_command = fact.name
        if not fact.accepts(len(args)):
            self.refuse_for_good(fact, errors.wrong_arity(fact.name))
        elif refusal := session.refusal(fact):
            self.refuse(fact, refusal)
        elif service.query.refuses(frame, args):
            self.refuse(fact, errors.query_too_large(service.query.limit))
        elif service.clients.paused and service.pausing.holds(fact, args):
            return self._hold(fact, args, frame)
        elif service.spectators.watching:
            return self._carry_out_in_sight(fact, args, frame, now)
        else:
            return self._carry_out(fact, args, frame, now)
        return True

    def _hold(self, fact: Fact, args: list[bytes], frame: bytes) -> bool:
        """A command that has to wait until the pause is over; what is wrong with its keys is said at once."""
        if fact.handling in (Handling.KEYED, Handling.MULTI_SHARD) and not fact.blocking:
            plan = self.service.planner.plan(fact, args, frame)
            if isinstance(plan, Reject):
                self.reject(fact, plan)
                return True
        self.hold()
        return False

    def hold(self) -> None:
        """A CLIENT PAUSE holds what it sent."""
        if not self.held:
            self.held = True
            self.session.blocked = True
            self.service.clients.count_blocked(1)
        self.flow.stop(Stop.PAUSED)

    def let_go(self) -> None:
        """No CLIENT PAUSE holds what it sent any more."""
        if self.held:
            self.held = False
            self.session.blocked = False
            self.service.clients.count_blocked(-1)

    def _carry_out_in_sight(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool:
        """As ``_carry_out``, shown to those who look on; what is refused is not."""
        counter = self.service.counters.command(fact.name)
        refused = counter.rejected
        done = self._carry_out(fact, args, frame, now)
        if done and counter.rejected == refused:
            self.service.spectators.show(self.session, fact, args)
        return done

    def _carry_out(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool:
        """Carry out what may be carried out. False if it must wait (nothing was done)."""
        done = self._mode(fact, args, frame, now)
        if done is not None:
            return done
        if fact.handling is not Handling.SESSION:
            return self._run_plan(fact, args, frame, now)
        if fact.name in cross_worker.WIDE:
            self._run_wide(fact, args, now)
        else:
            self._run_session(fact, args, now)
        return True

    def _mode(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool | None:
        """Leave it to what the client is in the middle of, or begins now; None if that is nothing."""
        modes = self.modes
        if modes is None:
            if fact.handling is not Handling.MODE:
                return None
            modes = self.modes = Modes(self)
        return commands.take(modes, fact, args, frame, now)

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
        """Refuse a command that is always refused like that, whoever sends it in this manner."""
        self.refuse(fact, text)
        if self.own and self._said is not None and (fact is None or fact.name != "exec"):
            counter = None if fact is None else self.service.counters.command(fact.name)
            self.own_lane.keep_refused(self.known_session(), self.own, self._said, counter, encode.error(text))

    def answer_for_good(self, fact: Fact, reply: bytes) -> None:
        """Answer a command that is always answered like that, whoever sends it in this manner."""
        self.say(fact, reply)
        if self.own and self._said is not None:
            lane = self.own_lane
            lane.keep(self.known_session(), self.own, self._said, lane.calls.get(fact.name.encode()), [], reply)

    def queued(self, item: Queued, slots: frozenset[int], planner: object) -> None:
        """A command was queued; ``planner`` says that its keys are in ``slots``."""
        session = self.known_session()
        session.queued += 1
        self.window.answer(b"" if session.muted() else QUEUED)
        self.adopt_session()
        again = item.whole is None and item.fact.for_admins is None
        if self.own and again and self._said is item.frame:
            self.own_lane.keep_queued(session, self.own, self._said, item, slots, planner)

    def say(self, fact: Fact, reply: bytes) -> None:
        """Answer a command at once."""
        counter = self.service.counters.command(fact.name)
        counter.calls += 1
        counter.failed += reply.startswith(b"-")
        muted = self.session.muted()
        self.window.answer(b"" if muted else reply)
        self.adopt_session()

    def say_later(self, fact: Fact, making: Job[bytes]) -> None:
        """Answer a command with what ``making`` returns, at once or in a while; what follows it waits."""
        token = self.window.reserve()
        if not self.service.slices.run(self._saying(fact, making, token, self.session.muted()), self):
            self.flow.stop(Stop.ORDER)
        self.adopt_session()

    def _saying(self, fact: Fact, making: Job[bytes], token: int, muted: bool) -> Job[None]:
        reply = yield from making
        counter = self.service.counters.command(fact.name)
        counter.calls += 1
        counter.failed += reply.startswith(b"-")
        self.window.deliver(token, reply, 0, 0 if muted else len(reply))

    def sink(self) -> Sink:
        """Where the reply goes to a command that is sent now: its window, or nowhere (CLIENT REPLY)."""
        if not self.session.muted():
            return self.window
        if self._muted is None:
            self._muted = Muted(self.window)
        self.adopt_session()
        return self._muted

    def _run_session(self, fact: Fact, args: list[bytes], now: float) -> None:
        session = self.session
        counter = self.service.counters.command(fact.name)
        counter.calls += 1
        mode = session.reply_mode
        muted = session.muted()
        before = session.db, session.protocol, session.reads_replicas
        reply = client_commands.run(session, fact.name, args, now)
        if fact.name == "reset" and self.modes is not None:
            commands.let_go(self.modes)
            self.modes = None
        if reply[:1] == b"-":
            counter.failed += 1
        if session.reply_mode is ReplyMode.ON and (mode is ReplyMode.OFF or (fact.name, reply) == _REPLY_ON):
            muted = False
        moved = (session.db, session.protocol, session.reads_replicas) != before
        if moved and self.modes is not None and self.modes.tracker is not None:
            self.modes.tracker.follow(self.window.reserve(), b"" if muted else reply)
        else:
            self.window.answer(b"" if muted else reply)
        self.changed(moved)
        if session.closing:
            self.drain()

    def _run_wide(self, fact: Fact, args: list[bytes], now: float) -> None:
        """A command about the clients of all workers. What follows it waits until they have done their parts."""
        session = self.session
        wide = cross_worker.WIDE[fact.name]
        self.service.counters.command(fact.name).calls += 1
        token = self.window.reserve()
        done = self.service.slices.run(self._doing_wide(fact, wide, args, now, token, session.muted()), self)
        if not done or (self.service.siblings is not None and self.window.pending):
            self.flow.stop(Stop.ORDER)
        self.adopt_session()

    def _doing_wide(
        self, fact: Fact, wide: cross_worker.Wide, args: list[bytes], now: float, token: int, muted: bool
    ) -> Job[None]:
        """This worker's part of it, and then the reply."""
        session = self.session
        siblings = self.service.siblings
        wrong = yield from wide.check(session.world, args)
        if wrong is not None:
            self.service.counters.command(fact.name).failed += 1
            reply = b"" if muted else encode.error(wrong)
            self.window.deliver(token, reply, 0, len(reply))
            return
        own = yield from wide.part(session.world, session.id, args, now)
        if siblings is None:
            self._answer_wide(fact, args, token, muted, (own,))
        else:
            then = partial(self._answer_wide, fact, args, token, muted)
            siblings.ask(fact.name, args, session.id, lambda others: then((own, *others)))

    def _answer_wide(
        self, fact: Fact, args: list[bytes], token: int, muted: bool, parts: Sequence[cross_worker.Part]
    ) -> None:
        session = self.session
        data = cross_worker.WIDE[fact.name].reply(parts, args, session.protocol)
        self.service.counters.command(fact.name).failed += data[:1] == b"-"
        if muted:
            data = b""
        self.window.deliver(token, data, 0, len(data))
        if session.closing:
            self.drain()

    def _run_plan(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool:
        service = self.service
        if self.session.admin and not service.planner.without_cluster(fact):
            if fact.for_admins is not None:
                fact = fact.for_admins
            elif fact.handling is Handling.REFUSED:
                self.refuse(fact, errors.not_for_all(fact.name, fact.reason))
                return True
        if publish.asks_too_early(self, fact):
            return False
        plan = service.planner.plan(fact, args, frame)
        if service.upstream.redirections.unsettled and runs_code(fact) and service.topology.cluster:
            # A server is told the first key of a module's command only, and answers for keys that are away.
            plan = service.planner.by_key(fact, args, frame) or plan
        shown = self.session.world.presented
        share = None if shown is None or fact.name not in OF_KEYSPACE else shown.share(self.session.local_address)
        if share is not None:
            divided = service.planner.divided(plan, fact, args, share)
            if isinstance(divided, bytes):
                self.say(fact, divided)
                return True
            plan = divided
        if isinstance(plan, Reject):
            self.reject(fact, plan)
            return True
        if isinstance(plan, Pin):
            if self.modes is None:
                self.modes = Modes(self)
            return self._aside(blocking.begin(self.modes, fact, args, frame, plan.shard))
        if fact.name in reply_counts.NAMES:
            raises = (
                service.upstream.may_raise(plan.shard, plan.read)
                if isinstance(plan, Forward)
                else service.upstream.may_raise()
            )
            if reply_counts.of_its_own(fact.name, args, raises):
                return self._aside(unshared.carry_out(self, fact, args, frame, plan))
        if fact.name in RUNS_CODE and not self.may_call_scripts():
            return False
        routes = self.for_large(frame, plan)
        if routes is None:
            return False
        service.counters.command(fact.name).calls += 1
        sink = self.sink()
        token = self.window.reserve()
        if isinstance(plan, Scatter):
            shards, read, writes = [part.shard for part in plan.parts], plan.way.read, plan.way.changes
        else:
            shards, read, writes = [plan.shard], plan.read, not fact.readonly
        if self.own_writes is not None:
            routes = self.reading(shards, read, now, routes)
        sink = self.writing(shards, writes, sink)
        if fact.scripting:
            if isinstance(plan, Scatter):
                targets = [routes.writers[part.shard] for part in plan.parts]
            else:
                targets = [(routes.readers if plan.read else routes.writers)[plan.shard]]
            service.scripts.prepare(fact.name, args, targets, now)
        if service.upstream.redirections.unsettled and isinstance(plan, Forward):
            service.upstream.forestall(
                frame, (routes.readers if plan.read else routes.writers)[plan.shard], sink, token, now
            )
        if self.modes is not None and self.modes.tracker is not None:
            self.modes.tracker.before(shards, now)  # nothing may come in between
        if isinstance(plan, Scatter) and plan.way.merge == "scan":
            Page(self, plan, routes, sink, token, now)
        elif isinstance(plan, Scatter):
            service.dispatcher.scatter(plan, routes, self.flow, sink, token, now)
        else:
            service.dispatcher.send(plan.shard, plan.read, frame, routes, self.flow, sink, token, now)
        return True

    def _aside(self, done: bool) -> bool:
        """A command goes over a connection that is not its client's for good, if it is ``done`` and need not wait."""
        if done and self.modes is not None and self.modes.tracker is not None:
            self.modes.tracker.passed()
        return done

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

    def reading(self, shards: Sequence[int], read: bool, now: float, routes: Routes | None = None) -> Routes:
        """The routes for a request to ``shards``, of ``routes`` or its usual ones: a read of which any part must go to
        the primary goes there whole."""
        own_writes, routes = self.own_writes, routes or self.routes
        if not read or own_writes is None:
            return routes
        lately = any(own_writes.lately(shard, routes.slot_shard, now) for shard in shards)
        return self.service.upstream.at_primaries(routes) if lately else routes

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
            self.wrote = EVERY_SHARD
        if self.modes is not None:
            self.modes.waited = 0


def arguments(frame: bytes) -> int:
    """How many arguments a request has."""
    return int(frame[1 : frame.index(b"\r")])
