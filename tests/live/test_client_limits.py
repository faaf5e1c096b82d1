"""What one client may subscribe to and track."""

import pytest

from tests.support.fixtures import Serve
from tests.support.proxy_process import metric
from tests.support.site import Site
from tests.support.wire import Wire, pipeline

pytestmark = pytest.mark.live

LIMITED = "slotgate_requests_refused_total"
NOT_EXECUTED = "The command was not executed"
CONFIG = "[limits]\nmax_subscriptions_per_client = 5\nmax_patterns_per_client = 3\nmax_prefixes_per_client = 2\n"


def excess(has: int, kind: str, more: int, key: str, most: int) -> bytes:
    text = f"this client has {has} subscriptions to {kind} and asks for {more} more: limits.{key} = {most}"
    return f"-ERR {text}. {NOT_EXECUTED}\r\n".encode()


def channels(has: int, more: int) -> bytes:
    return excess(has, "channels", more, "max_subscriptions_per_client", 5)


def patterns(has: int, more: int) -> bytes:
    return excess(has, "patterns", more, "max_patterns_per_client", 3)


def names(count: int, prefix: str = "limited") -> list[str]:
    return [f"{prefix}:{number}" for number in range(count)]


@pytest.mark.parametrize("protocol", [2, 3])
def test_subscriptions_and_patterns(site: Site, serve: Serve, protocol: int) -> None:
    proxy = serve("--static", site.shards.static, config=CONFIG)
    with Wire(proxy.address, protocol=protocol) as client, Wire(proxy.address) as other:
        assert client.ask("SUBSCRIBE", *names(6)) == channels(0, 6)
        assert client.ask("PUBLISH" if protocol == 3 else "PING", *(("limited:0", "x") if protocol == 3 else ()))
        client.send(pipeline(("SUBSCRIBE", *names(4)), ("SUBSCRIBE", *names(2, "more")), ("PSUBSCRIBE", *names(3))))
        replies = client.replies(8)
        assert [reply.startswith(b"-") for reply in replies] == [False] * 4 + [True] + [False] * 3
        assert replies[4] == channels(4, 2)
        # What the client has already does not count again.
        client.send(pipeline(("SUBSCRIBE", *names(4), "one:more")))
        assert not any(reply.startswith(b"-") for reply in client.replies(5))
        assert client.ask("SSUBSCRIBE", "shard") == channels(5, 1)
        assert client.ask("PSUBSCRIBE", "x*") == patterns(3, 1)
        assert client.ask("UNSUBSCRIBE", "one:more").endswith(b":7\r\n")
        assert client.ask("SSUBSCRIBE", "shard").endswith(b":1\r\n")
        # Each client has its own, and who refused one kept its messages.
        assert other.ask("PUBLISH", "limited:0", "hello") == b":2\r\n"
        assert client.reply().endswith(b"hello\r\n")
    assert metric(proxy, LIMITED, limit="max_subscriptions_per_client") == 3
    assert metric(proxy, LIMITED, limit="max_patterns_per_client") == 1


def test_subscriptions_in_a_transaction(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config=CONFIG)
    with Wire(proxy.address, protocol=3) as client:
        client.send(pipeline(("MULTI",), ("SUBSCRIBE", *names(3)), ("SUBSCRIBE", *names(3, "b")), ("EXEC",)))
        replies = client.replies(4)
        assert replies[3].startswith(b"-EXECABORT")
        assert b"max_subscriptions_per_client = 5" in replies[3]
        client.send(pipeline(("MULTI",), ("SUBSCRIBE", *names(3)), ("EXEC",)))
        assert not any(reply.startswith(b"-") for reply in client.replies(3))


def test_prefixes(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config=CONFIG)
    on = "CLIENT", "TRACKING", "ON", "BCAST"
    with Wire(proxy.address, protocol=3) as client:
        assert client.ask(*on, "PREFIX", "a", "PREFIX", "b") == b"+OK\r\n"
        refusal = f"-ERR this client would track 3 prefixes: limits.max_prefixes_per_client = 2. {NOT_EXECUTED}\r\n"
        assert client.ask(*on, "PREFIX", "c") == refusal.encode()
        assert client.ask("GET", "a") == b"_\r\n"
        assert client.ask("CLIENT", "TRACKING", "OFF") == b"+OK\r\n"
        assert client.ask(*on, "PREFIX", "c") == b"+OK\r\n"
    assert metric(proxy, LIMITED, limit="max_prefixes_per_client") == 1


def test_none(site: Site, serve: Serve) -> None:
    """0 is no limit."""
    proxy = serve("--static", site.shards.static, config="[limits]\nmax_subscriptions_per_client = 0\n")
    with Wire(proxy.address) as client:
        client.send(pipeline(("SUBSCRIBE", *names(1000))))
        assert client.replies(1000)[-1].endswith(b":1000\r\n")


@pytest.mark.parametrize(
    "commands",
    [
        [["a"] * 6, ["b"]],
        [["a"]] * 6 + [["b"]],
        [["a", "b"], ["b", "a", "b"], ["c"], ["a", "c", "d"], ["e"]],
    ],
    ids=repr,
)
def test_a_name_counts_once(site: Site, serve: Serve, commands: list[list[str]]) -> None:
    """Also while its subscription is not confirmed yet."""
    proxy = serve("--static", site.shards.static, config=CONFIG)
    count = sum(map(len, commands))
    with Wire(proxy.address, protocol=3) as client:
        client.send(pipeline(*(("SUBSCRIBE", *names) for names in commands)))
        assert not [reply for reply in client.replies(count) if reply.startswith(b"-")]
        # The same again, when all are subscribed to.
        client.send(pipeline(*(("SUBSCRIBE", *names) for names in commands)))
        assert not [reply for reply in client.replies(count) if reply.startswith(b"-")]


def test_names_that_end_count_again(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config=CONFIG)
    with Wire(proxy.address, protocol=3) as client:
        client.send(pipeline(("SUBSCRIBE", *names(5))))
        client.replies(5)
        client.send(pipeline(("UNSUBSCRIBE", *names(5)), ("SUBSCRIBE", *names(5)), ("SUBSCRIBE", *names(5, "more"))))
        replies = client.replies(11)
        assert [reply.startswith(b"-") for reply in replies] == [False] * 10 + [True]
        assert client.ask("SUBSCRIBE", "one:more") == channels(5, 1)
