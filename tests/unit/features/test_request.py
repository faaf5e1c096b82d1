"""The reply that a client waits for: counted, in its place, left out where CLIENT REPLY has it so, and given once."""

import pytest

from proxy.engine.sink import ForwardingSink
from proxy.engine.window import ReplyWindow
from proxy.features.request import PendingReply
from proxy.metrics import CommandCounter


class Client:
    """A client without a connection."""

    def __init__(self) -> None:
        self.counter = CommandCounter("echo")
        self.window = ReplyWindow(lambda: None, 1000)

    def pending(self, muted: bool = False) -> PendingReply:
        return PendingReply(self.window, self.counter, muted)

    def said(self) -> bytes:
        """What it is sent."""
        said: list[bytes] = []

        class Transport:
            write = said.append
            writelines = said.extend

        self.window.write_to(Transport())
        return b"".join(said)


@pytest.fixture
def client() -> Client:
    return Client()


def counted(client: Client) -> tuple[int, int]:
    return client.counter.calls, client.counter.failed


def test_a_reply_is_counted(client: Client) -> None:
    client.pending().answer(b"+OK\r\n")
    assert counted(client) == (1, 0)
    client.pending().answer(b"-ERR\r\n")
    assert counted(client) == (2, 1)
    assert client.said() == b"+OK\r\n-ERR\r\n"


def test_a_call_is_counted_before_its_reply(client: Client) -> None:
    client.pending().reserve()
    assert counted(client) == (1, 0)


def test_what_is_answered_at_once_takes_its_place_then(client: Client) -> None:
    pending = client.pending()
    assert client.window.issued == 0
    pending.answer(b"+OK\r\n")
    assert (client.window.issued, client.window.pending) == (1, 0)


def test_what_is_answered_later_keeps_its_place(client: Client) -> None:
    first = client.pending().reserve()
    client.pending().answer(b"+2\r\n")
    assert client.said() == b""
    first.answer(b"+1\r\n")
    assert client.said() == b"+1\r\n+2\r\n"


def test_a_muted_client_is_told_nothing(client: Client) -> None:
    pending = client.pending(muted=True).reserve()
    pending.answer(b"-ERR\r\n")
    assert client.said() == b""
    assert not client.window.pending
    assert counted(client) == (1, 1)


def test_a_muted_client_hears_no_server(client: Client) -> None:
    pending = client.pending(muted=True).reserve()
    pending.sink.deliver(pending.token, b"x+1\r\n", 1, 5)
    assert client.said() == b""
    assert not client.window.pending


def test_what_is_said_all_the_same(client: Client) -> None:
    pending = client.pending(muted=True)
    assert pending.muted
    pending.unmute()
    assert not pending.muted
    pending.answer(b"+OK\r\n")
    assert client.said() == b"+OK\r\n"


def test_another_sink_sees_the_reply_first(client: Client) -> None:
    class Louder(ForwardingSink):
        def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
            self.forward(token, data[start:end].upper())

    pending = client.pending().reserve()
    pending.sink = Louder(pending.sink)
    pending.answer(b"+ok\r\n")
    assert client.said() == b"+OK\r\n"


def test_nothing_is_answered_twice(client: Client) -> None:
    pending = client.pending()
    pending.answer(b"+OK\r\n")
    with pytest.raises(AssertionError, match="echo"):
        pending.answer(b"+OK\r\n")
