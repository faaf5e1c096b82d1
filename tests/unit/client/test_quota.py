"""What the clients of one user or address may do together, with a clock that stands still."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy.client.allowance import PLENTY, Allowance, TokenBucket
from proxy.client.quota import Quota
from proxy.engine.window import ReplyWindow


class Call:
    def __init__(self, calls: list["Call"], at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback = callback
        self._calls = calls
        calls.append(self)

    def cancel(self) -> None:
        self._calls.remove(self)


class Worker:
    def __init__(self) -> None:
        self.time = 100.0
        self.calls: list[Call] = []
        self.held: list[str] = []
        self.refused: list[str] = []

    def now(self) -> float:
        return self.time

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Call:
        return Call(self.calls, self.time + seconds, callback)

    def hold(self, limit: str) -> None:
        self.held.append(limit)

    def refuse(self, limit: str) -> None:
        self.refused.append(limit)

    def pass_time(self, seconds: float) -> None:
        """Let the time pass, and make the calls that are due."""
        until = self.time + seconds
        while due := [call for call in self.calls if call.at <= until]:
            first = min(due, key=lambda call: call.at)
            self.calls.remove(first)
            self.time = max(self.time, first.at)
            first.callback()
        self.time = until


class Flow:
    def __init__(self, client: "Guest") -> None:
        self.client = client
        self.stopped = False

    def stop(self, reason: int) -> None:
        self.stopped = True

    def go(self, reason: int) -> None:
        self.stopped = False
        self.client.go_on()


class Modes:
    blocked = True


class Guest:
    """A client with requests of 100 bytes that are carried out as far as its quota allows."""

    def __init__(self, worker: Worker, number: int, *allowances: Allowance) -> None:
        self.worker = worker
        self.number = number
        self.window = ReplyWindow(lambda: None, 1000)
        self.flow: Any = Flow(self)
        self.modes: Any = None
        self.requests = 0
        self.done = 0
        self.errors: list[str] = []
        self.answers = True
        self.quota = Quota(self, worker, list(allowances))

    def give_up(self) -> None:
        raise AssertionError

    def ask(self, count: int) -> None:
        self.requests += count
        self.go_on()

    def go_on(self) -> None:
        while self.requests and not self.flow.stopped:
            allowed = self.quota.allowed(self.worker.time)
            if allowed <= 0:
                if error := self.quota.over(self.worker.time):
                    self.errors.append(error)
                    self.requests -= 1
                    self.window.answer(b"")
                    self.quota.skip()
                continue
            count = min(allowed, self.requests)
            for _ in range(count):
                if self.answers:
                    self.window.answer(b"")
                else:
                    self.window.reserve()
            self.requests -= count
            self.done += count
            self.quota.charge(100 * count)


@pytest.fixture
def worker() -> Worker:
    return Worker()


def user(worker: Worker, commands: int = 0, size: int = 0, in_flight: int = 0, delays: bool = True) -> Allowance:
    return Allowance("user", "x", worker, (commands, size, in_flight), delays)


def test_a_bucket() -> None:
    bucket = TokenBucket(10, 0.0)
    assert bucket.left(0.0) == 10
    bucket.take(25)
    assert bucket.left(0.0) == -15
    assert bucket.wait(1) == pytest.approx(1.6)
    assert bucket.left(1.6) == pytest.approx(1)
    assert bucket.left(100) == 10


def test_nothing_is_limited(worker: Worker) -> None:
    assert user(worker).allowed(100.0) == PLENTY


@pytest.mark.parametrize("clients", [1, 3, 50])
def test_a_rate_that_delays(worker: Worker, clients: int) -> None:
    one = user(worker, commands=100)
    guests = [Guest(worker, number, one) for number in range(1, clients + 1)]
    for guest in guests:
        guest.ask(1000)
    assert sum(guest.done for guest in guests) == 100
    assert len(one.waiting) == clients
    worker.pass_time(5.0)
    assert sum(guest.done for guest in guests) == pytest.approx(600, abs=2)
    assert not any(guest.errors for guest in guests)
    assert set(worker.held) == {"max_command_rate_per_user"}


def test_who_waits_goes_on_in_order(worker: Worker) -> None:
    one = user(worker, commands=10)
    guests = [Guest(worker, number, one) for number in range(1, 6)]
    guests[0].ask(10)
    for guest in guests:
        guest.ask(1)
    worker.pass_time(0.11)
    late = Guest(worker, 9, one)
    late.ask(1)
    assert [guest.done for guest in guests] == [11, 0, 0, 0, 0]
    worker.pass_time(0.45)
    assert [guest.done for guest in (*guests, late)] == [11, 1, 1, 1, 1, 0]
    worker.pass_time(0.2)
    assert late.done == 1
    assert not worker.calls


def test_who_leaves_does_not_wait(worker: Worker) -> None:
    one = user(worker, commands=10)
    guest = Guest(worker, 1, one)
    guest.ask(50)
    guest.quota.leave()
    assert not one.clients
    assert not one.waiting
    assert not worker.calls


def test_a_rate_that_refuses(worker: Worker) -> None:
    guest = Guest(worker, 1, user(worker, commands=100, delays=False))
    guest.ask(250)
    assert guest.done == 100
    assert guest.errors == ["ERR user 'x' is over its limit of 100 commands/s"] * 150
    assert worker.refused == ["max_command_rate_per_user"] * 150
    worker.pass_time(0.5)
    guest.ask(250)
    assert guest.done == 150, "what was refused took nothing"


def test_bytes(worker: Worker) -> None:
    guest = Guest(worker, 1, user(worker, size=10_000, delays=False))
    guest.ask(250)
    assert 100 <= guest.done <= 103
    assert set(guest.errors) == {"ERR user 'x' is over its limit of 10000 bytes/s"}
    guest.window.write_to(Sent())
    before = guest.done
    worker.pass_time(1.0)
    guest.window.answer(b"x" * 30_000)
    guest.quota.skip()
    guest.window.write_to(Sent())
    guest.ask(1)
    assert guest.done == before, "a large reply is a debt"
    worker.pass_time(2.5)
    guest.ask(1)
    assert guest.done == before + 1


class Sent:
    def write(self, data: bytes) -> None:
        pass

    def writelines(self, data: list[bytes]) -> None:
        pass


def test_messages_are_no_replies(worker: Worker) -> None:
    """What is pushed to a client does not count, whether it is written by then or not; its replies do."""
    guest = Guest(worker, 1, user(worker, size=10_000, delays=False))
    guest.ask(1)
    guest.window.push(b"m" * 1_000_000)
    guest.ask(1)
    guest.window.write_to(Sent())
    guest.ask(1)
    assert (guest.done, guest.errors) == (3, [])
    guest.window.push(b"m" * 1_000_000)
    guest.window.answer(b"x" * 30_000)
    guest.quota.skip()
    guest.window.write_to(Sent())
    guest.ask(1)
    assert guest.done == 3, "the reply is a debt"


def test_who_leaves_takes_what_it_was_answered_along(worker: Worker) -> None:
    one = user(worker, commands=100, size=10_000, delays=False)
    guest = Guest(worker, 1, one)
    guest.ask(1)
    guest.window.answer(b"x" * 30_000)
    guest.window.write_to(Sent())
    guest.quota.leave()
    assert not one.full(worker.time)
    other = Guest(worker, 2, one)
    other.ask(1)
    assert (other.done, len(other.errors)) == (0, 1)
    unused = Guest(worker, 3, full := user(worker, commands=100, size=10_000))
    unused.window.answer(b"+OK\r\n")
    unused.quota.leave()
    assert full.full(worker.time), "what the quota before has counted is not taken again"


def test_a_user_and_an_address(worker: Worker) -> None:
    address = Allowance("address", "10.0.0.1", worker, (30, 0, 0), False)
    first = Guest(worker, 1, user(worker, commands=20, delays=False), address)
    second = Guest(worker, 2, address)
    first.ask(25)
    second.ask(25)
    assert (first.done, second.done) == (20, 10)
    assert set(second.errors) == {"ERR address 10.0.0.1 is over its limit of 30 commands/s"}


def test_requests_in_flight(worker: Worker) -> None:
    one = user(worker, in_flight=8, delays=False)
    guests = [Guest(worker, number, one) for number in range(1, 4)]
    for guest in guests:
        guest.answers = False
        guest.ask(20)
    assert sum(guest.window.pending for guest in guests) == 8
    assert not any(guest.errors for guest in guests), "it always delays"
    for _ in range(40):
        for guest in guests:
            while guest.window.pending:
                guest.window.deliver(guest.window.head, b"+OK\r\n", 0, 5)
        worker.pass_time(0.002)
        assert sum(guest.window.pending for guest in guests) <= 8
    assert [guest.done for guest in guests] == [20, 20, 20]
    assert set(worker.held) == {"max_in_flight_per_user"}


def answer(guest: Guest) -> None:
    """Answer all requests of a guest, and end the turn."""
    while guest.window.pending:
        guest.window.deliver(guest.window.head, b"+OK\r\n", 0, 5)
    guest.quota.answered()


@pytest.mark.parametrize("rate", [0, 1_000_000])
def test_who_waits_for_replies_goes_on_with_them(worker: Worker, rate: int) -> None:
    """Not when some time has passed, whether there is a rate as well or not."""
    one = user(worker, commands=rate, size=rate, in_flight=8)
    guests = [Guest(worker, number, one) for number in range(1, 4)]
    for guest in guests:
        guest.answers = False
        guest.ask(80)
    for _ in range(30):
        assert sum(guest.window.pending for guest in guests) == 8
        worker.pass_time(0.00001)
        for guest in guests:
            if guest.window.pending:
                answer(guest)
        worker.pass_time(0.00001)
    assert [guest.done for guest in guests] == [80, 80, 80]


def test_a_request_of_another_client_wakes_who_waits(worker: Worker) -> None:
    """Replies that are written directly to a client that does not wait are noticed with the next request."""
    one = user(worker, in_flight=2)
    busy, waiting = Guest(worker, 1, one), Guest(worker, 2, one)
    busy.answers = waiting.answers = False
    busy.ask(2)
    waiting.ask(1)
    assert waiting.done == 0
    worker.pass_time(0.0001)
    busy.window.deliver(0, b"+OK\r\n", 0, 5)
    busy.ask(1)
    worker.pass_time(0.00001)
    assert waiting.done == 1


def test_requests_that_are_answered_at_once_are_not_in_flight(worker: Worker) -> None:
    guest = Guest(worker, 1, user(worker, in_flight=8))
    guest.ask(1000)
    assert guest.done == 1000
    assert not worker.held


def test_an_empty_bucket_is_asked_seldom(worker: Worker) -> None:
    guest = Guest(worker, 1, user(worker, commands=10_000, in_flight=8))
    guest.ask(20_000)
    assert guest.done == 10_000
    worker.pass_time(0.0049)
    assert guest.done == 10_000
    worker.pass_time(0.0002)
    assert guest.done == pytest.approx(10_050, abs=2)


def test_blocked_clients_have_nothing_in_flight(worker: Worker) -> None:
    one = user(worker, in_flight=2)
    blocked, other = Guest(worker, 1, one), Guest(worker, 2, one)
    blocked.answers, blocked.modes = False, Modes()
    blocked.ask(2)
    worker.pass_time(0.01)
    other.ask(5)
    worker.pass_time(0.1)
    assert other.done == 5


def test_the_request_that_logs_in_is_not_counted_twice(worker: Worker) -> None:
    guest = Guest(worker, 1, user(worker, commands=5, delays=False))
    guest.window.answer(b"+OK\r\n")
    guest.ask(6)
    assert guest.done == 5


def test_before_the_login(worker: Worker) -> None:
    guest = Guest(worker, 1)
    quota = Quota(guest, worker, [], True, 3, 1000)
    for number in range(3):
        assert quota.allowed(0.0) == 1
        assert quota.before_login(True, 1000 - 100 * number) == ""
        guest.window.answer(b"")
        quota.charge(100)
    assert quota.before_login(False, 0) == ""
    assert quota.before_login(True, 0) == "ERR more than 3 commands before the login (limits.auth_commands)"
    assert quota.before_login(False, 701) == "ERR more than 1000 bytes before the login (limits.auth_bytes)"
    assert Quota(guest, worker, [], True, 0, 0).before_login(True, 10**9) == ""
