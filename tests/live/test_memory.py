"""The memory of all clients: who holds the most is not read from, and then closed; the others are served."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from proxy.devservers.servers import LOOPBACK
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.site import Site, shard_tags
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

MB = 1 << 20
CONFIG = '[limits]\nmemory = "160mb"\n'
REJECTED, NOT_READ = "slotgate_clients_rejected_total", "slotgate_clients_not_read_total"
ONE, OTHER = shard_tags(3)[:2]


@pytest.fixture
def proxy(site: Site, serve: Serve) -> ProxyProcess:
    return serve("--static", site.shards.static, config=CONFIG)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def room(proxy: ProxyProcess) -> int:
    """The bytes that clients may hold."""
    return int(metric(proxy, "slotgate_client_memory_limit_bytes"))


def begun(proxy: ProxyProcess, size: int, sent: int, stack: contextlib.ExitStack) -> socket.socket:
    """A client that has begun a value of ``size`` bytes, and sent ``sent`` of them."""
    link = stack.enter_context(socket.create_connection((LOOPBACK, proxy.port), 10.0))
    link.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n{%b}\r\n$%d\r\n" % (len(ONE) + 2, ONE.encode(), size))
    link.sendall(bytes(sent))
    return link


def closed(link: socket.socket) -> bool:
    """Whether the proxy has closed the connection."""
    waits = link.gettimeout()
    link.setblocking(False)
    try:
        return link.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        link.settimeout(waits)


def _refused(sends: Callable[[], bool]) -> bool:
    """Whether the connection is closed, which what sends may learn by an error."""
    try:
        return sends()
    except OSError:
        return True


def test_the_greediest_is_closed_and_the_others_are_served(proxy: ProxyProcess, stack: contextlib.ExitStack) -> None:
    innocent = stack.enter_context(Wire(proxy.address))
    small = begun(proxy, 10 * MB, 8 * MB, stack)
    greedy = begun(proxy, 500 * MB, 0, stack)
    greedy.settimeout(0.2)

    def gives_way() -> bool:
        with contextlib.suppress(TimeoutError):
            for _ in range(10):
                greedy.send(bytes(MB))
        return closed(greedy)

    assert eventually(lambda: _refused(gives_way), 30.0)
    assert innocent.ask("SET", ONE, "x") == b"+OK\r\n"
    # The small one can go on, and is answered.
    small.sendall(bytes(2 * MB) + b"\r\n")
    assert small.recv(100) == b"+OK\r\n"
    assert metric(proxy, REJECTED, reason="memory") == 1
    (line,) = [line for line in proxy.log.splitlines() if "client closed, as it holds the most" in line]
    assert "user=default" in line
    assert "reason='memory' bytes=" in line
    assert "output=0 kept=0 queued=0 names=0" in line
    assert f"slotgate_client_memory_limit:{room(proxy)}\r\n".encode() in innocent.ask("INFO", "slotgate")


def test_large_requests_that_fit_are_all_completed(proxy: ProxyProcess, stack: contextlib.ExitStack) -> None:
    """Together they are far more than the memory; each is let to finish when its turn comes."""
    size = room(proxy) // 4
    links = [begun(proxy, size, size // 2, stack) for _ in range(3)]
    for link in links:
        link.sendall(bytes(size - size // 2) + b"\r\n")
    assert [link.recv(100) for link in links] == [b"+OK\r\n"] * 3
    assert metric(proxy, REJECTED, reason="memory") == 0


@pytest.mark.drill
def test_halves_of_requests_that_do_not_fit_give_way(proxy: ProxyProcess, stack: contextlib.ExitStack) -> None:
    """None of them sends more: the one that holds the most is closed after a while, and the others can finish."""
    limit = room(proxy)
    sizes = [limit * 24 // 100, limit * 22 // 100, limit * 20 // 100]
    links = [begun(proxy, 2 * size, size, stack) for size in sizes]
    assert eventually(lambda: metric(proxy, NOT_READ, limit="memory") > 0)
    assert eventually(lambda: closed(links[0]), 20.0)
    assert not closed(links[1])
    for link, size in zip(links[1:], sizes[1:], strict=True):
        link.sendall(bytes(size) + b"\r\n")
        assert link.recv(100) == b"+OK\r\n"


@pytest.mark.drill
def test_transactions_and_unread_replies_count(proxy: ProxyProcess, stack: contextlib.ExitStack) -> None:
    queuing, reader = (stack.enter_context(Wire(proxy.address)) for _ in range(2))
    piece = "x" * MB
    assert queuing.ask("MULTI") == b"+OK\r\n"
    for _ in range(16):
        assert queuing.ask("SET", f"{{{ONE}}}", piece) == b"+QUEUED\r\n"
    assert reader.ask("SET", f"{{{OTHER}}}", piece) == b"+OK\r\n"
    reader.send(pack("GET", f"{{{OTHER}}}") * 16)

    def counted(kind: str) -> float:
        return metric(proxy, "slotgate_client_memory_bytes", kind=kind)

    assert eventually(lambda: counted("queued") > 16 * MB, 20.0)
    assert eventually(lambda: counted("output") > MB, 20.0)
    assert queuing.ask("EXEC").count(b"+OK") == 16
    assert [len(reply) > MB for reply in reader.replies(16)] == [True] * 16
    assert eventually(lambda: counted("queued") == counted("output") == counted("sent") == 0, 20.0)


@pytest.mark.drill
def test_a_client_without_need_is_never_touched(proxy: ProxyProcess, stack: contextlib.ExitStack) -> None:
    """Small clients beside greedy ones that come again and again."""
    innocent = stack.enter_context(Wire(proxy.address))
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        greedy = begun(proxy, 500 * MB, 0, stack)
        greedy.settimeout(0.2)
        with contextlib.suppress(OSError):
            for _ in range(200):
                greedy.sendall(bytes(MB))
        for number in range(20):
            assert innocent.ask("SET", f"k{number}", "x" * 1000) == b"+OK\r\n"
        greedy.close()
    assert not closed(innocent.socket)
