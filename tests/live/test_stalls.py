"""A stall of the proxy itself (SIGSTOP stands for it): what was answered meanwhile is heard, and nobody is blamed."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from proxy.devservers.cluster import start_cluster
from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.proxy_process import ProxyProcess
from tests.support.site import shard_tags
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

TIMEOUT = 1.0
STALL = 2.5 * TIMEOUT
BUSY = 0.6
"""Seconds that the servers are busy: they answer when the proxy is stopped."""
SENT = 0.2
"""Seconds in which the proxy has passed on what it was sent."""
OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
DEBUG = ("enable-debug-command yes",)
FIRST, SECOND = shard_tags(2)
CONFIG = f"""
[backend]
connect_timeout = "{TIMEOUT}s"
request_timeout = "{TIMEOUT}s"
retry_deadline = "{TIMEOUT}s"
dedicated_wait = "{TIMEOUT}s"
{{backend}}
[limits]
write_timeout = "{TIMEOUT}s"
output_soft = "64kb"
"""


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two shards with a replica each: WAIT has somebody to wait for."""
    with start_many(2, 1, binary=binary, options=DEBUG) as running:
        yield running


def static(shards: LocalShards, backend: str = "") -> str:
    """The configuration of a proxy before them."""
    tables = "".join(f'[[shards]]\nprimary = "{server.address}"\n' for server in shards.primaries)
    return CONFIG.format(backend=backend) + tables


@contextmanager
def busy(servers: Sequence[LocalServer], seconds: float = BUSY) -> Iterator[None]:
    """Servers that answer nothing for a while; when it is over, all that was sent to them before is answered."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for server in servers]
        for wire in wires:
            # A server that has just accepted a connection reads from it one turn later than from those it has.
            assert wire.ask("PING") == PONG
        for wire in wires:
            wire.send(pack("DEBUG", "SLEEP", str(seconds)))
        yield
        for wire in wires:
            assert wire.reply() == OK


def stall(proxy: ProxyProcess, meanwhile: Callable[[], object] = lambda: None, seconds: float = STALL) -> None:
    """Stop the proxy for longer than any of its deadlines."""
    proxy.signal(signal.SIGSTOP)
    try:
        meanwhile()
        time.sleep(seconds)
    finally:
        proxy.signal(signal.SIGCONT)


def check_writes(proxy: ProxyProcess, servers: Sequence[LocalServer]) -> None:
    """Twenty clients' writes on all shards, answered while the proxy is stopped."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(proxy.address)) for _ in range(20)]
        for wire in wires:
            assert wire.ask("PING") == PONG
        with busy(servers):
            for number, wire in enumerate(wires):
                wire.send(pack("SET", f"key:{number}", number))
            time.sleep(SENT)
            stall(proxy)
        assert [wire.reply() for wire in wires] == [OK] * 20


@pytest.mark.smoke
def test_writes_over_shared_connections(shards: LocalShards, serve: Serve) -> None:
    check_writes(serve(config=static(shards)), shards.primaries)


@pytest.mark.drill
def test_writes_before_a_cluster(binary: ServerBinary, serve: Serve) -> None:
    with start_cluster(3, 0, binary=binary, options=DEBUG) as cluster:
        seeds = [node.address for node in cluster.nodes]
        config = CONFIG.format(backend="") + f'[topology]\nkind = "cluster"\n[cluster]\nseeds = {seeds}\n'
        proxy = serve(config=config)
        check_writes(proxy, cluster.nodes)
        assert "can not be asked" not in proxy.log


@pytest.mark.drill
def test_transactions_blocked_clients_and_wait(shards: LocalShards, serve: Serve) -> None:
    """What goes over dedicated connections, and a transaction over a shared one."""
    proxy = serve(config=static(shards))
    one = f"{{{FIRST}}}"
    with ExitStack() as stack:
        plain, watching, blocked, waiting, asking = (stack.enter_context(Wire(proxy.address)) for _ in range(5))
        assert watching.ask("WATCH", one) == OK
        blocked.send(pack("BLPOP", f"{one}list", 0))
        assert waiting.ask("SET", f"{one}w", 1) == OK
        time.sleep(SENT)
        block = pipeline(("MULTI",), ("INCR", f"{one}n"), ("EXEC",))
        with busy(shards.primaries):
            plain.send(block)
            watching.send(block)
            waiting.send(pack("WAIT", 1, 500))
            asking.send(pack("WATCH", one))
            time.sleep(SENT)

            def push() -> None:
                with Wire(shards.primaries[0].address) as wire:
                    assert wire.ask("RPUSH", f"{one}list", "x") == b":1\r\n"

            stall(proxy, push)
        numbers = {wire.replies(3)[-1] for wire in (plain, watching)}
        assert numbers == {b"*1\r\n:1\r\n", b"*1\r\n:2\r\n"}
        assert blocked.reply() == b"*2\r\n" + pack(f"{one}list", "x").partition(b"\r\n")[2]
        assert waiting.reply() == b":1\r\n"
        assert asking.reply() == OK


@pytest.mark.drill
def test_who_waits_for_a_dedicated_connection(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=static(shards, "dedicated_connections = 1"))
    with Wire(proxy.address) as holder, Wire(proxy.address) as queued:
        assert holder.ask("WATCH", f"{{{FIRST}}}w") == OK
        queued.send(pack("WATCH", f"{{{FIRST}}}w"))
        time.sleep(SENT)
        stall(proxy, lambda: holder.send(pack("UNWATCH")))
        assert holder.reply() == OK
        assert queued.reply() == OK


def test_subscribers_stay_subscribed(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=static(shards))
    with Wire(proxy.address) as wire, Wire(shards.primaries[0].address) as publisher:
        wire.ask("SUBSCRIBE", "news")
        stall(proxy, lambda: publisher.ask("PUBLISH", "news", "while it was stopped"))
        assert wire.reply().endswith(b"while it was stopped\r\n")
    assert "subscriber down" not in proxy.log


@pytest.mark.drill
def test_a_reader_that_could_not_be_served_is_not_closed(shards: LocalShards, serve: Serve) -> None:
    """It reads slowly, and then at once what the proxy could not send it."""
    proxy = serve(config=static(shards))
    size = 16 << 20
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", f"{{{FIRST}}}large", b"x" * size) == OK
        wire.send(pack("GET", f"{{{FIRST}}}large"))
        time.sleep(SENT)
        stall(proxy)
        assert len(wire.reply()) == len(f"${size}\r\n\r\n") + size
    assert "write timeout" not in proxy.log


@pytest.mark.drill
def test_short_stalls_one_after_the_other(shards: LocalShards, serve: Serve) -> None:
    """A proxy that gets the CPU for moments only: no stall is as long as the deadline, all together they are longer."""
    proxy = serve(config=static(shards))
    with Wire(proxy.address) as wire, busy(shards.primaries, 1.5):
        wire.send(pack("SET", f"{{{FIRST}}}k", 1))
        time.sleep(0.05)
        for _ in range(10):
            stall(proxy, seconds=0.2)
            time.sleep(0.01)
        assert wire.reply() == OK


@pytest.mark.drill
def test_a_server_that_hangs_is_still_found_out(shards: LocalShards, serve: Serve) -> None:
    """The time that the proxy runs counts, before and after a stall."""
    proxy = serve(config=static(shards))
    with Wire(proxy.address) as wire, Wire(shards.primaries[0].address) as hung:
        assert wire.ask("PING") == hung.ask("PING") == PONG  # see busy()
        hung.send(pack("DEBUG", "SLEEP", str(STALL + 4 * TIMEOUT)))
        wire.send(pack("SET", f"{{{FIRST}}}k", 1))
        time.sleep(SENT)
        began = time.monotonic()
        stall(proxy)
        assert wire.silent(TIMEOUT / 4)
        assert wire.reply().startswith(b"-UNCERTAIN ")
        assert time.monotonic() - began < STALL + 3 * TIMEOUT
        assert hung.reply() == OK


def test_the_proxy_that_is_starved_answers_what_was_answered(shards: LocalShards, serve: Serve) -> None:
    """Stopped and continued for two seconds, as a scheduler does to who has a small share; writes go on meanwhile."""
    proxy = serve(config=static(shards))
    stop = threading.Event()

    def starve() -> None:
        while not stop.is_set():
            stall(proxy, seconds=0.15)
            time.sleep(0.005)

    thread = threading.Thread(target=starve)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(proxy.address)) for _ in range(20)]
        thread.start()
        try:
            for number in range(3):
                for wire in wires:
                    wire.send(pack("SET", f"{{{FIRST}}}k", number) + pack("SET", f"{{{SECOND}}}k", number))
                assert [reply for wire in wires for reply in wire.replies(2)] == [OK] * 40
        finally:
            stop.set()
            thread.join()
