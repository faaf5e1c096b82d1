"""The header ahead of a connection's own protocol, over both kinds of transports."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.compiled import engine
from proxy.config.values import parse_trusted_proxy
from proxy.metrics import Counters
from proxy.transport.clock import Clock
from proxy.transport.proxy_header import own_header
from proxy.transport.proxy_protocol import HeaderReader, HeaderSender, ProxyProtocol, TrustedProxies
from proxy.transport.transports import LoopTransports, Transports
from tests.support import proxy_headers as make

HEADER = make.tcp("192.0.2.7", "198.51.100.1")
LOOPBACK = "127.0.0.1"
RESET = b"\1\0\0\0\0\0\0\0"
"""The option to reset a connection when it is closed."""


class Receives(asyncio.Protocol):
    """The connection's own protocol: answers what it gets."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.got = b""
        self.names: tuple[str, ...] | None = None
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def certified(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def told(self, name: str) -> Any:
        return self.transport.get_extra_info(name)


class ReceivesIntoBuffer(asyncio.BufferedProtocol):
    """The same with a buffer of its own, of three bytes."""

    def __init__(self) -> None:
        self._inner = Receives()
        self._room = bytearray(3)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._inner.data_received(bytes(self._room[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


@dataclass
class Stand:
    """A listener with the PROXY protocol."""

    transports: Transports
    shared: ProxyProtocol
    counters: Counters
    address: Any
    made: list[Any] = field(default_factory=list)

    async def connect(self, *pieces: bytes) -> socket.socket:
        """A connection to it over which ``pieces`` were sent."""
        loop = asyncio.get_running_loop()
        end = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        end.setblocking(False)
        await loop.sock_connect(end, self.address)
        if not isinstance(self.address, str):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            await loop.sock_sendall(end, piece)
            await asyncio.sleep(0.002)
        return end

    async def taken(self, number: int = 0) -> Any:
        """The connection's own protocol, once there is one."""
        await until(lambda: len(self.made) > number)
        return self.made[number]


async def until(true: Callable[[], object]) -> None:
    """Wait until it is true, for a while."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.002)


async def read(end: socket.socket, size: int = 4096) -> bytes:
    """All that comes, up to so many bytes or the end."""
    loop = asyncio.get_running_loop()
    found = b""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            while len(found) < size and (more := await loop.sock_recv(end, size)):
                found += more
    return found


KINDS = [
    "loop",
    pytest.param("epoll", marks=pytest.mark.skipif(engine() == "python", reason="a module of the compiled engine")),
]
Open = Callable[..., Any]


@pytest.fixture(params=KINDS)
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Makes a listener whose balancers are on loopback, unless others are named."""
    loop = asyncio.get_running_loop()
    clock = Clock(loop, time.monotonic)
    opened: list[Stand] = []

    async def make_one(
        *trusted: str,
        path: bool = False,
        factory: type = Receives,
        patience: float = 5.0,
        most: int = 1000,
        certified: bool = False,
    ) -> Stand:
        transports: Transports = LoopTransports(loop)
        if request.param == "epoll":
            from proxy.transport.epoll import EpollTransports

            transports = EpollTransports(loop)
        counters = Counters(True)
        networks = TrustedProxies([parse_trusted_proxy(each) for each in trusted or ("127.0.0.0/8",)])
        shared = ProxyProtocol(networks, counters, clock, patience, lambda: most)
        listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        listener.bind(str(tmp_path / "s") if path else (LOOPBACK, 0))
        one = Stand(transports, shared, counters, listener.getsockname())

        def begin() -> Any:
            one.made.append(factory())
            return one.made[-1]

        await transports.listen(listener, shared.ahead_of(begin, certified), 100, bytes)
        opened.append(one)
        return one

    yield make_one
    for each in opened:
        each.transports.stop_listening()
        for protocol in each.made:
            protocol.transport.abort()
    await asyncio.sleep(0.01)
    clock.close()


@pytest.mark.parametrize("factory", [Receives, ReceivesIntoBuffer])
@pytest.mark.parametrize("header", [HEADER, make.v1("192.0.2.7")], ids=["v2", "v1"])
async def test_the_next_protocol_takes_over(stand: Open, factory: type, header: bytes) -> None:
    """In whatever pieces the header and the first request arrive."""
    one = await stand(factory=factory)
    whole = header + b"PING\r\n"
    ways: list[list[bytes]] = [[whole], [header, b"PING\r\n"], [whole[:20], whole[20:]], [whole[:-2], whole[-2:]]]
    ways.append([whole[at : at + 1] for at in range(len(whole))])
    for number, pieces in enumerate(ways):
        end = await one.connect(*pieces)
        assert await read(end, 6) == b"PING\r\n"
        protocol = await one.taken(number)
        assert protocol.told("peername") == ("192.0.2.7", 56324)
        assert protocol.told("sockname") == ("198.51.100.1", 6380)
        assert protocol.told("relayed")
        assert protocol.told("no such") is None
        await asyncio.get_running_loop().sock_sendall(end, b"more")
        assert await read(end, 4) == b"more"
        end.close()
        await protocol.ended.wait()
    assert not one.shared.waiting
    assert not one.counters.rejected


async def test_the_reader_is_out_of_the_way(stand: Open) -> None:
    """A write goes to the transport itself, and what is received comes from it."""
    one = await stand()
    end = await one.connect(HEADER)
    transport = (await one.taken()).transport
    assert getattr(transport.write, "__self__", None).__class__ is not HeaderReader
    if isinstance(one.transports, LoopTransports):
        assert transport.write.__self__ is transport._transport
        assert transport._transport.get_protocol() is one.made[0]
    else:
        assert type(transport).__name__ == "EpollTransport"
    end.close()


async def test_addresses_that_are_not_told_are_the_balancers(stand: Open) -> None:
    one = await stand()
    for number, header in enumerate((make.v2(command=make.LOCAL), make.v2(family=make.UNSPEC), b"PROXY UNKNOWN\r\n")):
        end = await one.connect(header)
        protocol = await one.taken(number)
        assert protocol.told("peername")[:2] == end.getsockname()
        assert protocol.told("sockname")[:2] == one.address
        assert protocol.told("relayed"), "a stranger behind a balancer on this machine is a stranger"
        end.close()


@pytest.mark.parametrize(
    ("source", "relayed"), [("127.0.0.1", False), ("::1", False), ("10.0.0.1", True), ("128.0.0.1", True)]
)
async def test_who_is_on_this_machine(stand: Open, source: str, relayed: bool) -> None:
    one = await stand()
    end = await one.connect(make.v1(source, "::2" if ":" in source else "192.0.2.1"))
    assert (await one.taken()).told("relayed") is relayed
    end.close()


async def test_a_balancer_at_a_unix_socket(stand: Open) -> None:
    one = await stand("unix", path=True)
    end = await one.connect(make.unix(b"/client", b"/front") + b"x")
    assert await read(end, 1) == b"x"
    protocol = await one.taken()
    assert protocol.told("peername") == "/client"
    assert protocol.told("sockname") == "/front"
    assert not protocol.told("relayed")
    end.close()
    other = await one.connect(HEADER)
    assert (await one.taken(1)).told("relayed")
    other.close()


@pytest.mark.parametrize(
    ("trusted", "path"), [("10.0.0.0/8", False), ("127.0.0.2", False), ("unix", False), ("127.0.0.0/8", True)]
)
async def test_who_is_not_trusted_is_not_heard(
    stand: Open, caplog: pytest.LogCaptureFixture, trusted: str, path: bool
) -> None:
    one = await stand(trusted, path=path)
    for pieces in ((), (HEADER + b"PING\r\n",)):
        end = await one.connect(*pieces[:0])
        with contextlib.suppress(OSError):
            for piece in pieces:
                await asyncio.get_running_loop().sock_sendall(end, piece)
        assert await read(end) == b""
        end.close()
    assert not one.made
    assert not one.shared.waiting
    assert one.counters.rejected == {"untrusted proxy": 2}
    where = "unix" if path else LOOPBACK
    assert f"connection refused address={where} reason='it is none of the trusted_proxies'" in caplog.text


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([b"PING\r\n"], "no valid PROXY header: it does not begin with a header"),
        ([b"\x16\x03\x01"], "no valid PROXY header: it does not begin with a header"),
        ([HEADER[:13] + b"\xff" + HEADER[14:]], "no valid PROXY header: the family 0xff is none of the protocol's"),
        ([b"PROXY TCP4 1.2.3.4", b" x\r\n"], "no valid PROXY header: the line of version 1 is not as"),
        ([HEADER + HEADER], "two PROXY headers"),
        ([HEADER + make.v1("10.0.0.1")], "two PROXY headers"),
    ],
)
async def test_a_balancer_that_sends_no_header(
    stand: Open, caplog: pytest.LogCaptureFixture, pieces: list[bytes], words: str
) -> None:
    one = await stand()
    end = await one.connect(*pieces)
    assert await read(end) == b""
    assert not one.made
    assert not one.shared.waiting
    assert one.counters.rejected == {"proxy header": 1}
    assert words in caplog.text
    end.close()


async def test_a_late_header(stand: Open, caplog: pytest.LogCaptureFixture) -> None:
    one = await stand(patience=0.2)
    began = time.monotonic()
    ends = [await one.connect(), await one.connect(HEADER[:20])]
    assert [await read(end) for end in ends] == [b"", b""]
    assert 0.2 <= time.monotonic() - began < 3.0
    assert one.counters.rejected == {"proxy header": 2}
    assert "reason='no PROXY header within 0.2 s'" in caplog.text
    assert not one.shared.waiting
    in_time = await one.connect(HEADER)
    protocol = await one.taken()
    await asyncio.sleep(0.4)
    assert not protocol.ended.is_set()
    for end in (*ends, in_time):
        end.close()


async def test_a_health_check_is_no_failure(stand: Open, caplog: pytest.LogCaptureFixture) -> None:
    one = await stand()
    for _ in range(20):
        (await one.connect()).close()
        end = await one.connect()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.close()
    for _ in range(20):
        end = socket.create_connection(one.address)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.close()
    await asyncio.sleep(0.05)
    await until(lambda: not one.shared.waiting)
    assert not one.counters.rejected
    assert not caplog.text
    assert not one.made


async def test_an_end_within_the_header(stand: Open, caplog: pytest.LogCaptureFixture) -> None:
    one = await stand()
    (await one.connect(HEADER[:20])).close()
    await until(lambda: one.counters.rejected)
    assert "the connection ended within its PROXY header" in caplog.text
    assert not one.shared.waiting


async def test_so_many_may_wait(stand: Open, caplog: pytest.LogCaptureFixture) -> None:
    one = await stand(most=3)
    ends = [await one.connect() for _ in range(3)]
    await until(lambda: len(one.shared.waiting) == 3)
    refused = await one.connect(HEADER)
    assert await read(refused) == b""
    assert one.counters.rejected == {"max clients": 1}
    await asyncio.get_running_loop().sock_sendall(ends[0], HEADER)
    await one.taken()
    last = await one.connect(HEADER + b"x")
    assert await read(last, 1) == b"x"
    for end in (*ends, refused, last):
        end.close()


async def test_the_log_is_not_filled(stand: Open, caplog: pytest.LogCaptureFixture) -> None:
    one = await stand("10.0.0.1")
    for _ in range(50):
        end = await one.connect()
        await read(end)
        end.close()
    lines = caplog.text.count("connection refused")
    assert 10 <= lines < 50
    assert one.counters.rejected == {"untrusted proxy": 50}
    await asyncio.sleep(1.1)
    last = await one.connect()
    await read(last)
    last.close()
    assert f"more connections refused, for their PROXY headers count={50 - lines}" in caplog.text


@pytest.mark.parametrize("certified", [True, False])
async def test_a_certificate_that_the_balancer_has_verified(stand: Open, certified: bool) -> None:
    one = await stand(certified=certified)
    headers = [
        make.tcp("192.0.2.7", "192.0.2.1", make.ssl(0x03, verify, (make.SSL_CN, b"app"))) + b"x" for verify in (0, 1)
    ]
    for number, (header, names) in enumerate(zip(headers, [("app",) if certified else None, None], strict=True)):
        end = await one.connect(header)
        assert await read(end, 1) == b"x"
        assert (await one.taken(number)).names == names
        end.close()


async def test_no_header_is_waited_for_at_the_end(stand: Open, caplog: pytest.LogCaptureFixture) -> None:
    one = await stand()
    ends = [await one.connect(), await one.connect(HEADER[:20]), await one.connect(HEADER)]
    await until(lambda: len(one.shared.waiting) == 2 and one.made)
    one.shared.close()
    assert [await read(end) for end in ends[:2]] == [b"", b""]
    assert not one.shared.waiting
    assert not one.counters.rejected
    assert not one.made[0].ended.is_set()
    for end in ends:
        end.close()


@pytest.mark.parametrize(("version", "local"), [("v1", False), ("v2", True)])
async def test_the_header_to_a_server_comes_first(stand: Open, version: str, local: bool) -> None:
    one = await stand()
    sender = Receives()
    await one.transports.connect(*one.address, HeaderSender(own_header(version), sender))
    sender.transport.write(b"x")
    await until(lambda: sender.got)
    assert one.made[0].got.startswith(b"x")
    assert one.made[0].told("peername")[:2] == sender.told("sockname")[:2]
    sender.transport.abort()
