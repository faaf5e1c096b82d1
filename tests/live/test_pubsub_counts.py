"""What PUBLISH, SPUBLISH and PUBSUB count when somebody has just left: as on one server, who has left is not counted,
whether its goodbye was read or not."""

from collections.abc import Callable

import pytest

from tests.support.processes import eventually
from tests.support.site import Site
from tests.support.wire import Argument, Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

Connect = Callable[[], Wire]
Command = tuple[Argument, ...]
TIMES = 15

LEAVING: dict[str, tuple[Command, Command, Command]] = {
    "UNSUBSCRIBE": (("SUBSCRIBE", "c"), ("UNSUBSCRIBE", "c"), ("PUBLISH", "c", "m")),
    "UNSUBSCRIBE from all": (("SUBSCRIBE", "c", "d"), ("UNSUBSCRIBE",), ("PUBLISH", "d", "m")),
    "PUNSUBSCRIBE": (("PSUBSCRIBE", "c*"), ("PUNSUBSCRIBE",), ("PUBLISH", "c", "m")),
    "SUNSUBSCRIBE": (("SSUBSCRIBE", "c"), ("SUNSUBSCRIBE", "c"), ("SPUBLISH", "c", "m")),
    "RESET, a channel": (("SUBSCRIBE", "c"), ("RESET",), ("PUBLISH", "c", "m")),
    "RESET, a pattern": (("PSUBSCRIBE", "?"), ("RESET",), ("PUBLISH", "c", "m")),
    "RESET, of a shard": (("SSUBSCRIBE", "c"), ("RESET",), ("SPUBLISH", "c", "m")),
    "asked who is there": (("SUBSCRIBE", "c"), ("RESET",), ("PUBSUB", "NUMSUB", "c")),
    "asked what is there": (("SUBSCRIBE", "c"), ("UNSUBSCRIBE",), ("PUBSUB", "CHANNELS")),
    "asked for patterns": (("PSUBSCRIBE", "c"), ("RESET",), ("PUBSUB", "NUMPAT")),
    "asked for shards'": (("SSUBSCRIBE", "c"), ("SUNSUBSCRIBE",), ("PUBSUB", "SHARDNUMSUB", "c")),
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("case", LEAVING)
def test_who_has_left_is_not_counted(site: Site, case: str, protocol: int) -> None:
    """By another client, whose command the server gets behind the goodbye."""
    begin, end, count = LEAVING[case]
    found = []
    for connect in (site.direct, site.client):
        with connect(protocol) as stays, connect(protocol) as leaves, connect() as counts:
            stays.send(pack("SSUBSCRIBE" if begin[0] == "SSUBSCRIBE" else "SUBSCRIBE", "zz"))
            stays.reply()
            replies = []
            for _ in range(TIMES):
                leaves.send(pack(*begin))
                leaves.replies(len(begin) - 1)
                leaves.send(pack(*end))
                leaves.arrived()  # two connections have no order before that
                replies.append(decode(counts.ask(*count)))
                leaves.reply()
                leaves.send(pipeline(("RESET",), *([("HELLO", 3)] if protocol == 3 else []), ("PING",)))
                while leaves.reply() != b"+PONG\r\n":
                    pass
            found.append(replies)
    plain, proxied = found
    assert proxied == plain == [plain[0]] * TIMES


@pytest.mark.parametrize("end", [("UNSUBSCRIBE",), ("RESET",)], ids=["UNSUBSCRIBE", "RESET"])
def test_it_itself_counts_behind_its_goodbye(site: Site, end: Command) -> None:
    """In one write, the last of all listeners, again and again."""
    round_of = pipeline(
        ("SUBSCRIBE", "c"), ("PSUBSCRIBE", "*"), end, ("PUNSUBSCRIBE",), ("PUBLISH", "c", "m"), ("PING",)
    )
    found = []
    for connect in (site.direct, site.client):
        with connect() as client:
            client.send(round_of * TIMES)
            replies = [client.reply() for _ in range(6 * TIMES)]
            found.append(replies)
            assert replies[4::6] == [b":0\r\n"] * TIMES
    assert found[0] == found[1]


def test_who_comes_and_goes_holds_nobody_up(site: Site) -> None:
    """A channel that ends makes the publishers of that one wait, and only until the server knows."""
    with site.client(3) as listener, site.client() as publisher:
        for number in range(200):
            listener.send(pipeline(("SUBSCRIBE", f"c{number % 3}"), ("UNSUBSCRIBE",)))
            publisher.send(
                pipeline(("PUBLISH", f"c{number % 3}", "m"), ("SET", "k", number), ("PUBLISH", "other", "m"))
            )
        replies = publisher.replies(600)
        assert set(replies[1::3]) == {b"+OK\r\n"}
        assert set(replies[2::3]) == {b":0\r\n"}
        assert set(replies[::3]) <= {b":0\r\n", b":1\r\n"}
        assert eventually(lambda: publisher.value("PUBSUB", "CHANNELS") == [])
