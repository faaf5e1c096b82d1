"""Connections of the admin port: how many there may be, who makes room, and one question for all who ask."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from proxy.worker.admin_http import Context, HttpRequest, HttpServer, Response
from proxy.worker.admin_process import Certificate, Newest
from tests.support.certificates import Authority

ASK = b"GET /x?y HTTP/1.1\r\nHost: h:1\r\nA: 1\r\nA: 2\r\n\r\n"


class Desk:
    """A server with room for three; ``held`` keeps its answers back until it is set."""

    def __init__(self, context: Context = lambda: None) -> None:
        self.asked: list[HttpRequest] = []
        self.held = asyncio.Event()
        self.held.set()
        self.server = HttpServer(self.answer, most=3, timeout=2.0, context=context)
        self.port = 0

    async def answer(self, request: HttpRequest) -> Response:
        self.asked.append(request)
        await self.held.wait()
        if request.path == "/fault":
            raise ZeroDivisionError
        return replace(Response.text(HTTPStatus.OK, "done", ("X-More", "1")), delay=5 * (request.path == "/late"))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, data: bytes = ASK) -> bytes:
        reader, writer = await self.connect()
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
            writer.close()
            return answer
        return b""


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.port = listener.getsockname()[1]
        made.server.listen(listener)
        yield made
        await made.server.close()


async def test_a_request_and_its_answer(desk: Desk) -> None:
    assert await desk.ask() == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
        b"X-More: 1\r\nConnection: close\r\n\r\ndone\n"
    )
    (request,) = desk.asked
    assert (request.method, request.path, request.host) == ("GET", "/x", "h:1")
    assert request.headers["a"] == "1, 2"
    assert request.peer.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://other:2/y?z", "/y", "other:2"),
        (b"http://other", "/", "other"),
        (b"*", "*", "h:1"),
        (b"http://[", "http://[", "h:1"),
    ],
)
async def test_targets(desk: Desk, target: bytes, path: str, host: str) -> None:
    await desk.ask(b"GET %s HTTP/1.1\r\nHost: h:1\r\n\r\n" % target)
    assert (desk.asked[0].path, desk.asked[0].host) == (path, host)


async def test_in_pieces(desk: Desk) -> None:
    reader, writer = await desk.connect()
    for at in range(len(ASK)):
        writer.write(ASK[at : at + 1])
        await asyncio.sleep(0)
    assert (await reader.read()).endswith(b"done\n")
    writer.close()


async def test_a_body_is_not_waited_for(desk: Desk) -> None:
    reader, writer = await desk.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_who_is_slow_is_let_go(desk: Desk) -> None:
    reader, writer = await desk.connect()
    writer.write(ASK[:-2])
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    assert not desk.asked


async def test_the_oldest_that_waits_for_its_client_makes_room(desk: Desk) -> None:
    silent = [await desk.connect() for _ in range(3)]
    await asyncio.sleep(0.05)
    assert (await desk.ask()).endswith(b"done\n")
    async with asyncio.timeout(1.0):  # before its time is over
        with contextlib.suppress(ConnectionError):
            assert await silent[0][0].read() == b""
    silent[2][1].write(ASK)
    assert (await silent[2][0].read()).endswith(b"done\n")
    for _, writer in silent:
        writer.close()


async def test_where_all_are_being_answered_the_next_is_refused(desk: Desk) -> None:
    desk.held.clear()
    answers = [asyncio.create_task(desk.ask()) for _ in range(3)]
    while len(desk.asked) < 3:  # noqa: ASYNC110 - it is the server that is waited for
        await asyncio.sleep(0.01)
    assert await desk.ask() == b""
    desk.held.set()
    assert all(answer.endswith(b"done\n") for answer in await asyncio.gather(*answers))


async def test_who_is_kept_waiting_makes_room_too(desk: Desk) -> None:
    """Else a few who guess passwords would keep everybody out."""
    late = [asyncio.create_task(desk.ask(b"GET /late HTTP/1.0\r\n\r\n")) for _ in range(3)]
    while len(desk.asked) < 3:  # noqa: ASYNC110 - it is the server that is waited for
        await asyncio.sleep(0.01)
    assert (await desk.ask()).endswith(b"done\n")
    assert sorted(await asyncio.gather(*late)) == [b"", b"", b""]


async def test_a_fault_of_ours_ends_one_connection_only(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    assert await desk.ask(b"GET /fault HTTP/1.0\r\n\r\n") == b""
    assert "a connection of the admin port failed" in caplog.text
    assert (await desk.ask()).endswith(b"done\n")
    await asyncio.sleep(0.05)
    assert repr(desk.server) == "HttpServer(0 connections, of which 0 wait for their client)"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" * 100,
    ],
)
async def test_what_wants_more_gets_one_answer(desk: Desk, data: bytes) -> None:
    assert (await desk.ask(data)).count(b"HTTP/1.1 200 OK\r\n") == 1
    assert len(desk.asked) == 1


async def test_handshakes_that_come_to_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("admin")
    desk = Desk(Certificate(str(pair.certificate), str(pair.key)).context)
    trusting = ssl.create_default_context(cafile=str(authority.pair.certificate))
    trusting.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    hello = outgoing.read()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        desk.port = listener.getsockname()[1]
        desk.server.listen(listener)
        for data in b"", hello[:50], b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(2000):
            _, writer = await desk.connect()
            writer.write(data)
            writer.close()
        held = [await desk.connect() for _ in range(3)]
        for _, writer in held[:2]:
            writer.write(hello[:50])
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port, ssl=trusting)
        writer.write(ASK)
        assert (await reader.read()).endswith(b"done\n")
        writer.close()
        async with asyncio.timeout(8):
            for silent, begun in held:
                with contextlib.suppress(ConnectionError):
                    assert await silent.read() == b""
                begun.close()
        await asyncio.sleep(0.1)
        assert repr(desk.server) == "HttpServer(0 connections, of which 0 wait for their client)"
        await desk.server.close()


class TestNewest:
    async def test_who_comes_while_it_is_asked_gets_the_next_answer(self) -> None:
        begun: list[float] = []
        go = asyncio.Event()

        async def ask() -> int:
            begun.append(asyncio.get_running_loop().time())
            await go.wait()
            return len(begun)

        newest = Newest(ask, 0.05)
        first = [asyncio.create_task(newest.get()) for _ in range(3)]
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(newest.get()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert len(begun) == 1
        go.set()
        assert await asyncio.gather(*first, *later) == [1, 1, 1, 2, 2, 2]
        assert begun[1] - begun[0] >= 0.05
        assert await newest.get() == 3

    async def test_all_get_the_error_and_the_next_is_asked_again(self) -> None:
        asked = 0

        async def ask() -> int:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise TimeoutError
            return asked

        newest = Newest(ask, 0.0)
        found = await asyncio.gather(newest.get(), newest.get(), return_exceptions=True)
        assert [type(each) for each in found] == [TimeoutError, TimeoutError]
        assert await newest.get() == 2

    async def test_one_that_leaves_takes_nobody_s_answer(self) -> None:
        async def ask() -> str:
            await asyncio.sleep(0.05)
            return "answer"

        newest = Newest(ask, 0.0)
        leaver, stayer = asyncio.create_task(newest.get()), asyncio.create_task(newest.get())
        await asyncio.sleep(0.01)
        leaver.cancel()
        assert await stayer == "answer"
