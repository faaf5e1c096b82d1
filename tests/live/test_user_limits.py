"""How many clients a user may have, and how much a user or an address may ask for in a second or at a time."""

import contextlib
import selectors
import threading
import time

import pytest

from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import metric
from tests.support.site import Site
from tests.support.wire import Wire, frames, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
NOT_READ = "slotgate_clients_not_read_total"
REFUSED = "slotgate_requests_refused_total"
USERS = '[[users]]\nname = "app"\npassword = "a"\n{}\n[[users]]\nname = "other"\npassword = "o"\n'
OPEN = '[[users]]\nname = "default"\nnopass = true\n'


def users(limits: str = "", app: str = "") -> str:
    return f"[limits]\n{limits}\n{USERS.format(app)}"


def logged_in(address: str, user: str = "app") -> Wire:
    client = Wire(address)
    assert client.ask("AUTH", user, user[0]) == OK
    return client


class TestClients:
    @pytest.mark.parametrize("config", [users("max_clients_per_user = 3"), users(app="max_clients = 3")])
    def test_a_user_has_so_many(self, site: Site, serve: Serve, crowd: contextlib.ExitStack, config: str) -> None:
        key = "limits.max_clients_per_user" if "per_user" in config else "users.max_clients"
        refused = f"-ERR max number of clients reached for user 'app' ({key} = 3)\r\n".encode()
        proxy = serve("--static", site.shards.static, config=config)
        inside = [crowd.enter_context(logged_in(proxy.address)) for _ in range(3)]
        late = crowd.enter_context(Wire(proxy.address))
        assert late.ask("AUTH", "app", "a") == refused
        assert late.ask("HELLO", "3", "AUTH", "app", "a") == refused
        assert late.ask("GET", "k") == b"-NOAUTH Authentication required.\r\n"
        assert metric(proxy, REFUSED, limit="max_clients_per_user") == 2
        assert late.ask("AUTH", "other", "o") == OK
        assert late.ask("AUTH", "app", "a") == refused
        assert late.ask("ACL", "WHOAMI") == b"$5\r\nother\r\n"
        assert late.ask("SET", "k", "v") == OK
        assert inside[0].ask("AUTH", "app", "a") == OK, "it is counted already"
        assert inside[0].ask("RESET") == b"+RESET\r\n"
        assert late.ask("AUTH", "app", "a") == OK
        assert inside[0].ask("AUTH", "app", "a") == refused
        inside[1].close()
        assert eventually(lambda: inside[0].ask("AUTH", "app", "a") == OK)
        assert metric(proxy, "slotgate_auth_failures_total", reason="wrong password") == 0

    def test_the_default_user(self, site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
        """Who is logged in by connecting does not keep those out who log in as somebody else."""
        config = users("max_clients_per_user = 2\nauth_timeout = '2s'") + OPEN
        refused = b"-ERR max number of clients reached for user 'default' (limits.max_clients_per_user = 2)\r\n"
        proxy = serve("--static", site.shards.static, config=config)
        inside = [crowd.enter_context(Wire(proxy.address)) for _ in range(2)]
        assert [client.ask("SET", "k", "v") for client in inside] == [OK, OK]
        late = crowd.enter_context(Wire(proxy.address))
        for request in ("GET", "k"), ("PING",), ("PING",), ("HELLO", "3"), ("RESET",), ("PING",):
            assert late.ask(*request) == (b"+RESET\r\n" if request == ("RESET",) else refused)
        assert late.ask("AUTH", "app", "a") == OK
        assert late.ask("GET", "k") == b"$1\r\nv\r\n"
        assert late.ask("RESET") == b"+RESET\r\n"
        assert late.ask("GET", "k") == refused
        assert late.ask("AUTH", "other", "o") == OK
        with Wire(proxy.address) as silent:
            assert silent.closed(), "it has to log in within auth_timeout"
        assert inside[0].ask("AUTH", "app", "a") == OK
        with Wire(proxy.address) as client:
            assert client.ask("PING") == PONG


class TestRefused:
    def test_commands(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=users("on_limit = 'refuse'", "max_command_rate = 50"))
        over = b"-ERR user 'app' is over its limit of 50 commands/s\r\n"
        with logged_in(proxy.address) as client, logged_in(proxy.address, "other") as other:
            began = time.monotonic()
            client.send(pipeline(*[("SET", f"k{n}", "v") for n in range(300)]))
            replies = client.replies(300)
            seconds = time.monotonic() - began
            assert set(replies) == {OK, over}
            assert 50 <= replies.count(OK) <= 50 + 50 * seconds + 1
            assert replies[:50] == [OK] * 50
            assert metric(proxy, REFUSED, limit="max_command_rate_per_user") == replies.count(over)
            other.send(pipeline(*[("GET", f"k{n}") for n in range(300)]))
            assert other.replies(300).count(b"$1\r\nv\r\n") == replies.count(OK)
            time.sleep(0.5)
            assert client.ask("GET", "k0") == b"$1\r\nv\r\n"

    def test_commands_of_every_path(self, site: Site, serve: Serve) -> None:
        """Commands that are forwarded, split, answered by the proxy, unknown or inline count once each."""
        proxy = serve("--static", site.shards.static, config=users("on_limit = 'refuse'", "max_command_rate = 7"))
        over = b"-ERR user 'app' is over its limit of 7 commands/s\r\n"
        requests = [
            *(pack("SET", "a", "1"), pack("MGET", "a", "b", "c"), pack("PING"), b"PING\r\n", b"\r\n", pack("nothing")),
            *(
                pack("CLIENT", "ID"),
                pack("GET"),
                pack("PING"),
                b"GET a\r\n",
                pack("CLIENT", "nothing"),
                pack("nothing"),
            ),
            *(pack("EVAL", "return 1", "1", "a"), pack("MSET", "a", "1", "b", "2")),
        ]
        with logged_in(proxy.address) as client:
            time.sleep(1.0)
            client.send(b"".join(requests))
            replies = client.replies(13)
        assert [reply == over for reply in replies[:7]] == [False] * 7
        assert replies[8:] == [over] * 5 or replies[8:].count(over) >= 3, "a few may be allowed by then"

    def test_in_a_transaction(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=users("on_limit = 'refuse'", "max_command_rate = 5"))
        over = b"-ERR user 'app' is over its limit of 5 commands/s\r\n"
        with logged_in(proxy.address) as client:
            time.sleep(1.0)
            client.send(pipeline(("SET", "{a}", "0"), ("MULTI",), *[("INCR", "{a}")] * 5))
            replies = client.replies(7)
            assert replies[:5] == [OK, OK, *[b"+QUEUED\r\n"] * 3]
            assert over in replies[5:]
            time.sleep(0.7)
            assert client.ask("EXEC") == b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            assert client.ask("GET", "{a}") == b"$1\r\n0\r\n"
            time.sleep(1.0)
            client.send(pipeline(("MULTI",), ("INCR", "{a}"), *[("PING",)] * 3, ("EXEC",)))
            replies = client.replies(6)
            aborted = b"-EXECABORT Transaction discarded because of: " + over[5:]
            assert replies[5] == aborted or replies[5].startswith(b"*4\r\n")
            time.sleep(1.0)
            assert client.ask("PING") == PONG, "the transaction has ended"
            assert client.ask("GET", "{a}") in (b"$1\r\n0\r\n", b"$1\r\n1\r\n")

    def test_bytes(self, site: Site, serve: Serve) -> None:
        config = users("on_limit = 'refuse'", "max_byte_rate = '100kb'")
        proxy = serve("--static", site.shards.static, config=config)
        over = b"-ERR user 'app' is over its limit of 102400 bytes/s\r\n"
        with logged_in(proxy.address) as client, logged_in(proxy.address, "other") as other:
            client.send(pipeline(*[("SET", f"k{n}", "v" * 10000) for n in range(40)]))
            replies = client.replies(40)
            assert set(replies) == {OK, over}
            assert 10 <= replies.count(OK) <= 30
            other.send(pipeline(*[("SET", f"k{n}", "v" * 10000) for n in range(40)]))
            assert other.replies(40) == [OK] * 40
            time.sleep(1.2)
            client.send(pipeline(*[("GET", f"k{n}") for n in range(40)]))
            replies = client.replies(40)
            assert over in replies or sum(map(len, replies)) > 100_000
            assert metric(proxy, REFUSED, limit="max_byte_rate_per_user") >= 10

    def test_an_address(self, site: Site, serve: Serve) -> None:
        config = users("on_limit = 'refuse'\nmax_command_rate_per_address = 20")
        proxy = serve("--static", site.shards.static, config=config)
        over = b"-ERR address 127.0.0.1 is over its limit of 20 commands/s\r\n"
        with logged_in(proxy.address) as client, logged_in(proxy.address, "other") as other:
            client.send(pipeline(*[("PING",)] * 60))
            replies = client.replies(60)
            assert set(replies) == {PONG, over}
            assert replies.count(PONG) >= 15
            other.send(pipeline(*[("PING",)] * 20))
            assert over in other.replies(20), "they share the address"
            assert metric(proxy, REFUSED, limit="max_command_rate_per_address") >= 30

    def test_a_new_connection_has_no_new_bucket(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=users("on_limit = 'refuse'", "max_command_rate = 10"))
        answered = 0
        began = time.monotonic()
        for _ in range(20):
            with logged_in(proxy.address) as client:
                client.send(pipeline(*[("PING",)] * 10))
                answered += client.replies(10).count(PONG)
        assert answered <= 10 + 10 * (time.monotonic() - began) + 1


class TestNoWayAround:
    """A limit is not escaped by logging in again, nor by other connections or modes."""

    AUTH = pack("AUTH", "app", "a")

    @pytest.mark.parametrize(
        ("batch", "answered"),
        [
            (pack("GET", "k") * 45 + pack("RESET"), b"$-1\r\n"),
            (pack("RESET"), b"+RESET\r\n"),
            (AUTH + pack("GET", "k") * 40 + pack("AUTH", "other", "o"), b"$-1\r\n"),
            (AUTH + pack("AUTH", "other", "o"), b"+OK\r\n"),
            (AUTH + pack("MULTI") + pack("RESET"), b"+RESET\r\n"),
        ],
        ids=["RESET", "only RESET", "other user", "only AUTH", "MULTI"],
    )
    def test_logins_in_a_batch(self, site: Site, serve: Serve, batch: bytes, answered: bytes) -> None:
        limits = "on_limit = 'refuse'\nmax_command_rate_per_user = 50\nmax_command_rate_per_address = 70\n"
        proxy = serve("--static", site.shards.static, config=users(limits) + OPEN)
        with Wire(proxy.address) as client:
            began = time.monotonic()
            client.send(batch * 40)
            replies = client.replies(40 * batch.count(b"*"))
            assert replies.count(answered) <= 70 + 70 * (time.monotonic() - began) + 1
            assert any(b" is over its limit of " in reply for reply in replies) or len(replies) <= 70

    @pytest.mark.parametrize("again", [pack("RESET"), pack("RESET") + AUTH, AUTH + pack("AUTH", "other", "o")])
    def test_bytes_in_a_batch(self, site: Site, serve: Serve, again: bytes) -> None:
        limits = "on_limit = 'refuse'\nmax_byte_rate_per_user = '100kb'\nmax_byte_rate_per_address = '100kb'\n"
        proxy = serve("--static", site.shards.static, config=users(limits) + OPEN)
        batch = pack("SET", "k", "v" * 20_000) + again
        with Wire(proxy.address) as client:
            began = time.monotonic()
            client.send(batch * 40)
            replies = client.replies(40 * (1 + again.count(b"*")))
            size = 20_000 * sum(reply == OK for reply in replies[:: 1 + again.count(b"*")])
            assert size <= 150_000 + 102_400 * (time.monotonic() - began)

    RICH = pack("AUTH", "rich", "r")
    GET = pack("GET", "k")

    @pytest.mark.parametrize(
        ("batch", "over"),
        [
            (RICH + GET + AUTH, False),
            (RICH + GET * 3 + AUTH, False),
            (RICH + GET + pack("RESET"), False),
            (RICH + GET + pack("HELLO", 3, "AUTH", "app", "a"), False),
            (RICH + pack("MULTI") + GET + AUTH + pack("EXEC"), False),
            (RICH + GET + pack("MULTI") + AUTH + pack("EXEC"), False),
            (RICH + GET + pack("AUTH", "app", "wrong") + AUTH, False),
            (AUTH + GET + RICH + GET + AUTH, True),
            (AUTH + GET + RICH + AUTH, True),
            (AUTH + GET + pack("HELLO", 2, "AUTH", "rich", "r") + AUTH, True),
            (AUTH + pack("MULTI") + GET + RICH + pack("EXEC") + AUTH, True),
            (AUTH + GET + pack("MULTI") + RICH + pack("EXEC") + AUTH, True),
            (pack("RESET") + GET + RICH + pack("RESET"), True),
            (RICH + pack("RESET") + GET + RICH + GET + pack("RESET"), True),
        ],
    )
    def test_replies_on_their_way_count_for_who_asked(self, site: Site, serve: Serve, batch: bytes, over: bool) -> None:
        rich = "[[users]]\nname = 'rich'\npassword = 'r'\nmax_byte_rate = '1gb'\n"
        limits = "on_limit = 'refuse'\nmax_byte_rate_per_user = '100kb'"
        proxy = serve("--static", site.shards.static, config=users(limits) + OPEN + rich)
        self.fill(proxy.address)
        with Wire(proxy.address) as client:
            client.send(batch)
            replies = client.replies(batch.count(b"*"))
            replies.append(client.ask("GET", "none"))
            assert any(reply.startswith(b"-ERR user") for reply in replies) is over

    @pytest.mark.parametrize(
        "limit", ["max_byte_rate_per_user = '100kb'", "max_byte_rate_per_address = '100kb'"], ids=["user", "address"]
    )
    def test_replies_of_a_connection_that_is_closed(self, site: Site, serve: Serve, limit: str) -> None:
        proxy = serve("--static", site.shards.static, config=users(f"on_limit = 'refuse'\n{limit}"))
        self.fill(proxy.address)
        large = 0
        for _ in range(20):
            with Wire(proxy.address) as client:
                client.send(self.AUTH + pack("GET", "k"))
                large += sum(len(reply) > 100_000 for reply in client.replies(2))
        assert large <= 2

    @pytest.mark.parametrize(
        "mode", [pack("SUBSCRIBE", "c"), pack("CLIENT", "TRACKING", "ON")], ids=["subscribed", "tracking"]
    )
    def test_replies_of_a_client_that_receives_messages(self, site: Site, serve: Serve, mode: bytes) -> None:
        config = users("on_limit = 'refuse'", "max_byte_rate = '100kb'")
        proxy = serve("--static", site.shards.static, config=config)
        self.fill(proxy.address)
        with logged_in(proxy.address) as client:
            assert client.ask("HELLO", "3").startswith(b"%7")
            client.send(mode)
            assert client.reply()
            large = sum(len(client.ask("GET", "k")) > 100_000 for _ in range(10))
        assert large == 1

    def fill(self, address: str) -> None:
        """Set k to a megabyte."""
        with logged_in(address, "other") as other:
            assert other.ask("SET", "k", "v" * 1_000_000) == OK


class TestDelayed:
    @pytest.mark.parametrize("clients", [1, 8])
    def test_commands(self, site: Site, serve: Serve, crowd: contextlib.ExitStack, clients: int) -> None:
        """Everything is answered, no faster than the limit, and nobody else waits."""
        proxy = serve("--static", site.shards.static, config=users(app="max_command_rate = 100"))
        wires = [crowd.enter_context(logged_in(proxy.address)) for _ in range(clients)]
        count = 240 // clients
        with logged_in(proxy.address, "other") as other:
            began = time.monotonic()
            for wire in wires:
                wire.send(pipeline(*[("INCR", "n"), ("PING",)] * (count // 2)))
            slowest = 0.0
            for _ in range(50):
                asked = time.monotonic()
                other.ask("GET", "n")
                slowest = max(slowest, time.monotonic() - asked)
                time.sleep(0.01)
            assert all(len(wire.replies(count)) == count for wire in wires)
            seconds = time.monotonic() - began
        assert 1.3 <= seconds <= 4.0, "240 commands take 1.4 seconds, behind the 100 that come at once"
        assert slowest < 0.5
        assert metric(proxy, NOT_READ, limit="max_command_rate_per_user") >= 1
        assert metric(proxy, REFUSED, limit="max_command_rate_per_user") == 0

    def test_one_by_one(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=users(app="max_command_rate = 40"))
        with logged_in(proxy.address) as client:
            began = time.monotonic()
            for number in range(100):
                assert client.ask("SET", "k", number) == OK
            assert time.monotonic() - began >= 1.3

    def test_bytes_and_replies(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=users(app="max_byte_rate = '500kb'"))
        with logged_in(proxy.address, "other") as other, logged_in(proxy.address) as client:
            assert other.ask("SET", "k", "v" * 100_000) == OK
            began = time.monotonic()
            for _ in range(12):
                client.ask("GET", "k")
            assert time.monotonic() - began >= 1.0
            assert metric(proxy, NOT_READ, limit="max_byte_rate_per_user") >= 1

    def test_little_is_read_of_a_flood(self, site: Site, serve: Serve) -> None:
        """A client that sends without end is not read from: what it sends waits in the system's buffers."""
        proxy = serve("--static", site.shards.static, config=users(app="max_command_rate = 10"))
        with logged_in(proxy.address) as client:
            client.socket.setblocking(False)
            flood = pipeline(*[("SET", "k", "v" * 1000)] * 1000)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while sent < 100_000_000:
                    sent += client.socket.send(flood)
            time.sleep(0.3)
            assert metric(proxy, "slotgate_client_bytes_total", direction="in") < 1_500_000
            assert sent < 100_000_000

    def test_who_leaves_while_waiting(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=users(app="max_command_rate = 200"))
        for _ in range(20):
            with logged_in(proxy.address) as client:
                client.send(pipeline(*[("SET", "k", "v")] * 40))
        assert eventually(lambda: metric(proxy, "slotgate_clients") == 0)
        with logged_in(proxy.address, "other") as other:
            assert other.ask("PING") == PONG

    def test_the_end_of_input(self, site: Site, serve: Serve) -> None:
        """All requests of a client that sends no more are answered, however long that takes."""
        proxy = serve("--static", site.shards.static, config=users(app="max_command_rate = 20"))
        with logged_in(proxy.address) as client:
            client.send(pipeline(*[("SET", "k", "v")] * 50))
            client.socket.shutdown(1)
            assert frames(client.rest()) == [OK] * 50


class TestInFlight:
    def test_a_user_has_so_many(self, site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
        proxy = serve("--static", site.shards.static, config=users(app="max_in_flight = 8"))
        wires = [crowd.enter_context(logged_in(proxy.address)) for _ in range(4)]
        for wire in wires:
            wire.send(pipeline(*[("INCR", "n")] * 500))
        assert sorted(n for wire in wires for n in map(int, (r[1:-2] for r in wire.replies(500)))) == [*range(1, 2001)]
        assert metric(proxy, NOT_READ, limit="max_in_flight_per_user") >= 10

    def test_blocking_commands_do_not_count(self, site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
        proxy = serve("--static", site.shards.static, config=users("max_in_flight_per_user = 2"))
        blocked = [crowd.enter_context(logged_in(proxy.address)) for _ in range(4)]
        for wire in blocked:
            wire.send(pack("BLPOP", "list", "0"))
        with logged_in(proxy.address) as client:
            assert eventually(lambda: b"blocked_clients:4" in client.ask("INFO", "clients"))
            assert client.ask("RPUSH", "list", "1", "2", "3", "4") == b":4\r\n"
        assert all(wire.reply() for wire in blocked)


class Busy(threading.Thread):
    """Clients of one user that each keep ``depth`` slow requests at one shard unanswered, until they are stopped."""

    def __init__(self, address: str, clients: int, depth: int) -> None:
        super().__init__(daemon=True)
        self.wires = [logged_in(address) for _ in range(clients)]
        self.depth = depth
        self.stopped = False
        self.answered = 0

    def run(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for wire in self.wires:
                waiting.register(wire.socket, selectors.EVENT_READ, wire.socket)
                wire.socket.settimeout(1.0)
                wire.socket.sendall(SLOW * self.depth)
            while not self.stopped:
                for key, _ in waiting.select(0.1):
                    count = key.data.recv(65536).count(b"\n")
                    self.answered += count
                    if count:
                        with contextlib.suppress(TimeoutError):
                            key.data.sendall(SLOW * count)

    def stop(self) -> None:
        self.stopped = True
        self.join()
        for wire in self.wires:
            wire.close()


KEY = "large"
SLOW = pack("BITCOUNT", KEY)
"""A request that keeps a server busy for hundreds of microseconds, and the proxy no longer than any other."""


class TestFairShares:
    def slowest_of_hundred(self, address: str, clients: int, depth: int) -> float:
        """The 99th percentile of another user's latency at the shard while ``clients`` are busy there."""
        busy = Busy(address, clients, depth)
        busy.start()
        try:
            with logged_in(address, "other") as other:
                time.sleep(0.3)
                seconds = []
                for _ in range(200):
                    began = time.monotonic()
                    other.ask("GET", KEY + "{" + KEY + "}")
                    seconds.append(time.monotonic() - began)
            assert busy.answered > 100
        finally:
            busy.stop()
        return sorted(seconds)[-3]

    @pytest.mark.drill
    def test_the_flood_of_one_user(self, site: Site, serve: Serve) -> None:
        """A shard is saturated by one user's requests, one by one and then in floods. Another user notices no
        difference. The best of some rounds counts: the machine may be busy with other things."""
        proxy = serve("--static", site.shards.static, config=users(app="max_in_flight = 16"))
        with logged_in(proxy.address) as client:
            assert client.ask("SETRANGE", KEY, 8_000_000, "x") == b":8000001\r\n"
        calm, flood = [], []
        for rounds in range(1, 7):
            calm.append(self.slowest_of_hundred(proxy.address, 16, 1))
            flood.append(self.slowest_of_hundred(proxy.address, 16, 200))
            if rounds > 1 and min(flood) < 1.5 * min(calm):
                break
        assert min(flood) < 1.5 * min(calm), (calm, flood)
