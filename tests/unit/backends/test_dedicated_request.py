"""A request over a dedicated connection: when it is tried again, for how long, and what is said and counted if not."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.backends.dedicated import Lease
from proxy.backends.dedicated_pool import Claim
from proxy.backends.dedicated_request import DedicatedRequest, Fate, RequestPolicy
from proxy.backends.settings import Place
from proxy.backends.upstream import Upstream
from proxy.engine.sink import Sink
from proxy.planning.proof import Doubt
from proxy.planning.refusals import ASKING, Refusal
from proxy.sharding.topology import Node

HOME, OTHER = Node("10.3.0.1", 6379), Node("10.3.0.2", 6379)
REQUEST_TIMEOUT, RETRY_DEADLINE = 5.0, 3.0
FRAME = b"*1\r\n$4\r\nWORK\r\n"
PLAIN = RequestPolicy("closed the connection")
LASTING = RequestPolicy("{reason}", lasting=True, idle_ends=2)
REASONED = RequestPolicy("closed ({reason})")


class Line(Lease):
    """A dedicated connection; ``sent`` has what was written, and ``open`` says whether it was dropped."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, cast(Any, SimpleNamespace(max_reply=1 << 20)), lambda lease: None)
        self.sent: list[tuple[Sink, bytes]] = []
        self.open = True
        self.back = False

    def send(self, sink: Sink, token: int, frame: bytes, since: float) -> None:
        self.sent.append((sink, frame))

    def drop(self) -> None:
        self.open = False
        self.on_lost = None

    def answer(self, reply: bytes) -> None:
        """The server answers what was sent last."""
        self.sent[-1][0].deliver(0, reply, 0, len(reply))

    def lose(self, reason: str, *, sent: bool = True) -> None:
        on_lost, self.on_lost = self.on_lost, None
        assert on_lost is not None
        on_lost(reason, sent)


class Servers:
    """In place of ``Upstream``: the time, the timers, and what was asked for, told and counted."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.claims: list[Claim] = []
        self.hints: list[Node | None] = []
        self.redirects: list[str] = []
        self.loop = SimpleNamespace(call_later=self._later)
        self.turn = SimpleNamespace(now=lambda: self.time, clock=self.loop)
        self.timing = SimpleNamespace(request_timeout=REQUEST_TIMEOUT, retry_deadline=RETRY_DEADLINE)
        self.counters = SimpleNamespace(uncertain=0, timeouts=0, retries=0, redirect=self.redirects.append)
        self.events = SimpleNamespace(hint=self.hints.append, demoted=lambda place: None)
        self.leases = SimpleNamespace(ask=self._ask, give_back=self._give_back)

    def _later(self, seconds: float, callback: Callable[[], object]) -> SimpleNamespace:
        timer = (self.time + seconds, callback)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer) if timer in self.timers else None)

    def _ask(self, place: Place, then: Callable[[Lease | str], None], holder: str) -> Claim:
        self.claims.append(Claim(place, then, holder))
        return self.claims[-1]

    def _give_back(self, lease: Line, *, untouched: bool = False) -> None:
        lease.back = True

    def grant(self) -> Line:
        """Give the connection that was asked for last."""
        line = Line(self.claims[-1].place)
        self.claims[-1].settle(line)
        return line

    def fire(self) -> float:
        """Let the time pass until the next timer: how long that took."""
        due, callback = min(self.timers, key=lambda timer: timer[0])
        self.timers.remove((due, callback))
        began, self.time = self.time, max(self.time, due)
        callback()
        return round(due - began, 6)


class Work(DedicatedRequest):
    """A request whose end is kept in ``end``."""

    policy = PLAIN

    def __init__(self, servers: Servers, *, repeat: bool = False, keeps: bool = False) -> None:
        super().__init__(cast(Upstream, servers), "anna@10.0.0.1", repeat=repeat, limit=REQUEST_TIMEOUT)
        self.end: tuple[Fate, bytes] | None = None
        self.left: Lease | None = None
        self.keeps = keeps
        self.obstacle: Refusal | bytes | None = None

    def where(self) -> Place | Refusal | bytes:
        return self.obstacle or Place("shard-1", self.node or HOME, True, 2, 0, 0)

    def write(self, lease: Lease, now: float) -> float | None:
        self.ask(lease, self, 0, FRAME, now)
        return REQUEST_TIMEOUT

    def take(self, token: int, reply: bytes) -> None:
        lease = self.lease
        assert lease is not None
        if self.keeps:
            self.let_go(lease)
        self.finish(Fate.ANSWERED, reply, lease if self.keeps else None)

    def ended(self, fate: Fate, reply: bytes, lease: Lease | None) -> None:
        assert self.end is None, "it ends once"
        self.end = fate, reply
        self.left = lease


class LastingWork(Work):
    policy = LASTING


class ReasonedWork(Work):
    policy = REASONED


KINDS = [Work, LastingWork, ReasonedWork]


def test_a_connection_is_closed_unless_it_is_handed_on() -> None:
    for keeps in (False, True):
        servers = Servers()
        work = Work(servers, keeps=keeps)
        work.start()
        line = servers.grant()
        line.answer(b"+OK\r\n")
        assert work.end == (Fate.ANSWERED, b"+OK\r\n")
        assert (line.open, work.left) == ((True, line) if keeps else (False, None))
        assert not servers.timers


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_sent_and_lost_is_uncertain(kind: type[Work]) -> None:
    servers = Servers()
    work = kind(servers)
    work.start()
    servers.grant().lose("a cut")
    assert work.end is not None
    fate, reply = work.end
    words = {Work: b"closed the connection", LastingWork: b"a cut", ReasonedWork: b"closed (a cut)"}[kind]
    assert (fate, reply[:10]) == (Fate.LOST, b"-UNCERTAIN")
    assert b"(10.3.0.1:6379) %b:" % words in reply
    assert servers.counters.uncertain == 1
    assert servers.hints == [None]


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_repeated_is_sent_again(kind: type[Work]) -> None:
    servers = Servers()
    work = kind(servers, repeat=True)
    work.start()
    servers.grant().lose("a cut")
    assert (work.end, servers.fire()) == (None, 0.01)
    assert (len(servers.claims), servers.counters.retries) == (2, 1)


@pytest.mark.parametrize(("kind", "waits"), [(Work, [0.01, 0.02, 0.04]), (LastingWork, [0.0, 0.0, 0.04])])
def test_what_was_not_sent_is_sent_again(kind: type[Work], waits: list[float]) -> None:
    """Idle connections may turn out to be closed, one after the other."""
    servers = Servers()
    work = kind(servers)
    work.start()
    for wait in waits:
        servers.grant().lose("idle for long", sent=False)
        assert servers.fire() == wait
    assert (work.end, servers.counters.uncertain, servers.counters.retries) == (None, 0, 0)


@pytest.mark.parametrize(("kind", "before"), [(Work, False), (LastingWork, True)])
def test_the_deadline_begins_with_the_request_or_with_its_trouble(kind: type[Work], before: bool) -> None:
    servers = Servers()
    work = kind(servers)
    work.start()
    servers.time += RETRY_DEADLINE
    servers.claims[-1].settle("SHARDDOWN it is away")
    if before:
        assert work.end is None
        servers.fire()
        servers.time += RETRY_DEADLINE
        servers.claims[-1].settle("SHARDDOWN it is away")
    assert work.end == (Fate.FAILED, b"-SHARDDOWN it is away\r\n")
    assert not servers.timers


def test_too_many_connections_are_no_reason_to_wait() -> None:
    servers = Servers()
    work = Work(servers)
    work.start()
    servers.claims[-1].settle("ERR too many connections")
    assert work.end == (Fate.FAILED, b"-ERR too many connections\r\n")


def test_it_waits_for_what_keeps_it_from_being_sent() -> None:
    servers = Servers()
    work = Work(servers)
    work.obstacle = Refusal("", b"-CLUSTERDOWN nobody\r\n")
    work.start()
    assert [servers.fire() for _ in range(4)] == [0.01, 0.02, 0.04, 0.08]
    servers.time += RETRY_DEADLINE
    servers.fire()
    assert (work.end, servers.claims) == ((Fate.FAILED, b"-CLUSTERDOWN nobody\r\n"), [])


def test_a_redirection_is_followed_at_once() -> None:
    servers = Servers()
    work = Work(servers)
    work.start()
    line = servers.grant()
    work.refused(line, Refusal("ASK", b"-ASK 1 10.3.0.2:6379\r\n", OTHER))
    assert (line.back, servers.redirects, servers.hints) == (True, ["ASK"], [OTHER])
    assert servers.fire() == 0.0
    assert servers.claims[-1].place.node == OTHER
    assert [frame for _, frame in servers.grant().sent] == [ASKING, FRAME]


def test_a_connection_to_a_replica_is_not_used_again() -> None:
    servers = Servers()
    work = Work(servers)
    work.start()
    line = servers.grant()
    work.refused(line, Refusal("READONLY", b"-READONLY it is a replica\r\n"))
    assert (line.open, line.back, servers.fire()) == (False, False, 0.01)


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_says_nothing_is_given_up(kind: type[Work], repeat: bool) -> None:
    servers = Servers()
    work = kind(servers, repeat=repeat)
    work.start()
    line = servers.grant()
    assert servers.fire() == REQUEST_TIMEOUT
    assert work.end is not None
    fate, reply = work.end
    assert (fate, reply.partition(b" ")[0]) == ((Fate.FAILED, b"-TIMEOUT") if repeat else (Fate.LOST, b"-UNCERTAIN"))
    assert not line.open
    assert (servers.counters.timeouts, servers.counters.uncertain) == (1, int(not repeat))


@pytest.mark.parametrize("end", ["answered", "refused", "lost", "late"])
def test_an_error_that_may_be_data_is_asked_about(end: str) -> None:
    """If nobody says that it was a refusal, it is what it looks like."""
    servers = Servers()
    work = Work(servers)
    work.start()
    line = servers.grant()
    error = b"-LOADING as a script words it\r\n"
    refusal = Refusal("LOADING", b"-LOADING in truth\r\n")
    doubt = Doubt("LOADING", error, b"TWIN", lambda reply, node: refusal if reply == refusal.error else None)
    work.prove(line, doubt, lambda: work.finish(Fate.ANSWERED, error))
    assert line.sent[-1][1] == b"TWIN"
    if end == "answered":
        line.answer(b":1\r\n")
    elif end == "refused":
        line.answer(refusal.error)
    elif end == "lost":
        line.lose("a cut")
    else:
        servers.fire()
    assert work.end == (None if end == "refused" else (Fate.ANSWERED, error))
    assert servers.redirects == ["LOADING"] * (end == "refused")


@pytest.mark.parametrize("stage", ["asking", "sent", "pausing"])
def test_nothing_is_left_of_what_is_cancelled(stage: str) -> None:
    servers = Servers()
    work = Work(servers)
    work.start()
    line = None if stage == "asking" else servers.grant()
    if stage == "pausing" and line is not None:
        line.lose("idle for long", sent=False)
    work.cancel()
    assert (work.end, servers.timers, servers.claims[-1].cancelled) == (None, [], True)
    assert line is None or stage == "pausing" or not line.open
    work.finish(Fate.FAILED, b"-ERR too late\r\n")
    work.retry(b"-ERR too late\r\n")
    assert (work.end, servers.timers) == (None, [])
