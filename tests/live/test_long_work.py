"""What takes long for one client or one server holds up nobody: no turn of the loop takes long, and order stands.

``tests/live/stimuli.py`` has the stimuli; ``python -m tests.live.turns`` prints the table of what each takes.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.compiled import engine
from proxy.devservers.cluster import ClusterNode
from tests.live.patient_site import PatientSite, standing
from tests.live.stimuli import STIMULI
from tests.live.turns import long_turns
from tests.support.binaries import FULL
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Argument, Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

HEAVY = (
    "array_of_5_000_000",
    "hgetall_of_1_000_000",
    "monitor_of_500_and_1_000_commands",
    "publish_over_slow_patterns",
    "ping_of_16_mb",
)
"""Bound by others' work (a client's share of a turn), or slow to prepare."""
SLOW = (
    "disconnect_with_100_000_subscriptions",
    "expired_50_000",
    "hello_with_100_000_subscriptions",
    "pubsub_channels_of_100_000",
    "pubsub_numsub_of_100_000",
    "publish_over_5_000_patterns",
    "reader_behind_2_000_000_replies",
    "reset_of_100_000_subscriptions",
    "scan_of_1_000_000",
    "subscription_lost_with_20_000_channels",
)
"""For the drills: they take 4 to 10 s each."""
PLAIN = ("SUBSCRIBE of 20,000 channels", "first_publish_after_5_000_patterns", "DEL of 100,000 keys")


@pytest.fixture(scope="module")
def patient_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PatientSite]:
    """Three shards and a proxy as operators run it."""
    with standing(find(FULL[0]), tmp_path_factory.mktemp("long")) as found:
        yield found


def lag_of(proxy: ProxyProcess) -> float:
    """Turns of more than 100 ms of CPU until now."""
    return long_turns(proxy.http("/metrics")[1])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.drill) if name in SLOW else name for name in STIMULI if name not in HEAVY],
)
def test_no_turn_takes_long(patient_site: PatientSite, name: str) -> None:
    if engine() == "python" and name not in PLAIN:
        pytest.skip("only some on the plain engine, whose steps take longer")
    for server in patient_site.shards.primaries:
        server.ask("FLUSHALL", timeout=30)
    with STIMULI[name](patient_site) as run:
        # What was before has no part in it.
        time.sleep(0.1)
        before = lag_of(patient_site.proxy)
        run()
        assert lag_of(patient_site.proxy) == before, [
            line for line in patient_site.proxy.log.splitlines() if "the loop was held up" in line
        ][-1:]


def test_the_log_says_what_held_the_loop_up(patient_site: PatientSite) -> None:
    """A process that is stopped for a while is the simplest way to be late."""
    with patient_site.client() as wire:
        wire.ask("PING")
        os.kill(patient_site.proxy.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(patient_site.proxy.pid, signal.SIGCONT)
        wire.ask("PING")
    assert eventually(
        lambda: 'slotgate_loop_long_turns_total{cause="stall"} 0.0' not in patient_site.proxy.http("/metrics")[1]
    )
    text = patient_site.proxy.http("/metrics")[1]
    assert "slotgate_loop_lag_seconds_bucket" in text
    assert 'slotgate_loop_worst_seconds{of="lag",worker="0"}' in text


# ---- the order of what is said stands, however long it takes


def test_messages_come_behind_the_confirmations_of_all_that_was_subscribed_to(site: Site) -> None:
    names = [f"many:{number}" for number in range(8000)]
    stop = threading.Event()

    def publish() -> None:
        with site.client() as other:
            while not stop.is_set():
                other.ask("PUBLISH", names[0], "first")
                other.ask("PUBLISH", names[-1], "last")

    thread = threading.Thread(target=publish)
    with site.client() as wire:
        thread.start()
        try:
            wire.send(pack("SUBSCRIBE", *names) + pack("PING"))
            replies = [decode(reply) for reply in wire.replies(len(names))]
            assert replies == [[b"subscribe", name.encode(), at + 1] for at, name in enumerate(names)]
            rest = [decode(reply) for reply in wire.replies(50)]
            assert [b"pong", b""] in rest
            assert {reply[0] for reply in rest if isinstance(reply, list)} == {b"message", b"pong"}
            assert wire.value("UNSUBSCRIBE", "none") != 0
        finally:
            stop.set()
            thread.join()


def test_reset_ends_very_many_subscriptions_before_it_answers(site: Site) -> None:
    names = [f"many:{number}" for number in range(5000)]
    with site.client() as wire, site.client() as other:
        wire.send(pack("SUBSCRIBE", *names))
        wire.replies(len(names))
        wire.send(pipeline(("RESET",), ("GET", "k"), ("PUBSUB", "NUMSUB", names[0], names[-1])))
        assert wire.reply() == b"+RESET\r\n"
        assert wire.reply() == b"$-1\r\n"
        assert decode(wire.reply()) == [names[0].encode(), 0, names[-1].encode(), 0]
        assert other.ask("PUBLISH", names[1], "m") == b":0\r\n"
        assert wire.ask("PING") == b"+PONG\r\n"


def test_unsubscribing_from_very_many_is_confirmed_one_by_one(site: Site) -> None:
    names = [f"many:{number}" for number in range(5000)]
    with site.client() as wire, site.client() as other:
        wire.send(pack("SUBSCRIBE", *names))
        wire.replies(len(names))
        wire.send(pack("UNSUBSCRIBE") + pack("PUBLISH", names[7], "m"))
        told = [decode(reply) for reply in wire.replies(len(names))]
        assert [reply[2] for reply in told if isinstance(reply, list)] == list(range(len(names) - 1, -1, -1))
        assert wire.reply() == b":0\r\n"
        assert decode(other.ask("PUBSUB", "NUMSUB", names[0])) == [names[0].encode(), 0]


def test_who_disconnects_in_the_middle_leaves_nothing_behind(site: Site) -> None:
    names = [f"many:{number}" for number in range(20_000)]
    with site.client() as other:
        for _ in range(3):
            wire = Wire(site.proxy.address)
            wire.send(pack("SUBSCRIBE", *names))
            time.sleep(0.02)
            wire.close()
        assert eventually(
            lambda: (
                decode(other.ask("PUBSUB", "CHANNELS", "many:*")) == []
                and 'slotgate_subscriptions{kind="channel",worker="0"} 0.0' in site.proxy.http("/metrics")[1]
            )
        )
        assert other.ask("PUBLISH", names[0], "m") == b":0\r\n"


def test_a_second_subscriber_of_the_same_and_one_that_changes_its_mind(site: Site) -> None:
    names = [f"many:{number}" for number in range(3000)]
    with site.client() as one, site.client() as two, site.client() as other:
        for wire in (one, two):
            wire.send(pack("SUBSCRIBE", *names))
        for wire in (one, two):
            assert len(wire.replies(len(names))) == len(names)
        one.send(pack("UNSUBSCRIBE") + pack("SUBSCRIBE", *names[:10]))
        one.replies(len(names) + 10)
        assert other.ask("PUBLISH", names[0], "m") == b":2\r\n"
        assert other.ask("PUBLISH", names[-1], "m") == b":1\r\n"


def test_a_publish_counts_very_many_patterns(site: Site) -> None:
    with site.client() as wire, site.client() as other, site.direct() as plain, site.direct() as there:
        patterns = [f"*{number % 10}*{number}*" for number in range(3000)]
        for listener in (wire, plain):
            listener.send(pack("PSUBSCRIBE", *patterns))
            listener.replies(len(patterns))
        channels = [f"c{number}" for number in (0, 7, 1234, 99_999, 123_456_789)]
        other.send(pipeline(*[("PUBLISH", channel, "m") for channel in channels], ("PING",)))
        there.send(pipeline(*[("PUBLISH", channel, "m") for channel in channels], ("PING",)))
        assert other.replies(6) == there.replies(6)


LONG = 30_000


@pytest.mark.parametrize("protocol", [2, 3])
def test_very_many_keys_are_answered_as_by_one_server(site: Site, protocol: int) -> None:
    keys = [f"key:{number}" for number in range(LONG)]
    commands: list[tuple[Argument, ...]] = [
        ("SET", "before", "1"),
        ("MSET", *[word for key in keys[::2] for word in (key, "v" + key)]),
        ("MGET", *keys),
        ("EXISTS", *keys),
        ("TOUCH", *keys[:2000]),
        ("DEL", *keys[: LONG // 2]),
        ("EXISTS", *keys),
        ("MGET", *keys[-3000:]),
        ("UNLINK", *keys),
        ("DEL", *keys),
        ("GET", "before"),
        ("MSET", *keys[:2001]),
        ("SADD", "set", *keys),
        ("SCARD", "set"),
        ("SISMEMBER", "set", keys[-1]),
        ("PING",),
    ]
    with site.client(protocol) as wire, site.direct(protocol) as plain:
        for end in (wire, plain):
            threading.Thread(target=end.send, args=(pipeline(*commands),)).start()
        assert wire.replies(len(commands)) == plain.replies(len(commands))


def test_very_many_keys_in_a_transaction_and_in_scripts(site: Site) -> None:
    keys = [f"{{tag}}{number}" for number in range(LONG)]
    commands: list[tuple[Argument, ...]] = [
        ("MULTI",),
        ("MSET", *[word for key in keys for word in (key, "v")]),
        ("EXISTS", *keys),
        ("DEL", *keys[::3]),
        ("MGET", *keys[:10]),
        ("EXEC",),
        ("EVAL", "return {#KEYS, KEYS[#KEYS], #ARGV}", len(keys), *keys, "x"),
        ("DEL", *keys),
    ]
    with site.client() as wire, site.direct() as plain:
        for end in (wire, plain):
            threading.Thread(target=end.send, args=(pipeline(*commands),)).start()
        assert wire.replies(len(commands)) == plain.replies(len(commands))


def test_a_long_request_waits_for_a_pause_and_for_what_it_must_not_overtake(site: Site) -> None:
    keys = [f"key:{number}" for number in range(LONG)]
    with site.client() as wire, site.client() as other:
        assert other.ask("CLIENT", "PAUSE", 600, "WRITE") == b"+OK\r\n"
        began = time.monotonic()
        threading.Thread(
            target=wire.send,
            args=(pipeline(("SADD", "set", *keys), ("DEL", *keys), ("SCARD", "set"), ("PING",)),),
        ).start()
        assert wire.replies(4) == [b":%d\r\n" % LONG, b":0\r\n", b":%d\r\n" % LONG, b"+PONG\r\n"]
        assert time.monotonic() - began > 0.3
        # What subscribes must not overtake what is in flight: it is taken back, and comes again.
        names = [f"c:{number}" for number in range(4000)]
        wire.send(pipeline(("SET", "k", "v"), ("SUBSCRIBE", *names)))
        assert wire.reply() == b"+OK\r\n"
        assert len(wire.replies(len(names))) == len(names)


def test_a_client_that_sends_no_more_is_answered_its_long_request(site: Site) -> None:
    keys = [f"key:{number}" for number in range(LONG)]
    with site.client() as wire:
        wire.send(pack("MGET", *keys) + pack("CLIENT", "LIST"))
        wire.socket.shutdown(socket.SHUT_WR)
        found = decode(wire.reply())
        assert isinstance(found, list)
        assert len(found) == LONG
        assert b"id=" in wire.reply()


def test_others_are_answered_while_one_takes_long(site: Site) -> None:
    """The whole work of the long ones is far longer than any wait of the other client."""
    keys = [f"key:{number}" for number in range(300_000)]
    waits: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with site.client() as other:
            while not over.is_set():
                began = time.monotonic()
                other.ask("PING")
                waits.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    with site.client() as wire:
        frames = [pack("DEL", *keys), pack("MGET", *keys), pack("SUBSCRIBE", *keys[:20_000])]
        thread.start()
        try:
            for frame in frames:
                sender = threading.Thread(target=wire.send, args=(frame,))
                sender.start()
                wire.reply()
                sender.join()
            wire.replies(19_999)
        finally:
            over.set()
            thread.join()
    assert len(waits) > 100
    assert sorted(waits)[len(waits) // 2] < 0.1


def test_a_pipeline_of_long_commands_about_clients_keeps_its_order(site: Site) -> None:
    with site.client() as wire:
        others = [site.client() for _ in range(200)]
        for other in others:
            other.ask("PING")
        wire.send(
            pipeline(
                ("SET", "k", "1"), ("CLIENT", "LIST"), ("GET", "k"), ("CLIENT", "KILL", "TYPE", "normal"), ("GET", "k")
            )
        )
        ok, listed, one, killed, still = wire.replies(5)
        assert (ok, one, still) == (b"+OK\r\n", b"$1\r\n1\r\n", b"$1\r\n1\r\n")
        assert listed.count(b"id=") == 201
        assert killed == b":200\r\n"
        for other in others:
            other.close()


def test_exec_with_long_commands_of_the_proxys_own(site: Site) -> None:
    with site.client() as wire:
        names = [f"c:{number}" for number in range(3000)]
        wire.send(
            pipeline(
                ("MULTI",),
                ("SET", "k", "1"),
                ("CLIENT", "LIST"),
                ("SUBSCRIBE", *names),
                ("INCR", "k"),
                ("EXEC",),
                ("PING",),
            )
        )
        assert wire.replies(5) == [b"+OK\r\n", *[b"+QUEUED\r\n"] * 4]
        data = wire.replies(1)[0]
        assert data.startswith(b"*4\r\n+OK\r\n")


@pytest.mark.drill
def test_a_map_of_very_many_ranges(serve: Serve, tmp_path: Path) -> None:
    """Two nodes that have every other slot each: no turn takes long while the map is learned, or learned anew."""
    nodes = [ClusterNode(find(FULL[0]), tmp_path) for _ in range(2)]
    try:
        for index, node in enumerate(nodes):
            node.start()
            slots = list(range(index, 16384, 2))
            for at in range(0, len(slots), 1024):
                node.ask("CLUSTER", "ADDSLOTS", *slots[at : at + 1024])
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        nodes[0].ask("CLUSTER", "MEET", nodes[1].host, nodes[1].port, nodes[1].bus_port)
        assert eventually(lambda: all(node.state_ok() for node in nodes), 30)
        proxy = serve("--cluster", nodes[0].address)
        before = lag_of(proxy)
        with Wire(proxy.address) as wire:
            assert wire.ask("SET", "k", "v") == b"+OK\r\n"
            assert wire.ask("DEL", *[f"key:{number}" for number in range(100_000)]) == b":0\r\n"
            # A slot moves: the map differs in a little.
            identity = nodes[1].ask("CLUSTER", "MYID")
            assert isinstance(identity, bytes)
            for node in nodes:
                node.ask("CLUSTER", "SETSLOT", 0, "NODE", identity)
            assert eventually(lambda: "slots moved slots=0 " in proxy.log, 30)
            assert wire.ask("GET", "k") == b"$1\r\nv\r\n"
        assert lag_of(proxy) == before
        assert "the loop was held up" not in proxy.log or "cpu=0.0" in proxy.log
    finally:
        for node in nodes:
            node.stop()
