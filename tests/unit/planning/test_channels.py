"""Where subscriptions have to stand, and how they are told."""

import pytest

from proxy.planning.channels import Kind, Reach, as_resp2, confirmation, reach, told
from proxy.resp.replies import BadReply


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        (Kind.CHANNEL, "news", Reach.HOME),
        (Kind.CHANNEL, "__key", Reach.HOME),
        (Kind.CHANNEL, "__keyspace@0__:k", Reach.EVERY),
        (Kind.CHANNEL, "__keyevent@0__:set", Reach.EVERY),
        (Kind.PATTERN, "news*", Reach.HOME),
        (Kind.PATTERN, "__keyspace@0__:*", Reach.EVERY),
        (Kind.PATTERN, "__keyevent@*", Reach.EVERY),
        (Kind.PATTERN, "__keyevent@0__:set", Reach.EVERY),
        (Kind.PATTERN, "*", Reach.MIXED),
        (Kind.PATTERN, "__key*__:expired", Reach.MIXED),
        (Kind.PATTERN, "?_keyevent@0__:*", Reach.MIXED),
        (Kind.PATTERN, "[_]*", Reach.MIXED),
        (Kind.PATTERN, "__\\keyspace@0__:k", Reach.MIXED),
        (Kind.PATTERN, "__keyspaces*", Reach.HOME),
        (Kind.PATTERN, "__key", Reach.HOME),
        (Kind.SHARD, "news", Reach.SLOT),
        (Kind.SHARD, "__keyspace@0__:k", Reach.SLOT),
    ],
)
def test_where_it_stands(kind: Kind, name: str, wanted: Reach) -> None:
    assert reach(kind, name.encode(), cluster=True) is wanted
    assert reach(kind, name.encode(), cluster=False) is Reach.EVERY


def test_confirmations() -> None:
    assert confirmation(b"subscribe", b"a", 1, 2) == b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
    assert confirmation(b"psubscribe", b"", 12, 3) == b">3\r\n$10\r\npsubscribe\r\n$0\r\n\r\n:12\r\n"
    assert confirmation(b"unsubscribe", None, 0, 2) == b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
    assert confirmation(b"sunsubscribe", None, 0, 3) == b">3\r\n$12\r\nsunsubscribe\r\n_\r\n:0\r\n"


def test_what_is_pushed() -> None:
    push = confirmation(b"subscribe", b"a\r\nb", 1, 3)
    assert told(push) == (b"subscribe", b"a\r\nb", len(push) - 4)
    assert told(confirmation(b"unsubscribe", None, 0, 3))[:2] == (b"unsubscribe", b"")
    assert as_resp2(push) == confirmation(b"subscribe", b"a\r\nb", 1, 2)


@pytest.mark.parametrize("push", [b">0\r\n", b">1\r\n:1\r\n", b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"])
def test_what_is_no_subscription(push: bytes) -> None:
    with pytest.raises(BadReply):
        told(push)
