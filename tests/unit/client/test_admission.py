"""Who may come in: addresses, and their connections in a second."""

import pytest

from proxy.client import admission
from proxy.client.admission import Admission, ConnectionRates, counted_as, is_loopback, source_of
from proxy.commands.categories import CommandSet
from proxy.config.client_limits import ConnectionLimits
from proxy.metrics import Counters
from proxy.session.acl_rules import everything
from proxy.session.acl_users import Users
from proxy.session.listener import Listener

LISTENER = Listener()


def users(open_to_all: bool) -> Users:
    """Users of which "default" needs a password, or none."""
    return Users(CommandSet(()), [everything("default")] if open_to_all else [])


class End:
    """The other end of a connection."""

    def __init__(self, host: str) -> None:
        self._peername: object = (host, 5000) if host else ""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._peername if name == "peername" else default


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "1.127.0.0", "::2", "fe80::1%eth0", "::ffff:10.0.0.1", "::ffff:1270:1"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_a_client_is_counted_under(host: str, address: str) -> None:
    assert counted_as(host) == address


def test_a_bucket_refills() -> None:
    clock = Time()
    rates = ConnectionRates(4, clock)
    assert [rates.take("a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert rates.take("b")
    clock.now += 0.5
    assert [rates.take("a") for _ in range(3)] == [True, True, False]
    clock.now += 60.0
    assert [rates.take("a") for _ in range(5)] == [True] * 4 + [False]


def test_only_those_of_the_last_second_are_known() -> None:
    clock = Time()
    rates = ConnectionRates(4, clock)
    for number in range(100):
        rates.take(str(number))
    clock.now += 1.0
    rates.take("a")
    assert len(rates) == 1


def test_a_flood_of_addresses_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_MOST_KNOWN", 50)
    rates = ConnectionRates(1, Time())
    for number in range(1000):
        assert rates.take(str(number))
    assert len(rates) == 50


def test_protected_mode_at_a_listener_without_the_default_user() -> None:
    door = Admission(True, users(True), ConnectionLimits(), Counters(), Time())
    stranger = End("10.0.0.1")
    assert door.refusal(stranger, Listener(users={"default"})) == admission.PROTECTED
    assert not door.refusal(stranger, Listener(users={"somebody"}))


def test_clients_of_an_address() -> None:
    counters = Counters()
    limits = ConnectionLimits(max_clients_per_address=2)
    door = Admission(True, users(False), limits, counters, Time())
    one, other = End("10.0.0.1"), End("10.0.0.2")
    for number in 1, 2:
        assert not door.refusal(one, LISTENER)
        door.enter(number, one)
    assert door.refusal(one, LISTENER) == admission.too_many_clients("10.0.0.1", 2)
    assert not door.refusal(other, LISTENER)
    assert not door.refusal(End(""), LISTENER)
    door.leave(1)
    door.leave(1)
    assert not door.refusal(one, LISTENER)
    door.leave(2)
    assert repr(door) == "Admission(protected=True, 0 addresses)"
    assert counters.rejected == {"address limit": 1}


@pytest.mark.parametrize(
    ("protected", "open_to_all", "host", "refused"),
    [
        (True, True, "10.0.0.1", True),
        (True, True, "127.0.0.1", False),
        (True, True, "", False),
        (True, False, "10.0.0.1", False),
        (False, True, "10.0.0.1", False),
    ],
)
def test_protected_mode(protected: bool, open_to_all: bool, host: str, refused: bool) -> None:
    door = Admission(protected, users(open_to_all), ConnectionLimits(), Counters(), Time())
    assert (door.refusal(End(host), LISTENER) == admission.PROTECTED) is refused


@pytest.mark.parametrize(
    ("shown", "counted"),
    [
        ("10.0.0.1:5000", "10.0.0.1"),
        ("[2001:db8::5]:5000", "2001:db8::/64"),
        ("[::ffff:10.0.0.1]:5000", "10.0.0.1"),
        ("/run/a:b.sock:0", "/run/a:b.sock"),
        ("[fe80::1%eth0]:5000", "fe80::/64"),
        ("rel:0", ""),
        ("rel:x:0", ""),
        ("@abs:1:0", ""),
        ("[x]:0", ""),
        ("a:b%c:0", ""),
        (":0", ""),
    ],
)
def test_the_address_that_is_shown(shown: str, counted: str) -> None:
    assert source_of(shown) == counted
