"""Subscriptions while servers fail: clients notice nothing but the messages that they missed."""

import time
from collections.abc import Iterator

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

BACKEND = '[backend]\nretry_deadline = "1s"\nrequest_timeout = "1s"\nbackoff_max = "100ms"\n'


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two servers that a test may kill, if it starts them again."""
    with start_many(2, 0, binary=binary) as shards:
        yield shards


@pytest.fixture
def proxy(shards: LocalShards, serve: Serve) -> ProxyProcess:
    return serve(config=BACKEND + "".join(f'[[shards]]\nprimary = "{server.address}"\n' for server in shards.primaries))


def heard(server: LocalServer, channel: str, listener: Wire) -> bool:
    """Whether a message published straight on a server reaches the listener."""
    server.ask("PUBLISH", channel, "again")
    return not listener.silent(0.05)


def test_a_server_that_is_killed_and_comes_back(shards: LocalShards, proxy: ProxyProcess) -> None:
    first, second = shards.primaries
    with Wire(proxy.address) as listener:
        listener.ask("SUBSCRIBE", "a")
        listener.ask("PSUBSCRIBE", "b*")
        first.kill()
        second.ask("PUBLISH", "a", "of the other")
        assert listener.reply().endswith(b"of the other\r\n")
        first.start()
        assert eventually(lambda: heard(first, "a", listener))
        assert listener.reply().startswith(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n")
        first.ask("PUBLISH", "bc", 1)
        while not (message := listener.reply()).startswith(b"*4"):
            assert message.endswith(b"again\r\n")
        assert message == b"*4\r\n$8\r\npmessage\r\n$2\r\nb*\r\n$2\r\nbc\r\n$1\r\n1\r\n"


def test_a_server_that_cuts_its_subscribers_off(shards: LocalShards, proxy: ProxyProcess) -> None:
    """As it does with one that reads too slowly."""
    first, _ = shards.primaries
    with Wire(proxy.address) as listener:
        listener.ask("SSUBSCRIBE", "a")
        for _ in range(3):
            assert first.ask("CLIENT", "KILL", "TYPE", "pubsub") == 1
            assert eventually(lambda: first.ask("PUBSUB", "SHARDNUMSUB", "a") == [b"a", 1])


def test_a_server_that_hangs(shards: LocalShards, proxy: ProxyProcess) -> None:
    first, second = shards.primaries
    with Wire(proxy.address) as listener:
        listener.ask("SUBSCRIBE", "a")
        first.pause()
        try:
            assert eventually(lambda: f'slotgate_subscriber_up{{address="{first.address}"' in proxy.http("/metrics")[1])
            assert eventually(lambda: "subscriber down" in proxy.log)
            second.ask("PUBLISH", "a", 1)
            assert listener.reply().endswith(b"\r\n1\r\n")
        finally:
            first.resume()
        assert eventually(lambda: heard(first, "a", listener))


def test_subscribing_waits_for_a_server_and_then_fails(shards: LocalShards, proxy: ProxyProcess) -> None:
    first, _ = shards.primaries
    with Wire(proxy.address) as listener, Wire(proxy.address) as other, Wire(proxy.address) as known:
        known.ask("SUBSCRIBE", "known")
        first.kill()
        listener.send(pack("SUBSCRIBE", "a") + pack("PING"))
        assert listener.silent(0.2)
        first.start()
        assert listener.replies(2)[0] == b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"

        first.kill()
        began = time.monotonic()
        refused = other.ask("SUBSCRIBE", "b", "c")
        assert time.monotonic() - began > 0.5
        assert refused.startswith(f"-SHARDDOWN shard 'shard-1' ({first.address}) can not be reached: ".encode())
        assert refused.endswith(b"The command was not executed\r\n")
        assert other.ask("PING") == b"+PONG\r\n"  # it is subscribed to nothing
        assert other.ask("SUBSCRIBE", "known").startswith(b"-SHARDDOWN")
        began = time.monotonic()
        assert other.ask("SUBSCRIBE", "d").startswith(b"-SHARDDOWN")
        assert time.monotonic() - began < 0.5  # it is known by now
        first.start()
        assert eventually(lambda: other.ask("SUBSCRIBE", "d").startswith(b"*3"))
        assert eventually(lambda: heard(first, "known", known))
        assert first.ask("PUBSUB", "NUMSUB", "b") == [b"b", 0]


def test_a_client_that_leaves_while_it_waits(shards: LocalShards, proxy: ProxyProcess) -> None:
    first, second = shards.primaries
    first.kill()
    try:
        with Wire(proxy.address) as listener:
            listener.send(pack("SUBSCRIBE", "left"))
            assert eventually(lambda: second.ask("PUBSUB", "NUMSUB", "left") == [b"left", 1])
        assert eventually(lambda: second.ask("PUBSUB", "NUMSUB", "left") == [b"left", 0])
    finally:
        first.start()


def test_a_replica_that_is_promoted(binary: ServerBinary, serve: Serve) -> None:
    """The old primary, which gets every message from the new one, is not listened to any more."""
    with start_many(1, 1, binary=binary) as running:
        (primary,), ((replica,),) = running.primaries, running.replicas
        head = '[topology]\ndiscover_replicas = true\nrefresh = "200ms"\n'
        proxy = serve(config=f'{head}[[shards]]\nprimary = "{primary.address}"\nreplicas = ["{replica.address}"]\n')
        with Wire(proxy.address) as listener, Wire(proxy.address) as publisher:
            listener.ask("SUBSCRIBE", "news")
            replica.ask("REPLICAOF", "NO", "ONE")
            primary.ask("REPLICAOF", replica.host, replica.port)
            assert eventually(lambda: replica.ask("PUBSUB", "NUMSUB", "news") == [b"news", 1])
            assert eventually(lambda: primary.ask("PUBSUB", "NUMSUB", "news") == [b"news", 0])
            primary.wait_link_up()
            for number in range(100):
                assert publisher.value("PUBLISH", "news", number) == 1
                assert listener.reply().endswith(b"\r\n%d\r\n" % number)
            assert listener.silent(0.1)


def test_a_replica_that_is_promoted_while_another_shard_is_down(binary: ServerBinary, serve: Serve) -> None:
    """What the one shard says comes once, though the subscription does not stand on the other."""
    with start_many(2, 1, binary=binary) as running:
        primary, other = running.primaries
        ((replica,), (others,)) = running.replicas
        head = BACKEND + '[topology]\ndiscover_replicas = true\nrefresh = "200ms"\n'
        proxy = serve(
            config=head
            + f'[[shards]]\nprimary = "{primary.address}"\nreplicas = ["{replica.address}"]\n'
            + f'[[shards]]\nprimary = "{other.address}"\nreplicas = ["{others.address}"]\n'
        )
        with Wire(proxy.address) as listener:
            listener.ask("SUBSCRIBE", "news")
            other.kill()
            replica.ask("REPLICAOF", "NO", "ONE")
            primary.ask("REPLICAOF", replica.host, replica.port)
            assert eventually(lambda: replica.ask("PUBSUB", "NUMSUB", "news") == [b"news", 1])
            primary.wait_link_up()
            assert eventually(lambda: primary.ask("PUBSUB", "NUMSUB", "news") == [b"news", 0])
            replica.ask("PUBLISH", "news", 1)
            assert listener.reply().endswith(b"\r\n1\r\n")
            assert listener.silent(0.1)


def test_what_a_server_does_not_allow(shards: LocalShards, proxy: ProxyProcess) -> None:
    """Its word is passed on to who asked; others, whose names were asked for together, get what they may."""
    first, _ = shards.primaries
    with Wire(proxy.address) as listener, Wire(proxy.address) as other, Wire(proxy.address) as third:
        first.ask("ACL", "SETUSER", "default", "resetchannels", "&good*")
        try:
            assert other.ask("SUBSCRIBE", "good", "bad").startswith(b"-NOPERM ")
            assert other.ask("PING") == b"+PONG\r\n"
            listener.send(pack("SUBSCRIBE", "bad"))
            third.send(pack("SUBSCRIBE", "good"))
            assert listener.reply().startswith(b"-NOPERM")
            assert third.reply() == b"*3\r\n$9\r\nsubscribe\r\n$4\r\ngood\r\n:1\r\n"
        finally:
            first.ask("ACL", "SETUSER", "default", "allchannels")
        assert first.ask("PUBSUB", "CHANNELS") == [b"good"]
        assert heard(first, "good", third)
