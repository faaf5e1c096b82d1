"""What a tracking client is told while a reply of its is still to come."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from proxy.backends.shared import Backend
from proxy.client.client import Client as ProxyClient
from proxy.engine.inflight import InFlight
from proxy.engine.sink import Sink
from proxy.engine.window import ReplyWindow
from proxy.features.tracking_client import Tracker
from proxy.session.tracking_options import Tracking

_HEAD = b">2\r\n$10\r\ninvalidate\r\n"
_KEY = _HEAD + b"*1\r\n$1\r\nk\r\n"
_ALL = _HEAD + b"_\r\n"


class Client:
    """A client that tracks, and what it is sent; it has a connection of its own to each of so many ``servers``."""

    def __init__(self, tracking: Tracking, servers: int = 2) -> None:
        self.window = ReplyWindow(lambda: None, 1000)
        self.primaries = [
            SimpleNamespace(inflight=InFlight(), place=SimpleNamespace(node=number), ready=True)
            for number in range(servers)
        ]
        self.routes = SimpleNamespace(primaries=self.primaries)
        self._soon: list[SimpleNamespace] = []
        self.service = SimpleNamespace(loop=SimpleNamespace(call_later=self._later))
        self.session = SimpleNamespace(protocol=3, db=0)
        self.modes: SimpleNamespace | None = None
        self.number = 1
        self.holder = "someone"
        self.tracker = Tracker(cast(ProxyClient, self), tracking)

    def _later(self, seconds: float, then: Callable[[], None]) -> SimpleNamespace:
        timer = SimpleNamespace(then=then)
        timer.cancel = lambda: self._soon.remove(timer) if timer in self._soon else None
        self._soon.append(timer)
        return timer

    def ask(self, server: int = 0, sink: Sink | None = None) -> int:
        """A request to a server; or a part of one, whose reply ``sink`` takes."""
        token = self.window.reserve()
        inflight = self.primaries[server].inflight
        inflight.push(sink or self.window, token if sink is None else 0, b"GET", 0, 3, 0.0)
        inflight.write_to(SimpleNamespace(write=lambda data: None))
        return token

    def answer(self, reply: bytes, server: int = 0) -> None:
        """The server answers."""
        self.primaries[server].inflight.answer(reply, 0, len(reply))

    def hears(self, frame: bytes, server: int = 0) -> None:
        """The server says ``frame`` unasked."""
        self.tracker.pushed(cast(Backend, self.primaries[server]), frame)

    def moment(self) -> None:
        """A moment later."""
        soon, self._soon = self._soon, []
        for timer in soon:
            timer.then()

    def said(self) -> bytes:
        """What it is sent."""
        said: list[bytes] = []
        self.window.write_to(SimpleNamespace(write=said.append, writelines=said.extend))
        return b"".join(said)


def told(count: int) -> tuple[int, list[bytes]]:
    """How many of ``count`` invalidations wait behind a reply, a read that came behind half of them, and another; and
    all that is said once the replies are there."""
    client = Client(Tracking(bcast=True))
    window = client.window
    first = window.reserve()
    for number in range(count // 2):
        client.hears(_HEAD + b"*1\r\n:%d\r\n" % number)
    second = window.reserve()
    for number in range(count // 2, count):
        client.hears(_HEAD + b"*1\r\n:%d\r\n" % number)
    waiting = window.pending
    window.deliver(second, b"+2\r\n", 0, 4)
    window.deliver(first, b"+1\r\n", 0, 4)
    said = client.said()
    assert not window.pending
    return waiting, said.replace(_HEAD, b"").split(b"\r\n")


def test_few_come_in_order() -> None:
    assert told(4) == (6, [b"+1", b"*1", b":0", b"*1", b":1", b"+2", b"*1", b":2", b"*1", b":3", b""])


def test_many_become_one() -> None:
    waiting, said = told(100_000)
    assert waiting < 2000
    assert said[:3] == [b"+1", b"*1", b":0"]
    at = said.index(b"+2")
    assert said[at - 1 :] == [b"_", b"+2", b"_", b""]  # each read is followed by one that covers it


def test_it_comes_where_its_server_said_it() -> None:
    """Between the replies before and behind it, as at the server."""
    client = Client(Tracking())
    client.ask()
    client.ask()
    client.answer(b"+1\r\n")
    client.hears(_KEY)
    client.answer(b"+2\r\n")
    assert client.said() == b"+1\r\n" + _KEY + b"+2\r\n"


def test_it_comes_behind_what_waits_for_another_server() -> None:
    client = Client(Tracking())
    client.ask(1)
    client.ask()
    client.ask()
    client.answer(b"+2\r\n")
    client.hears(_KEY)
    client.answer(b"+3\r\n")
    client.answer(b"+1\r\n", 1)
    assert client.said() == b"+1\r\n+2\r\n+3\r\n" + _KEY


def test_it_does_not_come_before_the_reply_to_a_split_command() -> None:
    """Another part of it may have been read before."""
    client = Client(Tracking())
    token = client.ask(sink=Sink())
    client.hears(_KEY)
    client.window.deliver(token, b"+1\r\n", 0, 4)
    assert client.said() == b"+1\r\n" + _KEY


@pytest.mark.parametrize("bcast", [False, True])
def test_every_server_says_that_all_is_gone(bcast: bool) -> None:
    """Once is due, when all of them have."""
    client = Client(Tracking(bcast=bcast), servers=3)
    for _ in range(2):
        client.hears(_ALL, 0)
        client.hears(_ALL, 1)
        assert client.said() == b""
        client.hears(_ALL, 2)
        assert client.said() == _ALL
    client.moment()
    assert client.said() == b""


def test_one_server_says_that_all_is_gone() -> None:
    client = Client(Tracking(), servers=3)
    client.hears(_ALL, 1)
    client.moment()
    assert client.said() == _ALL
    alone = Client(Tracking(), servers=1)
    alone.ask()
    alone.hears(_ALL)
    alone.answer(b"+1\r\n")
    assert alone.said() == _ALL + b"+1\r\n"


def test_what_is_said_to_a_blocked_client_waits_a_moment() -> None:
    client = Client(Tracking())
    token = client.window.reserve()
    client.modes = SimpleNamespace(blocked=True)
    client.hears(_KEY)
    assert client.said() == b""
    client.moment()
    assert client.said() == _KEY
    client.hears(_KEY)
    client.modes.blocked = False
    client.window.deliver(token, b"+1\r\n", 0, 4)
    client.moment()
    assert client.said() == b"+1\r\n" + _KEY
