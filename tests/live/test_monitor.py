"""MONITOR: what clients run, shown as Redis shows it."""

import re
from collections.abc import Iterator

import pytest

from tests.live.test_slotgate import USERS
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
COMMANDS: tuple[tuple[str | bytes, ...], ...] = (
    ("PING",),
    ("AUTH", "default", "x"),
    ("hello", "3", "auth", "default", "secret", "setname", "me"),
    ("HELLO", "2"),
    ("set", "k", b'\x00\xff\r\n"\\ \x07\x08\x7fe\xc3\xa9'),
    ("GET", "k"),
    ("CONFIG", "GET", "hz"),
    ("MGET", "k", "other", "third"),
    ("select", "3"),
    ("nope", "x"),
    ("get",),
    ("get", "k"),
    ("eval", "return KEYS[1]", "1", "k"),
    ("client", "setname", "a"),
    ("client", "list"),
    ("select", "0"),
    ("ECHO", "the end"),
)


@pytest.fixture(scope="module")
def proxy(standing_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Before three shards, with a user who may."""
    static = standing_site.shards.static
    proxy = ProxyProcess(tmp_path_factory.mktemp("monitor"), "--static", static, config=USERS)
    with proxy.serving():
        yield proxy


def watch(address: str, *credentials: str) -> list[str]:
    """What MONITOR shows of ``COMMANDS``, but for the time and the client's address."""
    with Wire(address) as spectator, Wire(address) as client:
        if credentials:
            assert spectator.ask("AUTH", *credentials) == OK
        assert spectator.ask("MONITOR") == OK
        lines: list[str] = []
        for command in COMMANDS:
            client.ask(*command)
        while not lines or "the end" not in lines[-1]:
            lines.append(spectator.reply().decode())
        assert all(re.fullmatch(r"\+[0-9]{10}\.[0-9]{6} \[[0-9]+ 127.0.0.1:[0-9]+\] .*\r\n", line) for line in lines)
        return [re.sub(r"^\+[0-9.]+ \[([0-9]+) [^]]*\]", r"\1", line) for line in lines]


def test_it_shows_what_a_server_shows(site: Site, proxy: ProxyProcess) -> None:
    assert watch(proxy.address, "root", "sesame-and-poppy") == watch(site.plain.address)


def test_who_may_not(proxy: ProxyProcess) -> None:
    with Wire(proxy.address) as wire:
        assert wire.ask("MONITOR") == b"-NOPERM this user has no permissions to run the 'monitor' command\r\n"


def test_a_spectator_leaves_the_keys_alone(proxy: ProxyProcess) -> None:
    """And leaves everybody to the fast path again when it is gone, or starts over."""
    with Wire(proxy.address) as spectator, Wire(proxy.address) as client:
        assert spectator.ask("AUTH", "root", "sesame-and-poppy") == OK
        assert spectator.ask("MONITOR") == OK
        for command in (("GET", "k"), ("SET", "k", "v"), ("DEL", "k")):
            assert spectator.ask(*command) == b"-ERR Replica can't interact with the keyspace\r\n"
        assert spectator.ask("PING") == b"+PONG\r\n"
        assert b'"PING"' in spectator.reply()
        assert spectator.ask("RESET") == b"+RESET\r\n"
        assert client.ask("SET", "k", "v") == OK
        assert spectator.ask("GET", "k") == b"$1\r\nv\r\n"
        assert spectator.silent()
        assert spectator.ask("AUTH", "root", "sesame-and-poppy") == OK
        assert spectator.ask("MONITOR") == OK
    with Wire(proxy.address) as wire:
        assert wire.ask("GET", "k") == b"$1\r\nv\r\n"


def test_it_is_in_order_behind_a_pipeline(proxy: ProxyProcess) -> None:
    with Wire(proxy.address) as spectator, Wire(proxy.address) as client:
        assert spectator.ask("AUTH", "root", "sesame-and-poppy") == OK
        assert spectator.ask("MONITOR") == OK
        client.send(b"".join(b"*2\r\n$4\r\nINCR\r\n$6\r\nk%05d\r\n" % number for number in range(2000)))
        client.replies(2000)
        shown = [frame.split(b" ")[-1] for frame in spectator.replies(2000)]
        assert shown == [b'"k%05d"\r\n' % number for number in range(2000)]
