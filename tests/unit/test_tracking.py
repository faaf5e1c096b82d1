"""What a tracking client is told while a reply of its is still to come."""

from types import SimpleNamespace
from typing import cast

from proxy.conversation import Conversation
from proxy.engine.window import ReplyWindow
from proxy.tracking import Tracker
from proxy.trackoptions import Tracking

_HEAD = b">2\r\n$10\r\ninvalidate\r\n"


def told(count: int) -> tuple[int, list[bytes]]:
    """How many of ``count`` invalidations wait behind a reply, a read that came behind half of them, and another; and
    all that is said once the replies are there."""
    window = ReplyWindow(lambda: None, 1000)
    session = SimpleNamespace(protocol=3)
    tracker = Tracker(
        cast(Conversation, SimpleNamespace(window=window, session=session, modes=None, number=1, service=None)),
        Tracking(bcast=True),
    )
    first = window.reserve()
    for number in range(count // 2):
        tracker.pushed(_HEAD + b"*1\r\n:%d\r\n" % number)
    second = window.reserve()
    for number in range(count // 2, count):
        tracker.pushed(_HEAD + b"*1\r\n:%d\r\n" % number)
    waiting = window.pending
    said: list[bytes] = []
    window.deliver(second, b"+2\r\n", 0, 4)
    window.deliver(first, b"+1\r\n", 0, 4)
    transport = SimpleNamespace(write=said.append, writelines=said.extend)
    window.write_to(transport)
    assert not window.pending
    return waiting, b"".join(said).replace(_HEAD, b"").split(b"\r\n")


def test_few_come_in_order() -> None:
    assert told(4) == (6, [b"+1", b"*1", b":0", b"*1", b":1", b"+2", b"*1", b":2", b"*1", b":3", b""])


def test_many_become_one() -> None:
    waiting, said = told(100_000)
    assert waiting < 2000
    assert said[:3] == [b"+1", b"*1", b":0"]
    at = said.index(b"+2")
    assert said[at - 1 :] == [b"_", b"+2", b"_", b""]  # each read is followed by one that covers it
