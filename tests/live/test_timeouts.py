"""Clients that leave the proxy waiting: for their login, for the rest of a request, or for any request."""

import contextlib
import time

import pytest

from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
PASSWORD = '[[users]]\nname = "default"\npassword = "friend"\n'
ADMIN = '[[users]]\nname = "default"\nnopass = true\nadmin = true\n'
SILENT = 300
TIMEOUT = 1.0
LATE = 3.0
"""Seconds: what a timeout of the tests is, and how late a busy machine may be with it."""


def closed_after(client: Wire) -> float:
    """How long it takes until the proxy closes ``client``, in seconds."""
    began = time.monotonic()
    assert client.closed()
    return time.monotonic() - began


def count(proxy: ProxyProcess, reason: str) -> float:
    """How many clients were closed for ``reason``."""
    name = f'slotgate_clients_rejected_total{{reason="{reason}"}} '
    lines = [line for line in proxy.http("/metrics")[1].splitlines() if line.startswith(name)]
    return float(lines[0].removeprefix(name)) if lines else 0.0


class TestLogin:
    @pytest.mark.drill
    def test_silent_connections_do_not_use_up_max_clients(
        self, site: Site, serve: Serve, crowd: contextlib.ExitStack
    ) -> None:
        config = f'[limits]\nmax_clients = {SILENT}\nauth_timeout = "2s"\n{PASSWORD}'
        proxy = serve("--static", site.shards.static, config=config)
        silent = [crowd.enter_context(Wire(proxy.address)) for _ in range(SILENT)]
        with Wire(proxy.address) as refused:
            assert refused.reply() == b"-ERR max number of clients reached\r\n"
        assert all(client.closed() for client in silent)
        with Wire(proxy.address) as client:
            assert client.ask("AUTH", "friend") == OK
            assert client.ask("SET", "k", 1) == OK
        assert count(proxy, "auth timeout") == SILENT
        assert "clients closed reason='auth timeout' clients=" in proxy.log

    @pytest.mark.parametrize("workers", [1, drilled(2)])
    def test_who_logs_in_stays(self, site: Site, serve: Serve, workers: int) -> None:
        config = f'[limits]\nauth_timeout = "{TIMEOUT}s"\n{PASSWORD}'
        proxy = serve("--static", site.shards.static, "--workers", str(workers), config=config)
        with Wire(proxy.address) as one, Wire(proxy.address) as other, Wire(proxy.address) as stranger:
            assert one.ask("AUTH", "friend") == OK
            other.send(pack("HELLO", 3, "AUTH", "default", "friend"))
            assert b"slotgate" not in other.reply()
            assert stranger.ask("AUTH", "guess").startswith(b"-WRONGPASS")
            assert closed_after(stranger) < TIMEOUT + LATE
            time.sleep(TIMEOUT)
            assert one.ask("PING") == other.ask("PING") == b"+PONG\r\n"

    def test_talking_without_a_password_is_no_login(self, site: Site, serve: Serve) -> None:
        config = f'[limits]\nauth_timeout = "{TIMEOUT}s"\nauth_commands = 0\n{PASSWORD}'
        proxy = serve("--static", site.shards.static, config=config)
        began = time.monotonic()
        with Wire(proxy.address) as stranger, contextlib.suppress(ConnectionError):
            while time.monotonic() < began + TIMEOUT + LATE:
                assert stranger.ask("PING") == b"-NOAUTH Authentication required.\r\n"
                time.sleep(0.05)
        assert TIMEOUT <= time.monotonic() - began < TIMEOUT + LATE

    @pytest.mark.drill
    def test_where_nobody_has_to_log_in_silence_is_allowed(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=f'[limits]\nauth_timeout = "{TIMEOUT / 2}s"\n')
        with Wire(proxy.address) as client:
            time.sleep(2 * TIMEOUT)
            assert client.ask("PING") == b"+PONG\r\n"

    @pytest.mark.drill
    def test_who_has_to_log_in_again(self, site: Site, serve: Serve) -> None:
        """The timeout begins anew with RESET, if the client was logged in; RESET without a login does not move it."""
        config = f'[limits]\nauth_timeout = "{TIMEOUT}s"\nauth_commands = 0\n{PASSWORD}'
        proxy = serve("--static", site.shards.static, config=config)
        with Wire(proxy.address) as client:
            for _ in range(2):
                assert client.ask("AUTH", "friend") == OK
                time.sleep(1.5 * TIMEOUT)
                assert client.ask("RESET") == b"+RESET\r\n"
            assert TIMEOUT / 2 < closed_after(client) < TIMEOUT + LATE
        with Wire(proxy.address) as stranger, contextlib.suppress(ConnectionError):
            until = time.monotonic() + TIMEOUT + LATE
            while stranger.ask("RESET") == b"+RESET\r\n":
                time.sleep(TIMEOUT / 20)
                assert time.monotonic() < until
        assert count(proxy, "auth timeout") == 2

    @pytest.mark.drill
    def test_who_finds_no_place_after_reset(self, site: Site, serve: Serve) -> None:
        users = "[[users]]\nname = 'default'\nnopass = true\n[[users]]\nname = 'app'\npassword = 'a'\n"
        config = f'[limits]\nauth_timeout = "{TIMEOUT}s"\nmax_clients_per_user = 1\n{users}'
        proxy = serve("--static", site.shards.static, config=config)
        with Wire(proxy.address) as client:
            assert client.ask("AUTH", "app", "a") == OK
            time.sleep(TIMEOUT / 2)
            with Wire(proxy.address) as other:
                assert other.ask("SET", "k", 1) == OK
                assert client.ask("RESET") == b"+RESET\r\n"
                assert closed_after(client) < TIMEOUT + LATE
                assert other.ask("SET", "k", 1) == OK

    def test_a_pause_holds_no_login(self, site: Site, serve: Serve) -> None:
        root = '[[users]]\nname = "root"\npassword = "friend"\nadmin = true\n'
        config = f'[limits]\nauth_timeout = "{TIMEOUT}s"\n{PASSWORD}{root}'
        proxy = serve("--static", site.shards.static, config=config)
        with Wire(proxy.address) as pausing, Wire(proxy.address) as late:
            assert pausing.ask("AUTH", "root", "friend") == OK
            assert pausing.ask("CLIENT", "PAUSE", int(2500 * TIMEOUT)) == OK
            late.send(pack("AUTH", "friend"))
            assert late.reply() == OK
            late.send(pack("GET", "k"))
            assert late.silent()
            assert late.reply() == b"$-1\r\n"


class TestIdle:
    @pytest.fixture
    def proxy(self, site: Site, serve: Serve) -> ProxyProcess:
        return serve("--static", site.shards.static, config=f'[limits]\nidle_timeout = "{TIMEOUT}s"\n{ADMIN}')

    def test_a_silent_client_is_closed(self, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client, Wire(proxy.address) as mute:
            for _ in range(6):
                assert client.ask("PING") == b"+PONG\r\n"
                time.sleep(TIMEOUT / 3)
            assert TIMEOUT / 3 <= closed_after(client) < TIMEOUT + LATE
            assert closed_after(mute) < 1.0
        assert count(proxy, "idle timeout") == 2

    @pytest.mark.drill
    def test_who_is_there_to_listen_may_be_silent(self, proxy: ProxyProcess) -> None:
        with contextlib.ExitStack() as stack:
            subscribed, pattern, blocked, looking = (stack.enter_context(Wire(proxy.address)) for _ in range(4))
            subscribed.ask("SUBSCRIBE", "c")
            pattern.ask("PSUBSCRIBE", "c*")
            blocked.send(pack("BLPOP", "{q}", 0))
            assert looking.ask("MONITOR") == OK
            time.sleep(3 * TIMEOUT)
            with Wire(proxy.address) as client:
                assert client.ask("PUBLISH", "c", "m") in (b":1\r\n", b":2\r\n")
                assert b"m" in subscribed.reply()
                assert b"m" in pattern.reply()
                assert client.ask("RPUSH", "{q}", "x") == b":1\r\n"
                assert b"x" in blocked.reply()
                assert b"PUBLISH" in looking.reply()

    @pytest.mark.drill
    def test_who_waits_for_a_reply_may_be_silent(self, site: Site, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client:
            script = "local t = redis.call('TIME')[1]; while redis.call('TIME')[1] - t < 4 do end; return 1"
            assert client.ask("EVAL", script, 1, "k") == b":1\r\n"
            time.sleep(TIMEOUT / 4)
            assert client.ask("PING") == b"+PONG\r\n"

    @pytest.mark.drill
    def test_whom_the_proxy_makes_wait_may_be_silent(self, site: Site, serve: Serve) -> None:
        users = "[[users]]\nname = 'default'\nnopass = true\nmax_byte_rate = '10kb'\n"
        config = f'[limits]\nidle_timeout = "{TIMEOUT / 2}s"\n{users}'
        proxy = serve("--static", site.shards.static, config=config)
        with Wire(proxy.address) as client:
            assert client.ask("SET", "k", b"x" * 40_000) == OK
            client.send(pack("GET", "j"))
            assert client.reply() == b"$-1\r\n"
        assert count(proxy, "idle timeout") == 0

    @pytest.mark.drill
    def test_an_upload_is_no_silence(self, proxy: ProxyProcess) -> None:
        size = 1_000_000
        with Wire(proxy.address) as client:
            request = pack("SET", "k", b"x" * size)
            for at in range(0, len(request), size // 10):
                client.send(request[at : at + size // 10])
                time.sleep(TIMEOUT / 4)
            assert client.reply() == OK


class TestRequest:
    @pytest.fixture
    def proxy(self, site: Site, serve: Serve) -> ProxyProcess:
        return serve("--static", site.shards.static, config=f'[limits]\nrequest_read_timeout = "{TIMEOUT}s"\n')

    @pytest.mark.parametrize(
        "begun",
        [b"*", b"*2\r\n$3\r\nGET\r\n$1\r\n", b"PIN", pack("SET", "k", b"x" * 1_000_000)[:-10]],
        ids=["first byte", "an argument", "inline", "large"],
    )
    def test_a_request_of_which_no_more_comes(self, proxy: ProxyProcess, begun: bytes) -> None:
        with Wire(proxy.address) as client:
            assert client.ask("PING") == b"+PONG\r\n"
            client.send(begun)
            assert TIMEOUT / 2 <= closed_after(client) < TIMEOUT + LATE
        assert count(proxy, "request read timeout") == 1

    @pytest.mark.drill
    def test_between_requests_a_client_may_be_silent(self, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client:
            assert client.ask("PING") == b"+PONG\r\n"
            time.sleep(3 * TIMEOUT)
            assert client.ask("SET", "k", b"x" * 200_000) == OK
            time.sleep(3 * TIMEOUT)
            assert client.ask("PING") == b"+PONG\r\n"

    @pytest.mark.parametrize("size", [drilled(10), 400_000])
    @pytest.mark.drill
    def test_a_slow_request_goes_on_as_long_as_bytes_come(self, proxy: ProxyProcess, size: int) -> None:
        request = pack("SET", "k", b"x" * size)
        step = max(len(request) // 10, 1)
        with Wire(proxy.address) as client:
            for at in range(0, len(request), step):
                client.send(request[at : at + step])
                time.sleep(TIMEOUT / 3)
            assert client.reply() == OK

    @pytest.mark.drill
    def test_half_a_request_behind_a_blocked_one(self, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client, Wire(proxy.address) as other:
            client.send(pack("BLPOP", "{q}", 0) + b"*1\r\n$4\r\nPI")
            time.sleep(3 * TIMEOUT)
            assert other.ask("RPUSH", "{q}", "x") == b":1\r\n"
            assert b"x" in client.reply()
            client.send(b"NG\r\n")
            assert client.reply() == b"+PONG\r\n"


def test_the_defaults_close_nobody_who_uses_it(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static)
    with Wire(proxy.address) as client:
        client.send(pack("PING")[:5])
        time.sleep(2 * TIMEOUT)
        client.send(pack("PING")[5:])
        assert client.reply() == b"+PONG\r\n"
    assert eventually(lambda: "slotgate_clients 0.0" in proxy.http("/metrics")[1])
