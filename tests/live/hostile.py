"""Attacks on a proxy, each by one process: ``python -m tests.live.hostile NAME HOST:PORT``.

The process says "begun" when the attack stands, and goes on until its standard input is closed.
"""

import contextlib
import resource
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

from tests.support.wire import Wire, pack

Attack = Callable[[str], None]
LARGE = 1 << 20
ANNOUNCED = 512 << 20
_CHUNK = bytes(256 * 1024)
stopped = threading.Event()


def never_reads(address: str) -> None:
    """A client asks for 400 values of 1 MB, and reads nothing."""
    with Wire(address) as wire:
        wire.ask("SET", "hostile:large", "x" * LARGE)
    push([(connect(address), pack("GET", "hostile:large") * 400)])


def one_byte_a_second(address: str) -> None:
    """500 clients send a request of 1 MB, a byte a second."""
    links = [connect(address) for _ in range(500)]
    for link in links:
        link.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n")
    say_begun()
    while not stopped.wait(1.0):
        for link in links:
            with contextlib.suppress(OSError):
                link.sendall(b"x")


def connections(address: str) -> None:
    """5,000 clients connect and are silent."""
    hold([connect(address) for _ in range(5000)])


def announces(address: str) -> None:
    """1,000 clients announce a value of 512 MB each, and send as much as goes."""
    head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % ANNOUNCED
    push([(connect(address), head) for _ in range(1000)], _CHUNK)


def floods_auth(address: str) -> None:
    """A client guesses passwords, as many as are answered."""
    guesses = pack("AUTH", "guessed") * 200
    say_begun()
    while not stopped.is_set():
        with contextlib.suppress(OSError), Wire(address, timeout=1.0) as wire:
            while not stopped.is_set():
                wire.send(guesses)
                wire.replies(200)


def subscribes(address: str) -> None:
    """A client subscribes to 100,000 channels."""
    with Wire(address) as wire:
        for begin in range(0, 100_000, 1000):
            wire.send(pack("SUBSCRIBE", *(f"hostile:{number}" for number in range(begin, begin + 1000))))
            wire.replies(1000)
        say_begun()
        stopped.wait()


def leaves_watches(address: str) -> None:
    """1,000 clients watch a key each, and do nothing more."""
    links = [connect(address) for _ in range(1000)]
    for number, link in enumerate(links):
        link.sendall(pack("WATCH", f"hostile:{number}"))
    hold(links)


ATTACKS: dict[str, Attack] = {
    each.__name__: each
    for each in (never_reads, one_byte_a_second, connections, announces, floods_auth, subscribes, leaves_watches)
}


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 10.0)


def say_begun() -> None:
    sys.stdout.write("begun\n")
    sys.stdout.flush()


def hold(links: Sequence[socket.socket]) -> None:
    """Keep the connections open."""
    say_begun()
    stopped.wait()
    for link in links:
        link.close()


def push(links: Sequence[tuple[socket.socket, bytes]], more: bytes = b"") -> None:
    """Send to each connection its first bytes, and then ``more`` over and over, as fast as the other side reads."""
    with selectors.DefaultSelector() as selector:
        for each, first in links:
            each.setblocking(False)
            selector.register(each, selectors.EVENT_WRITE, [memoryview(first)])
        say_begun()
        asleep: list[socket.socket] = []
        while not stopped.is_set():
            ready = selector.select(0.1)
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                link, left = key.fileobj, key.data
                try:
                    left[0] = left[0][link.send(left[0]) :] or memoryview(more)
                except BlockingIOError:
                    continue
                except OSError:
                    selector.unregister(link)
                    continue
                if not left[0]:
                    selector.unregister(link)
                    asleep.append(link)  # open, so that it is not closed
            if ready:
                # The attack shall take the proxy's time, and not all of a processor that the proxy runs on.
                time.sleep(0.001)


def main() -> None:
    name, address = sys.argv[1:]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def attack() -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            ATTACKS[name](address)

    threading.Thread(target=attack, daemon=True).start()
    sys.stdin.read()
    stopped.set()


if __name__ == "__main__":
    main()
