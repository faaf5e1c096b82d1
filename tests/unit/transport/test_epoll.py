"""EpollTransport by itself: what is written comes, in time that grows with it, and not faster."""

import asyncio
import socket
import time
from typing import Any

import pytest

from proxy.compiled import engine

pytestmark = pytest.mark.skipif(engine() == "python", reason="a module of the compiled engine")


class Sender(asyncio.Protocol):
    """Keeps the transport, and what it is told."""

    transport: Any = None

    def __init__(self) -> None:
        self.told: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


async def joined() -> tuple[Any, Sender, socket.socket]:
    """A transport, its protocol, and the socket at the other end."""
    from proxy.transport.epoll import EpollTransports

    loop = asyncio.get_running_loop()
    transports = EpollTransports(loop)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    sender = Sender()
    host, port = listener.getsockname()
    await transports.connect(host, port, sender)
    end, _ = await loop.sock_accept(listener)
    listener.close()
    end.setblocking(False)
    return sender.transport, sender, end


async def read(end: socket.socket, size: int) -> bytes:
    """So many bytes."""
    loop = asyncio.get_running_loop()
    found = bytearray()
    while len(found) < size:
        data = await loop.sock_recv(end, 1 << 20)
        assert data
        found += data
    return bytes(found)


async def cost(pieces: int, *, lines: bool) -> float:
    """CPU seconds for so many pieces of 7 bytes to a reader that begins when all are written."""
    transport, sender, end = await joined()
    transport.set_write_buffer_limits(high=1 << 30)
    began = time.thread_time()
    if lines:
        transport.writelines([b"%07d" % number for number in range(pieces)])
    else:
        for number in range(pieces):
            transport.write(b"%07d" % number)
    data = await read(end, 7 * pieces)
    spent = time.thread_time() - began
    assert data == b"".join(b"%07d" % number for number in range(pieces))
    assert not sender.told
    transport.abort()
    await asyncio.sleep(0.01)
    end.close()
    return spent


@pytest.mark.parametrize("lines", [False, True])
async def test_a_reader_behind_very_many_pieces_costs_what_they_cost(lines: bool) -> None:
    """A tenfold backlog is sent for ten times the CPU: it was a hundred times."""
    few = min([await cost(200_000, lines=lines) for _ in range(3)])
    assert await cost(2_000_000, lines=lines) < 35 * few


async def test_pieces_of_all_sizes_come_as_they_were_written() -> None:
    transport, sender, end = await joined()
    transport.set_write_buffer_limits(high=1000)
    sent = []
    for number in range(3000):
        piece = bytes([number % 251]) * (number * 37 % 3000)
        sent.append(piece)
        if number % 3:
            transport.write(piece)
        else:
            transport.writelines([piece, b"x", b"", piece])
            sent += [b"x", piece]
    whole = b"".join(sent)
    assert sender.told == ["pause"]
    assert await read(end, len(whole)) == whole
    await asyncio.sleep(0.05)
    assert sender.told == ["pause", "resume"]
    transport.write(b"end")
    transport.close()
    assert await read(end, 3) == b"end"
    end.close()


class Turns(asyncio.Protocol):
    """Notes how many bytes come in each turn of the loop."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.sizes: list[int] = [0]
        self.total = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.sizes[-1]:
            asyncio.get_running_loop().call_soon(self.sizes.append, 0)
        self.sizes[-1] += len(data)
        self.total += len(data)


@pytest.mark.parametrize("hurried", [False, True])
async def test_who_is_waited_for_is_read_more_in_a_turn(hurried: bool) -> None:
    """Not without a bound either: others are to have their turn."""
    mb = 1 << 20
    whole = 64 * mb
    transport, _, end = await joined()
    turns = Turns()
    turns.transport = transport
    transport.set_protocol(turns)
    transport.hurry(hurried)
    end.setblocking(True)
    writing = asyncio.create_task(asyncio.to_thread(end.sendall, b"x" * whole))
    while turns.total < whole:
        time.sleep(0.001)  # noqa: ASYNC251 - as if the turn had much else to do: something comes meanwhile
        await asyncio.sleep(0)
    await writing
    assert mb < max(turns.sizes) <= 5 * mb if hurried else max(turns.sizes) <= mb
    transport.abort()
    await asyncio.sleep(0.01)
    end.close()
