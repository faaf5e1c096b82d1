"""The connections of a worker when it stops to listen."""

import asyncio
import contextlib
import socket

import pytest

from proxy.transport.transports import LoopTransports, Transports, best_transports

_MANY = 50


class Greeted(asyncio.Protocol):
    """A client's connection, which greets the client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"hello")  # type: ignore[attr-defined]  # it has asyncio's methods


@pytest.mark.parametrize("kind", ["loop", "best"])
async def test_connections_that_wait_are_accepted_before_the_end(kind: str) -> None:
    """The kernel would reset them if the socket was closed with them in it."""
    loop = asyncio.get_running_loop()
    transports: Transports = LoopTransports(loop) if kind == "loop" else best_transports(loop)
    listener = socket.create_server(("127.0.0.1", 0), backlog=_MANY)
    address = listener.getsockname()
    with contextlib.ExitStack() as stack:
        await transports.listen(listener, Greeted, _MANY, lambda: b"")
        clients = [stack.enter_context(socket.create_connection(address, 5)) for _ in range(_MANY)]
        transports.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 5)
        for client in clients:
            client.setblocking(False)
            assert await asyncio.wait_for(loop.sock_recv(client, 5), 5) == b"hello"


async def test_a_listener_that_nobody_waits_at_is_closed_at_once() -> None:
    transports = LoopTransports(asyncio.get_running_loop())
    listener = socket.create_server(("127.0.0.1", 0))
    await transports.listen(listener, Greeted, 1, lambda: b"")
    transports.stop_listening()
    assert listener.fileno() == -1
