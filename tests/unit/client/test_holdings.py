"""What a client holds, as its buffers say it."""

from proxy.client.kept_input import SentBytes
from proxy.engine.window import ReplyWindow
from tests.support.idle_worker import IdleWorker, idle_worker
from tests.support.wire import pack

MB = 1 << 20


def window() -> ReplyWindow:
    return ReplyWindow(lambda: None, MB)


def answer(replies: ReplyWindow, count: int) -> None:
    for token in range(replies.head, replies.head + count):
        replies.deliver(token, b"+OK\r\n", 0, 5)


def test_sent_bytes_count_until_they_are_answered() -> None:
    replies, sent = window(), SentBytes()
    for _ in range(4):
        replies.reserve()
        sent.add(100, replies)
    assert sent.size(replies) == 400
    answer(replies, 3)
    assert 100 <= sent.size(replies) <= 400
    answer(replies, 1)
    assert sent.size(replies) == 0


def test_the_count_does_not_grow_while_a_client_never_waits() -> None:
    replies, sent = window(), SentBytes()
    for _ in range(1000):
        replies.reserve()
        replies.reserve()
        sent.add(100, replies)
        answer(replies, 1 if replies.pending < 10 else 2)
        assert sent.size(replies) <= 3000
    assert sent.size(replies) >= 400


def test_replies_that_arrive_count_until_they_are_there() -> None:
    replies = window()
    for _ in range(3):
        replies.reserve()
    assert replies.keeping() == 0
    assert replies.kept(1, 300) == 300
    replies.kept(2, 50)
    replies.kept(1, 400)
    assert replies.keeping() == 450
    replies.deliver_pieces(1, [b"x" * 500])
    assert replies.keeping() == 50
    assert replies.parked_bytes == 500
    answer(replies, 1)
    replies.deliver(2, b"+OK\r\n", 0, 5)
    assert replies.keeping() == replies.parked_bytes == 0
    replies.close()
    replies.kept(3, 10)
    assert replies.keeping() == 0


def test_what_a_client_holds() -> None:
    with idle_worker() as worker:
        check(worker)


def check(worker: IdleWorker) -> None:
    client = worker.client

    def act() -> None:
        assert client.holding() == (0,) * 6
        client.data_received(pack("MULTI") + pack("SET", "k", "x" * 10_000))
        assert client.holding().queued > 10_000
        client.data_received(b"*2\r\n$3\r\nGET\r\n$1000\r\n" + b"k" * 500)
        assert client.holding().input > 500
        client.data_received(b"k" * 500 + b"\r\n" + pack("DISCARD"))
        assert client.holding() == (0,) * 6
        assert client.missing() == 0
        client.data_received(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n" + b"x" * 1000)
        assert 1000 < client.holding().input < 1100
        assert 999_000 <= client.missing() < 999_010

    worker.do(act)
