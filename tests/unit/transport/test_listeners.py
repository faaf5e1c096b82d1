"""Sockets for several workers, of which nobody else gets one."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config import Address
from proxy.errors import SlotgateError
from proxy.transport.listeners import Listeners, listen

ANY = Address("127.0.0.1", 0)


@pytest.fixture
def two() -> Iterator[Listeners]:
    """For two workers, at one address."""
    listeners = listen([ANY], 2)
    yield listeners
    listeners.close()


def accepted(bound: socket.socket) -> int:
    """How many connections wait there."""
    count = 0
    while True:
        try:
            bound.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_one_port_for_all_workers(two: Listeners) -> None:
    (address,) = two.addresses
    assert address.port > 0
    ((_, one),), ((_, other),) = two.of(0), two.of(1)
    assert one.getsockname() == other.getsockname() == ("127.0.0.1", address.port)
    for _ in range(64):
        socket.create_connection(("127.0.0.1", address.port)).close()
    counts = [accepted(one), accepted(other)]
    assert sum(counts) == 64
    if sys.platform == "linux":
        assert min(counts) > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_else_gets_in(two: Listeners, workers: int) -> None:
    (address,) = two.addresses
    words = f"can not listen on {address}: Address already in use. Stop what uses it, or choose another address"
    with pytest.raises(SlotgateError) as caught:
        listen([ANY, address], workers)
    assert str(caught.value).startswith(words)
    two.close()
    listen([address], workers).close()


def test_a_port_that_another_program_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SlotgateError, match="already in use"):
        listen([Address("127.0.0.1", taken.getsockname()[1])], 2)


def test_a_host_that_is_none() -> None:
    with pytest.raises(SlotgateError, match=r"can not listen on nowhere\.invalid:1: .*[Nn]ame"):
        listen([Address("nowhere.invalid", 1)])


def test_a_unix_socket_is_shared_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listeners = listen([Address(str(path), 0, unix=True)], 2)
    assert listeners.of(0) == listeners.of(1)
    assert path.is_socket()
    listeners.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(SlotgateError, match="already in use"):
        listen([Address(str(path), 0, unix=True)])
    assert path.read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="what is accepted has the listening socket's settings on Linux")
@pytest.mark.parametrize("address", [ANY, Address("::1", 0)], ids=str)
@pytest.mark.parametrize(
    ("idle", "settings"), [(0, None), (300, (300, 100, 3)), (2, (2, 1, 3)), (32767, (32767, 10922, 3))]
)
def test_silent_clients_are_asked(address: Address, idle: int, settings: tuple[int, int, int] | None) -> None:
    """As Redis asks them: after that time, then at intervals of a third of it, three times."""
    try:
        listeners = listen([address], 2, idle)
    except SlotgateError as error:
        pytest.skip(str(error))
    try:
        for worker in range(2):
            ((_, bound),) = listeners.of(worker)
            bound.setblocking(True)
            waits = accepted_by(bound, listeners.addresses[0].port)
            on = waits.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            names = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
            found = tuple(waits.getsockopt(socket.IPPROTO_TCP, name) for name in names)
            assert (found if on else None) == settings
            waits.close()
    finally:
        listeners.close()


def accepted_by(bound: socket.socket, port: int) -> socket.socket:
    """A connection to ``port`` that came to this socket, one of several."""
    while True:
        with socket.create_connection((bound.getsockname()[0], port)):
            bound.settimeout(0.2)
            try:
                return bound.accept()[0]
            except TimeoutError:
                continue


class TestGiven:
    """Sockets that the service manager has opened."""

    @pytest.mark.parametrize("workers", [1, 3])
    def test_one_is_used_as_it_is(self, workers: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as given:
            host, port = given.getsockname()
            listeners = listen([Address(host, port), ANY], workers, given=[given])
            try:
                assert listeners.addresses[0] == Address(host, port)
                for worker in range(workers):
                    (first, one), (second, other) = listeners.of(worker)
                    assert (first, second) == (0, 1)
                    assert one is given
                    assert other.getsockname()[1] != port
            finally:
                listeners.close()

    def test_the_file_of_a_unix_socket_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "given.sock"
        given = socket.socket(socket.AF_UNIX)
        given.bind(str(path))
        given.listen()
        listeners = listen([Address(str(path), 0, unix=True)], given=[given])
        assert listeners.of(0) == [(0, given)]
        listeners.close()
        assert path.exists()

    def test_one_at_an_address_that_is_not_asked_for(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as given:
            port = given.getsockname()[1]
            with pytest.raises(SlotgateError, match=rf"has opened a socket at 127.0.0.1:{port}, where nothing"):
                listen([ANY], given=[given])
