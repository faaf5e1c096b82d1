"""The delays of logins where many have failed."""

from dataclasses import dataclass
from functools import partial

import pytest

from proxy.session import login_delays
from proxy.session.login_delays import FIRST, FORGOTTEN_EVERY, FREE, LoginDelays


@dataclass
class Guest:
    address: str
    id: int = 1


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def delays(clock: Clock) -> LoginDelays:
    return LoginDelays(clock, 2.0, lambda shown: shown.rpartition(":")[0])


HERE, NEXT, ELSEWHERE = Guest("10.0.0.1:1000"), Guest("10.0.0.1:2000", 2), Guest("10.0.0.2:1000", 3)


def fail(delays: LoginDelays, count: int, guest: Guest = HERE, user: str = "app") -> None:
    for _ in range(count):
        delays.failed(guest, user)


def test_ten_are_free(delays: LoginDelays) -> None:
    fail(delays, FREE - 1)
    assert delays.due(HERE, "app") == 0
    assert not delays.active, "logins may take the fast path"
    fail(delays, 1)
    assert delays.due(HERE, "app") == FIRST


def test_it_grows_to_the_most(delays: LoginDelays) -> None:
    fail(delays, FREE)
    found = []
    for _ in range(7):
        found.append(delays.due(NEXT, "app"))
        fail(delays, 1)
    assert found == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_whom_it_delays(delays: LoginDelays) -> None:
    fail(delays, 20)
    assert delays.due(NEXT, "other") == 2.0, "who is at the same address"
    assert delays.due(ELSEWHERE, "app") == pytest.approx(0.2), "the user elsewhere, by a tenth"
    assert delays.due(ELSEWHERE, "other") == 0


def test_names_that_no_user_has_are_no_different(delays: LoginDelays) -> None:
    for user in "app", "nobody", "x" * 10000:
        fail(delays, FREE, Guest(f"10.1.1.{len(user) % 250}:1"), user)
        assert delays.due(ELSEWHERE, user) == pytest.approx(0.01)


def test_failures_are_forgotten(delays: LoginDelays, clock: Clock) -> None:
    fail(delays, 1000)
    clock.now += 11 * FORGOTTEN_EVERY
    assert delays.due(HERE, "app") == 0
    clock.now += 10 * FORGOTTEN_EVERY
    delays.settle()
    assert not delays.active
    for _ in range(100):
        clock.now += FORGOTTEN_EVERY
        fail(delays, 1)
        assert delays.due(HERE, "app") == 0, "ten in a minute are free for ever"


def test_who_has_waited_is_checked(delays: LoginDelays) -> None:
    fail(delays, 20)
    delays.checked = HERE.id
    assert delays.due(HERE, "app") == 0
    assert delays.due(NEXT, "app") == 2.0


def test_who_leaves(delays: LoginDelays) -> None:
    ended: list[int] = []
    delays.waiting[1] = lambda: ended.append(1)
    delays.leave(2)
    delays.leave(1)
    delays.leave(1)
    assert ended == [1]
    assert not delays.waiting


def test_it_can_be_off(clock: Clock) -> None:
    off = LoginDelays(clock)
    fail(off, 100)
    assert off.due(HERE, "app") == 0


def test_its_memory_is_bounded(delays: LoginDelays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_delays, "_KNOWN_MOST", 50)
    for number in range(500):
        fail(delays, 20, Guest(f"10.0.{number}.1:1"), f"user-{number}")
    assert "50 addresses, 50 users" in repr(delays)
    assert delays.due(Guest("10.0.499.1:7"), "x") == 2.0
    assert delays.due(Guest("10.0.449.1:7"), "x") == 0, "the oldest are forgotten"


class TestVerifications:
    def test_addresses_take_turns(self, delays: LoginDelays) -> None:
        started: list[int] = []
        for number, host in (1, 1), (2, 1), (3, 1), (4, 2):
            delays.verify_later(Guest(f"10.0.0.{host}:1", number), partial(started.append, number))
        assert started == [1]
        delays.leave(2)
        for _ in range(3):
            delays.verify_next()
        assert started == [1, 3, 4]
        assert not delays.verifying
        assert not delays.unverified

    def test_who_is_about_to_be_answered(self, delays: LoginDelays) -> None:
        for number in range(1, 300):
            delays.verify_later(Guest("10.0.0.1:1", number), lambda: None)
        delays.verify_later(Guest("10.0.0.2:1", 300), lambda: None)
        delays.waiting[400] = lambda: None
        assert delays.spared() == {*range(1, 102), 300, 400}
        for number in range(1, 200):
            delays.leave(number)
        delays.verify_next()
        assert delays.spared() == {*range(200, 300), 200, 300, 400}
        for number in range(1, 500):
            delays.leave(number)
        delays.verify_next()
        assert not delays.unverified

    def test_who_asks_again_has_its_old_place(self, delays: LoginDelays) -> None:
        started: list[int] = []

        def ask(number: int, mark: bytes) -> None:
            delays.verify_later(Guest("10.0.0.1:1", number), partial(started.append, number), mark)

        for number in range(1, 200):
            ask(number, b"guess %d" % number)
        ask(500, b"right")
        for number in range(200, 400):
            ask(number, b"guess %d" % number)
        delays.leave(500)
        delays.leave(300)
        ask(501, b"right")
        ask(502, b"right")
        ask(503, b"guess 300")
        for _ in range(500):
            delays.verify_next()
        assert started[199] == 501, "as if it had waited"
        assert started[200:] == [*range(200, 300), 503, *range(301, 400), 502], "one login for each place"
        assert not delays.unverified

    @pytest.mark.parametrize("kept", [0, 1, 50])
    def test_places_are_bounded(self, delays: LoginDelays, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
        monkeypatch.setattr(login_delays, "_PLACES_MOST", kept)
        started: list[int] = []
        for number in range(1, 101):
            delays.verify_later(Guest("10.0.0.1:1", number), partial(started.append, number), b"%d" % number)
        for number in range(2, 101):
            delays.leave(number)
        for number in range(2, 101):
            delays.verify_later(Guest("10.0.0.1:1", 1000 + number), partial(started.append, number), b"%d" % number)
        for _ in range(100):
            delays.verify_next()
        assert started == [1, *range(101 - kept, 101), *range(2, 101 - kept)], "the latest are kept"
