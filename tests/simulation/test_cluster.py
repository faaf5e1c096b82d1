"""Redirections and refusals, one by one: what goes where, in which order, and what the client hears."""

import asyncio

import pytest

from proxy.sharding.slots import key_slot
from tests.simulation.cluster_stage import RETRY_DEADLINE, SLOT, StagedCluster, play, staged
from tests.support.simulated_node import Group

AGAIN = "TRYAGAIN Multiple keys request during rehashing of slot"


def value(stage: StagedCluster, key: str) -> bytes | None:
    """What is kept under a key in the end."""
    return stage.cluster.value(key.encode())


def key_in(stage: StagedCluster, group: Group) -> str:
    """A key of another slot of ``group``."""
    numbers = (n for n in range(1000) if stage.cluster.truth.owners[key_slot(b"o%d" % n)] is group)
    return f"o{next(numbers)}"


def test_moved_is_followed_at_once() -> None:
    async def scene() -> None:
        async with staged() as stage:
            stage.give(stage.groups[1])
            client = stage.client()
            client.say("SET {t}k 1", "GET {t}k")
            await asyncio.sleep(0.01)
            assert client.heard == [b"OK", b"1"]
            first, second = f"A: SET {{t}}k 1 > -MOVED {SLOT} B", f"A: GET {{t}}k > -MOVED {SLOT} B"
            assert stage.seen == [first, second, "B: SET {t}k 1 > +OK", "B: GET {t}k > $1"]
            assert stage.source.hints > 0
            stage.seen.clear()
            stage.look(stage.groups[1].primary)
            client.say("GET {t}k")
            await asyncio.sleep(0.01)
            assert stage.seen == ["B: GET {t}k > $1"]

    play(scene())


def test_ask_is_followed_with_asking_and_for_this_once() -> None:
    async def scene() -> None:
        async with staged() as stage:
            stage.groups[0].data[b"{t}here"] = b"x"
            stage.begin_to_move(stage.groups[1])
            client, other = stage.client(), stage.client()
            client.say("SET {t}new 1")
            other.say("SET {t}other 2", "APPEND {t}other 3")
            await asyncio.sleep(0.01)
            assert (client.heard, other.heard) == ([b"OK"], [b"OK", 2])
            ask = f"-ASK {SLOT} B"
            assert sorted(stage.seen) == sorted(
                [
                    f"A: SET {{t}}new 1 > {ask}",
                    f"A: SET {{t}}other 2 > {ask}",
                    f"A: APPEND {{t}}other 3 > {ask}",
                    "B: ASKING SET {t}new 1 > +OK",
                    "B: ASKING SET {t}other 2 > +OK",
                    "B: ASKING APPEND {t}other 3 > :2",
                ]
            )
            stage.seen.clear()
            client.say("GET {t}here", "GET {t}new")
            await asyncio.sleep(0.01)
            assert client.heard[1:] == [b"x", b"1"]
            assert stage.seen == ["A: GET {t}here > $1", f"A: GET {{t}}new > {ask}", "B: ASKING GET {t}new > $1"]

    play(scene())


def test_an_overtaken_command_of_several_keys_is_not_sent_again() -> None:
    """PRODUCT.md, section 4, and the issue: MSET {t}1 {t}2, SET {t}1 gets TRYAGAIN, OK."""

    async def scene() -> None:
        async with staged() as stage:
            stage.groups[0].data.update({b"{t}1": b"", b"{t}2": b""})
            stage.begin_to_move(stage.groups[1], "{t}2")
            client = stage.client()
            client.say("MSET {t}1 old {t}2 old", "SET {t}1 new")
            await asyncio.sleep(0.1)
            stage.give(stage.groups[1])
            await asyncio.sleep(1.0)
            assert client.heard == [AGAIN, b"OK"]
            assert (value(stage, "{t}1"), value(stage, "{t}2")) == (b"new", b"")

    play(scene())


def test_a_transaction_waits_for_its_keys_to_be_together() -> None:
    async def scene() -> None:
        async with staged() as stage:
            stage.groups[0].data.update({b"{t}1": b"", b"{t}2": b""})
            stage.begin_to_move(stage.groups[1], "{t}2")
            client = stage.client()
            client.say("MULTI", "MSET {t}1 a {t}2 b", "EXEC")
            await asyncio.sleep(0.3)
            assert client.heard == [b"OK", b"QUEUED"]
            assert value(stage, "{t}1") == b""
            stage.give(stage.groups[1])
            await asyncio.sleep(0.3)
            assert client.heard[2:] == [[b"OK"]]
            assert (value(stage, "{t}1"), value(stage, "{t}2")) == (b"a", b"b")
            # It is not asked in a tight circle: three commands each time.
            assert len(stage.seen) < 3 * 15

    play(scene())


@pytest.mark.parametrize("gone", ["{t}1", "{t}2"])
def test_a_part_whose_keys_are_apart_is_split_by_key(gone: str) -> None:
    async def scene() -> None:
        async with staged() as stage:
            other = key_in(stage, stage.groups[1])
            stage.groups[0].data.update({b"{t}1": b"a", b"{t}2": b"b"})
            stage.begin_to_move(stage.groups[1], gone)
            client = stage.client()
            client.say(f"MGET {{t}}1 {other} {{t}}2")
            await asyncio.sleep(0.3)
            assert client.heard == [[b"a", None, b"b"]]
            client.say(f"MSET {{t}}1 c {other} x {{t}}2 d")
            await asyncio.sleep(0.3)
            assert client.heard[1:] == [b"OK"]
            assert (value(stage, "{t}1"), value(stage, "{t}2"), value(stage, other)) == (b"c", b"d", b"x")

    play(scene())


@pytest.mark.parametrize("gone", [("{t}1",), ("{t}2",), ("{t}1", "{t}3")])
def test_a_command_whose_keys_are_all_in_one_slot_that_is_on_its_way(gone: tuple[str, ...]) -> None:
    """It is split by key as the parts of others are, one behind the other of its client's."""

    async def scene() -> None:
        async with staged() as stage:
            stage.groups[0].data.update({b"{t}1": b"a", b"{t}2": b"b", b"{t}3": b"c"})
            stage.begin_to_move(stage.groups[1], *gone)
            client = stage.client()
            client.say("MGET {t}3 {t}nobody {t}1 {t}2 {t}3")
            await asyncio.sleep(0.2)
            assert client.heard == [[b"c", None, b"a", b"b", b"c"]]
            client.say("EXISTS {t}1 {t}2 {t}3", "MSET {t}1 d {t}2 e {t}3 f")
            await asyncio.sleep(0.2)
            assert client.heard[1:] == [3, b"OK"]
            assert [value(stage, key) for key in ("{t}1", "{t}2", "{t}3")] == [b"d", b"e", b"f"]
            client.say("DEL {t}1 {t}2")
            await asyncio.sleep(0.2)
            assert client.heard[3:] == [2]
            client.say("GET {t}1", "GET {t}2", "GET {t}3")
            await asyncio.sleep(0.2)
            assert client.heard[4:] == [None, None, b"f"]

    play(scene())


def test_what_must_not_be_split_waits_for_its_keys_to_be_together() -> None:
    async def scene() -> None:
        async with staged(cross_slot="reject") as stage:
            stage.groups[0].data.update({b"{t}1": b"a", b"{t}2": b"b"})
            stage.begin_to_move(stage.groups[1], "{t}2")
            client = stage.client()
            client.say("MGET {t}1 {t}2")
            await asyncio.sleep(0.3)
            assert client.heard == []
            stage.give(stage.groups[1])
            await asyncio.sleep(0.3)
            assert client.heard == [[b"a", b"b"]]

    play(scene())


def test_what_is_said_after_a_refusal_waits_its_turn() -> None:
    """The server would take it before the refused one is sent again."""

    async def scene() -> None:
        async with staged() as stage:
            primary = stage.groups[0].primary
            client = stage.client()
            primary.unsure = True
            client.say("SET {t}k 1")
            await asyncio.sleep(0.001)
            assert stage.seen == ["A: SET {t}k 1 > -CLUSTERDOWN The cluster is down"]
            primary.unsure = False
            client.say("SET {t}k 2", "APPEND {t}k 3")
            await asyncio.sleep(0.5)
            assert client.heard == [b"OK", b"OK", 2]
            assert value(stage, "{t}k") == b"23"
            assert stage.seen[1:] == ["A: SET {t}k 1 > +OK", "A: SET {t}k 2 > +OK", "A: APPEND {t}k 3 > :2"]

    play(scene())


def test_a_refused_client_waits_for_what_is_in_flight_too() -> None:
    """What it says while other requests of its own are still unanswered would run before the refused one."""

    async def scene() -> None:
        async with staged() as stage:
            primary = stage.groups[0].primary
            elsewhere = key_in(stage, stage.groups[0])
            client = stage.client()
            primary.slow = 0.01
            primary.unsure = True
            client.say("SET {t}k 1", f"GET {elsewhere}")
            await asyncio.sleep(0.015)
            primary.unsure = False
            client.say("APPEND {t}k 2")
            await asyncio.sleep(0.5)
            assert client.heard == [b"OK", None, 2]
            assert value(stage, "{t}k") == b"12"

    play(scene())


def test_slots_that_are_nobodys_yet() -> None:
    """The proxy has started and knows nothing: what comes is kept, in order, and what comes too early and waits too
    long is an error that says why."""

    async def scene() -> None:
        async with staged(known=False) as stage:
            client, early = stage.client(), stage.client()
            early.say("SET {t}e 1")
            await asyncio.sleep(RETRY_DEADLINE * 0.6)
            client.say("SET {t}k 1", "PING")
            await asyncio.sleep(RETRY_DEADLINE * 0.3)
            client.say("APPEND {t}k 2")
            assert stage.source.hints > 0
            await asyncio.sleep(RETRY_DEADLINE * 0.3)
            assert str(early.heard).startswith("['CLUSTERDOWN Hash slot not served: no node of the cluster")
            stage.look(stage.groups[0].primary)
            await asyncio.sleep(0.5)
            assert client.heard == [b"OK", b"PONG", 2]
            assert value(stage, "{t}k") == b"12"

    play(scene())


def test_one_client_does_not_stop_others() -> None:
    async def scene() -> None:
        async with staged() as stage:
            client, other = stage.client(), stage.client()
            stage.groups[0].data.update({b"{t}1": b"", b"{t}2": b""})
            stage.begin_to_move(stage.groups[1], "{t}2")
            client.say("MSET {t}1 a {t}2 b")
            await asyncio.sleep(0.001)
            other.say("SET {t}1 x", "GET {t}1", "GET {t}2")
            await asyncio.sleep(0.001)
            assert (client.heard, other.heard) == ([], [b"OK", b"x", b""])

    play(scene())


def test_clients_of_one_connection_keep_each_their_order() -> None:
    """The second one goes on while the first one is refused, and is refused itself in the middle of what it says."""

    async def scene() -> None:
        async with staged() as stage:
            old, new = (group.primary for group in stage.groups)
            client, other = stage.client(), stage.client()
            old.slow = 0.01
            client.say("SET {t}c 1")
            other.say("APPEND {t}k 1")
            await asyncio.sleep(0.005)
            stage.give(stage.groups[1])
            new.unsure = True
            await asyncio.sleep(0.010)
            assert stage.seen == [
                f"A: SET {{t}}c 1 > -MOVED {SLOT} B",
                "B: SET {t}c 1 > -CLUSTERDOWN The cluster is down",
            ]
            other.say("APPEND {t}k 2")
            await asyncio.sleep(0.008)
            # What it said first has been refused, what it says now will be: both are on their way.
            new.unsure = False
            await asyncio.sleep(0.5)
            assert (client.heard, other.heard) == ([b"OK"], [1, 2])
            assert value(stage, "{t}k") == b"12"

    play(scene())


def test_a_large_request_on_its_way_in_does_not_overtake() -> None:
    async def scene() -> None:
        async with staged() as stage:
            primary = stage.groups[0].primary
            large = b"x" * 300_000
            client = stage.client()
            primary.unsure = True
            primary.slow = 0.01
            whole = b"*3\r\n$3\r\nSET\r\n$4\r\n{t}k\r\n$%d\r\n%b\r\n" % (len(large), large)
            client.say("GET {t}k")
            client.wire.send(whole[:200_000])
            await asyncio.sleep(0.015)
            assert stage.seen == ["A: GET {t}k > -CLUSTERDOWN The cluster is down"]
            primary.unsure = False
            client.wire.send(whole[200_000:])
            await asyncio.sleep(0.5)
            assert client.heard == [None, b"OK"]
            assert value(stage, "{t}k") == large

    play(scene())


def test_a_read_of_no_key_does_not_make_a_refused_write_an_error() -> None:
    async def scene() -> None:
        async with staged() as stage:
            stage.give(stage.groups[1])
            client = stage.client()
            client.say("SET {t}k 1", "DBSIZE", "SET {t}k 2")
            await asyncio.sleep(0.1)
            assert client.heard[::2] == [b"OK", b"OK"]
            assert value(stage, "{t}k") == b"2"

    play(scene())


def test_a_cluster_that_is_down_for_good_is_an_error_that_says_so() -> None:
    async def scene() -> None:
        async with staged() as stage:
            stage.groups[0].primary.unsure = True
            client = stage.client()
            client.say("SET {t}k 1", "PING")
            await asyncio.sleep(RETRY_DEADLINE * 0.9)
            assert client.heard == []
            await asyncio.sleep(RETRY_DEADLINE * 0.4)
            assert client.heard == ["CLUSTERDOWN The cluster is down", b"PONG"]
            assert value(stage, "{t}k") is None

    play(scene())


def test_nodes_that_send_on_to_each_other_for_ever() -> None:
    async def scene() -> None:
        async with staged() as stage:
            one, two = stage.groups
            one.primary.view.give(SLOT, two, 1)
            client = stage.client()
            client.say("SET {t}k 1", "PING")
            await asyncio.sleep(RETRY_DEADLINE * 1.5)
            assert len(client.heard) == 2
            assert str(client.heard[0]).startswith("SHARDDOWN shard 'shard-")
            assert "redirected the command" in str(client.heard[0])
            assert value(stage, "{t}k") is None
            assert len(stage.seen) < 40

    play(scene())


def test_a_planned_failover_is_a_pause() -> None:
    async def scene() -> None:
        async with staged() as stage:
            client = stage.client()
            failing_over = asyncio.ensure_future(stage.cluster.fail_over(stage.groups[0], 0.5))
            await asyncio.sleep(0.01)
            client.say("SET {t}k 1", "APPEND {t}k 2", "GET {t}k")
            await failing_over
            await asyncio.sleep(0.05)
            assert client.heard == [b"OK", 2, b"12"]
            assert stage.groups[0].primary is stage.groups[0].nodes[1]
            assert stage.seen[:1] == [f"A: SET {{t}}k 1 > -MOVED {SLOT} a"]
            assert stage.seen[-3:] == ["a: SET {t}k 1 > +OK", "a: APPEND {t}k 2 > :2", "a: GET {t}k > $2"]

    play(scene())


def test_a_new_map_sends_what_follows_behind_what_is_on_its_way() -> None:
    """The proxy learns of a new owner while a client has requests in flight to the old one."""

    async def scene() -> None:
        async with staged() as stage:
            one, two = stage.groups
            client = stage.client()
            one.primary.slow = 0.1
            client.say("SET {t}k 1", "APPEND {t}k 2")
            await asyncio.sleep(0.01)
            stage.give(two)
            stage.look(two.primary)
            client.say("APPEND {t}k 3")
            await asyncio.sleep(1.0)
            assert client.heard == [b"OK", 2, 3]
            assert value(stage, "{t}k") == b"123"

    play(scene())
