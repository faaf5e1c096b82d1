"""What sentinels reply and publish, read."""

from random import Random

import hiredis
import pytest

from proxy.discovery.sentinelview import (
    Follower,
    Master,
    NoSentinel,
    SentinelEvent,
    SentinelReport,
    is_old,
    questions,
    read,
    read_event,
)
from proxy.sharding.topology import Node
from tests.unit.discovery.damage import damaged
from tests.unit.discovery.sentinels import (
    DEAD_REPLICA,
    DEMOTED_PRIMARY,
    GOOD_REPLICA,
    MASTER,
    MYID,
    NEW_REPLICA,
    NO_SUCH_MASTER,
    PEER,
    PROMOTED,
    PROMOTING,
    SECOND_REPLICA,
    flat,
)

ASKED = Node("127.0.0.1", 26379)
PRIMARY = Node("127.0.0.1", 45395)
ADDRESS = [b"127.0.0.1", b"45395"]
PEERS = {"58ac3ea0f8076dc48b900e54663cf838fcf53f7e": Node("127.0.0.1", 51327)}
NOBODY = [NO_SUCH_MASTER, None, NO_SUCH_MASTER, NO_SUCH_MASTER]
UNKNOWN_SUBCOMMAND = hiredis.ReplyError("ERR Unknown sentinel subcommand 'REPLICAS'")


def test_what_is_asked() -> None:
    assert questions(["a", "b"], "SLAVES") == [
        ("SENTINEL", "MYID"),
        ("SENTINEL", "MASTER", "a"),
        ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "a"),
        ("SENTINEL", "SLAVES", "a"),
        ("SENTINEL", "SENTINELS", "a"),
        ("SENTINEL", "MASTER", "b"),
        ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "b"),
        ("SENTINEL", "SLAVES", "b"),
        ("SENTINEL", "SENTINELS", "b"),
    ]


def test_a_report() -> None:
    replies = [MYID, MASTER, ADDRESS, [GOOD_REPLICA, DEAD_REPLICA], [PEER], *NOBODY]
    followers = (
        Follower(Node("127.0.0.1", 53925), down=False, known=True),
        Follower(Node("127.0.0.1", 59667), down=True, known=False),
    )
    expected = SentinelReport(MYID.decode(), {"alpha": Master(PRIMARY, 0, "", followers, PEERS)})
    assert read(ASKED, ["alpha", "nope"], replies, {}) == expected


@pytest.mark.parametrize(
    ("entry", "down", "known"),
    [
        (GOOD_REPLICA, False, True),
        (SECOND_REPLICA, False, True),  # its link is its own matter: what a sentinel knows of that is up to 10 s old
        (DEAD_REPLICA, True, False),
        (NEW_REPLICA, False, False),
        (DEMOTED_PRIMARY, False, False),
        (flat("ip=127.0.0.1 port=1 flags=o_down,slave role-reported=slave master-host=127.0.0.1"), True, True),
        (flat("ip=127.0.0.1 port=1 flags=slave,disconnected role-reported=slave master-host=127.0.0.1"), True, True),
    ],
)
def test_replicas(entry: list[bytes], down: bool, known: bool) -> None:
    (follower,) = read(ASKED, ["alpha"], [MYID, MASTER, ADDRESS, [entry], []], {}).masters["alpha"].followers
    assert (follower.down, follower.known) == (down, known)


@pytest.mark.parametrize(
    ("about", "address", "node", "epoch", "step"),
    [
        (MASTER, ADDRESS, PRIMARY, 0, ""),
        (PROMOTING, ADDRESS, PRIMARY, 0, "wait_promotion"),
        # The leader's MASTER names the old primary until the replicas are told too; the other command does not.
        (PROMOTED, [b"127.0.0.1", b"37993"], Node("127.0.0.1", 37993), 1, "reconf_slaves"),
        (MASTER, [b"Redis-1.Example", b"45395"], Node("redis-1.example", 45395), 0, ""),
        (MASTER, [b"::1", b"45395"], Node("::1", 45395), 0, ""),
    ],
)
def test_the_primary(about: list[bytes], address: list[bytes], node: Node, epoch: int, step: str) -> None:
    seen = read(ASKED, ["alpha"], [MYID, about, address, [], []], {}).masters["alpha"]
    assert (seen.node, seen.epoch, seen.step) == (node, epoch, step)


def test_a_master_without_an_address_is_unknown() -> None:
    assert read(ASKED, ["alpha"], [MYID, MASTER, None, [], []], {}).masters == {}


@pytest.mark.parametrize(
    "address", [[b"", b"6379"], [b"127.0.0.1", b"0"], [b"127.0.0.1", b"x"], [b"127.0.0.1"], 5, "²".encode()]
)
def test_an_odd_address_leaves_the_one_among_the_master_s_fields(address: object) -> None:
    report = read(ASKED, ["alpha"], [MYID, MASTER, address, [], []], {})
    assert report.masters["alpha"].node == PRIMARY
    assert report.odd == ("SENTINEL GET-MASTER-ADDR-BY-NAME alpha: it is no address",)


def test_replicas_without_an_address_are_left_out() -> None:
    entry = flat("name=x ip= port=0 flags=slave role-reported=slave master-host=127.0.0.1")
    assert read(ASKED, ["alpha"], [MYID, MASTER, ADDRESS, [entry], []], {}).masters["alpha"].followers == ()


def test_addresses_are_those_at_which_the_proxy_reaches_the_servers() -> None:
    remap = {"127.0.0.1:45395": "203.0.113.1:7000", "127.0.0.1:53925": "203.0.113.2:7000", "127.0.0.1": "203.0.113.9"}
    seen = read(ASKED, ["alpha"], [MYID, MASTER, ADDRESS, [GOOD_REPLICA], [PEER]], remap).masters["alpha"]
    assert seen.node == Node("203.0.113.1", 7000)
    assert [follower.node for follower in seen.followers] == [Node("203.0.113.2", 7000)]
    assert list(seen.peers.values()) == [Node("203.0.113.9", 51327)]


def test_an_old_sentinel() -> None:
    """Before Redis 5 replicas are SLAVES only, before 6.2 a sentinel does not say its id."""
    unknown = hiredis.ReplyError("ERR Unknown sentinel subcommand 'MYID'")
    assert is_old([unknown, MASTER, ADDRESS, UNKNOWN_SUBCOMMAND, [PEER]])
    assert not is_old([MYID, *NOBODY])
    assert not is_old([unknown, MASTER, ADDRESS, [GOOD_REPLICA], [PEER]])
    assert read(ASKED, ["alpha"], [unknown, MASTER, ADDRESS, [], [PEER]], {}).id == "127.0.0.1:26379"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("NOAUTH Authentication required.", "set sentinel.password"),
        ("NOPERM this user has no permissions to run the 'sentinel|master' command", "may not ask it: NOPERM"),
        (
            "ERR unknown command 'SENTINEL', with args beginning with: 'MYID' ",
            "not a sentinel: name the sentinels' own",
        ),
    ],
)
def test_who_can_not_be_asked(error: str, words: str) -> None:
    with pytest.raises(NoSentinel, match=words):
        read(ASKED, ["alpha"], [hiredis.ReplyError(error)] * 5, {})


@pytest.mark.parametrize(
    ("channel", "message", "master"),
    [
        ("+switch-master", "alpha 127.0.0.1 45395 127.0.0.1 37993", "alpha"),
        ("+sdown", "master beta 127.0.0.1 59667", "beta"),
        ("+odown", "master beta 127.0.0.1 59667 #quorum 2/2", "beta"),
        ("+sdown", "slave 127.0.0.1:59667 127.0.0.1 59667 @ beta 127.0.0.1 48435", "beta"),
        ("+slave", "slave 127.0.0.1:53925 127.0.0.1 53925 @ alpha 127.0.0.1 37993", "alpha"),
        (
            "-role-change",
            "slave 127.0.0.1:45395 127.0.0.1 45395 @ alpha 127.0.0.1 37993 new reported role is master",
            "alpha",
        ),
        (
            "+config-update-from",
            "sentinel 64e82d87d50de356283dc86cdd20dee4e583785e 127.0.0.1 54309 @ alpha 127.0.0.1 45395",
            "alpha",
        ),
        ("+new-epoch", "1", ""),
        ("+vote-for-leader", "64e82d87d50de356283dc86cdd20dee4e583785e 1", ""),
        ("+tilt", "#tilt mode entered", ""),
        ("+switch-master", "", ""),
        ("+sdown", "slave x @", ""),
    ],
)
def test_events(channel: str, message: str, master: str) -> None:
    assert read_event(channel.encode(), message.encode()) == SentinelEvent(channel, master)


@pytest.mark.parametrize(
    ("channel", "begins", "aborts"),
    [
        ("+try-failover", False, False),
        ("+selected-slave", True, False),
        ("+failover-state-send-slaveof-noone", True, False),
        ("+failover-state-wait-promotion", True, False),
        ("+promoted-slave", False, False),
        ("-failover-abort-no-good-slave", False, True),
        ("-failover-abort-slave-timeout", False, True),
    ],
)
def test_the_course_of_a_failover(channel: str, begins: bool, aborts: bool) -> None:
    event = SentinelEvent(channel, "alpha")
    assert (event.begins, event.aborts) == (begins, aborts)


def test_one_odd_part_of_an_answer() -> None:
    """It is passed over: what is whole comes out as it was, and other masters are as they were."""
    whole: list[object] = [MASTER, ADDRESS, [GOOD_REPLICA, SECOND_REPLICA, DEAD_REPLICA], [PEER]]
    other = [PROMOTED, ADDRESS, [GOOD_REPLICA], [PEER]]
    reference = read(ASKED, ["alpha", "beta"], [MYID, *whole, *other], {})
    for seed in range(400):
        rng = Random(seed)
        broken = [*whole]
        at = rng.randrange(len(broken))
        broken[at] = damaged(rng, broken[at])
        found = read(ASKED, ["alpha", "beta"], [MYID, *broken, *other], {})
        assert found.masters["beta"] == reference.masters["beta"]
        if at > 0 and broken[1] is not None:
            before, after = reference.masters["alpha"], found.masters["alpha"]
            assert (after.node, after.epoch) == (before.node, before.epoch) or at == 1
            listed = broken[2] if isinstance(broken[2], list) else []
            for follower, entry in zip(before.followers, whole[2], strict=True):  # type: ignore[call-overload]
                assert follower in after.followers or entry not in listed
            assert after.peers == before.peers or at == 3


def test_numbers_that_are_none() -> None:
    odd = [*MASTER]
    odd[odd.index(b"config-epoch") + 1] = "²".encode()
    found = read(ASKED, ["alpha"], [b"\xff", odd, ADDRESS, [], []], {})
    assert found.masters == {}
    assert found.odd == ("SENTINEL MASTER alpha: it has no address, or no config-epoch",)
