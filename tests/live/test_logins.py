"""What a client may send before its login, and how long those wait that guess passwords."""

import contextlib
import hashlib
import itertools
import select
import time

import pytest

from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import metric
from tests.support.site import Site
from tests.support.wire import Wire, frames, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONG = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
SLOW = hashlib.scrypt(b"s", salt=b"salt" * 4, n=1024, r=8, p=1).hex()
USERS = f"""
[[users]]
name = "app"
password = "a"
[[users]]
name = "slow"
password_hash = "scrypt:1024:8:1:{(b"salt" * 4).hex()}:{SLOW}"
"""
MANY = b"-ERR more than 10 commands before the login (limits.auth_commands)\r\n"
LARGE = b"-ERR more than 16384 bytes before the login (limits.auth_bytes)\r\n"
CLOSED = "slotgate_clients_rejected_total"
FAILED = "slotgate_auth_failures_total"


class TestBeforeLogin:
    def test_so_many_commands(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=USERS)
        with Wire(proxy.address) as client:
            client.send(pack("PING") * 30)
            assert frames(client.rest()) == [NOAUTH] * 10 + [MANY]
        with Wire(proxy.address) as client:
            assert [client.ask("GET", "k") for _ in range(10)] == [NOAUTH] * 10
            assert client.ask("GET", "k") == MANY
            assert client.closed()
        with Wire(proxy.address) as client:
            client.send(b"PING\r\nnothing\r\n\r\n" * 5 + b"*1\r\n$4")
            assert len(frames(client.rest())) == 11, "half a request counts too"
        assert metric(proxy, CLOSED, reason="login limit") == 3

    def test_so_many_bytes(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=USERS)
        half = b"*2\r\n$4\r\nECHO\r\n$16000\r\n"
        for sent in (
            pack("ECHO", "x" * 12000) * 2,
            half + b"x" * 16000 + b"\r\n" + half,
            b"*9\r\n" + b"$10000\r\n" + b"x" * 10000 + b"\r\n$10000\r\n",
            b"x" * 17000,
        ):
            with Wire(proxy.address) as client:
                client.send(sent)
                assert frames(client.rest())[-1] == LARGE
        with Wire(proxy.address) as client:
            client.send(half)
            time.sleep(0.1)
            for _ in range(16):
                client.send(b"x" * 1000)
            client.send(b"\r\n")
            assert client.reply() == NOAUTH
        assert metric(proxy, CLOSED, reason="login limit") == 4

    def test_what_libraries_send_is_no_problem(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=USERS)
        with Wire(proxy.address) as client:
            first = pipeline(
                ("HELLO", "3"), ("CLIENT", "SETNAME", "x"), ("CLIENT", "SETINFO", "LIB-NAME", "y"), ("PING",)
            )
            client.send(first + pack("AUTH", "app", "a") + pipeline(*[("SET", "k", "v" * 10000)] * 100))
            assert client.replies(105)[4:] == [OK] * 101
            assert [client.ask("PING") for _ in range(50)] == [b"+PONG\r\n"] * 50
            assert client.ask("RESET") == b"+RESET\r\n"
            assert [client.ask("PING") for _ in range(10)] == [NOAUTH] * 10
            assert client.ask("AUTH", "app", "a") == MANY

    def test_logins_in_the_middle_of_a_pipeline(self, site: Site, serve: Serve) -> None:
        """What follows is carried out under the limits of that time: none, those before the login, none."""
        proxy = serve("--static", site.shards.static, config=USERS)
        with Wire(proxy.address) as client:
            login = pack("AUTH", "app", "a")
            client.send(login + pack("PING") + pack("RESET") + pack("GET", "k") + login + pack("GET", "k") * 20)
            replies = client.replies(25)
            assert replies[:5] == [OK, b"+PONG\r\n", b"+RESET\r\n", NOAUTH, OK]
            assert replies[5:] == [b"$-1\r\n"] * 20

    def test_it_can_be_set(self, site: Site, serve: Serve) -> None:
        config = f"[limits]\nauth_commands = 0\nauth_bytes = '0b'\n{USERS}"
        proxy = serve("--static", site.shards.static, config=config)
        with Wire(proxy.address) as client:
            client.send(pack("ECHO", "x" * 10000) * 50)
            assert client.replies(50) == [NOAUTH] * 50
            assert client.ask("AUTH", "app", "a") == OK

    def test_nobody_has_to_log_in(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static)
        with Wire(proxy.address) as client:
            client.send(pack("ECHO", "x" * 10000) * 50)
            assert len(client.replies(50)) == 50


def guess(address: str, count: int, user: str = "app") -> None:
    """Fail to log in so many times, over as many connections as that takes."""
    while count:
        some = min(count, 10)
        count -= some
        with Wire(address) as client:
            client.send(pack("AUTH", user, "wrong") * some)
            assert client.replies(some) == [WRONG] * some


class TestGuessing:
    def test_it_gets_slower(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=USERS)
        guess(proxy.address, 10)
        with Wire(proxy.address) as client:
            began = time.monotonic()
            client.send(pack("AUTH", "app", "wrong") * 4 + pack("PING") + pack("AUTH", "app", "a") + pack("PING"))
            replies = client.replies(7)
            seconds = time.monotonic() - began
        assert replies == [WRONG] * 4 + [NOAUTH, OK, b"+PONG\r\n"], "the requests behind it wait in their order"
        assert seconds >= 0.1 + 0.2 + 0.4 + 0.8 + 1.6 - 0.3
        assert metric(proxy, "slotgate_logins_delayed_total") == 5
        assert metric(proxy, FAILED, reason="wrong password") == 14

    @pytest.mark.parametrize("user", ["app", drilled("slow"), drilled("nobody")])
    def test_five_thousand_guesses(self, site: Site, serve: Serve, crowd: contextlib.ExitStack, user: str) -> None:
        """Few of them are checked, and a client that is logged in notices nothing."""
        proxy = serve("--static", site.shards.static, config=USERS)
        inside = crowd.enter_context(Wire(proxy.address))
        assert inside.ask("AUTH", "app", "a") == OK
        began = time.monotonic()
        quickest, connections = 1.0, 0
        while time.monotonic() < began + 1.0:
            for _ in range(10):
                client = crowd.enter_context(Wire(proxy.address))
                client.send(pack("AUTH", user, f"guess{connections}") * 10)
                connections += 1
            asked = time.monotonic()
            assert inside.ask("SET", "k", "v") == OK
            quickest = min(quickest, time.monotonic() - asked)
        failed = sum(metric(proxy, FAILED, reason=reason) for reason in ("wrong password", "unknown user"))
        seconds = time.monotonic() - began
        assert failed <= 20 + connections * (1 + seconds / 2), "each connection has one guess in two seconds"
        assert quickest < 0.1, "the machine may be slow now and then, but not the proxy always"

    @pytest.mark.drill
    def test_who_is_right_waits_no_longer_than_the_most(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=f"[limits]\nauth_delay_max = '400ms'\n{USERS}")
        guess(proxy.address, 16)
        for user, password in ("app", "a"), ("slow", "s"):
            with Wire(proxy.address) as client:
                began = time.monotonic()
                assert client.ask("HELLO", "3", "AUTH", user, password).startswith(b"%7\r\n")
                assert 0.35 <= time.monotonic() - began <= 2.0

    def test_it_can_be_off(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=f"[limits]\nauth_delay_max = '0s'\n{USERS}")
        began = time.monotonic()
        guess(proxy.address, 60)
        assert time.monotonic() - began < 3
        assert metric(proxy, "slotgate_logins_delayed_total") == 0

    def test_a_transaction_is_no_way_around(self, site: Site, serve: Serve) -> None:
        config = f"{USERS}\n[[users]]\nname = 'default'\nnopass = true\n"
        proxy = serve("--static", site.shards.static, config=config)
        with Wire(proxy.address) as client:
            client.send(pipeline(("MULTI",), *[("AUTH", "app", "wrong")] * 30, ("AUTH", "app", "a"), ("EXEC",)))
            replies = frames(b"".join(client.replies(33)[32:]))
            assert replies[0].count(WRONG) == 31, "after ten failures the right one is not even checked"
            assert client.ask("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"
        assert metric(proxy, FAILED, reason="not delayed") == 21

    def test_a_login_in_a_transaction_delays_nobody_else(self, site: Site, serve: Serve) -> None:
        """It is refused while it would have to wait: the password was not checked, and so it did not fail."""
        config = f"{USERS}\n[[users]]\nname = 'default'\nnopass = true\n"
        proxy = serve("--static", site.shards.static, config=config)
        guess(proxy.address, 10)
        with Wire(proxy.address) as client:
            client.send(pipeline(("MULTI",), *[("AUTH", "app", "a")] * 20, ("EXEC",)))
            assert client.replies(22)[21].count(WRONG) == 20
            began = time.monotonic()
            assert client.ask("AUTH", "app", "a") == OK
            assert time.monotonic() - began < 1.0, "one delay, as after ten failures"

    def test_who_leaves_is_forgotten(self, site: Site, serve: Serve) -> None:
        proxy = serve("--static", site.shards.static, config=USERS)
        guess(proxy.address, 14)
        for _ in range(50):
            with Wire(proxy.address) as client:
                client.send(pack("AUTH", "app", "wrong"))
        assert eventually(lambda: metric(proxy, "slotgate_clients") == 0)
        assert metric(proxy, FAILED, reason="wrong password") <= 15

    @pytest.mark.drill
    def test_a_user_who_is_guessed_at_from_elsewhere(self, site: Site, serve: Serve) -> None:
        """Its logins from another address wait a tenth as long, which nobody notices."""
        proxy = serve("--static", site.shards.static, config=USERS)
        guess(proxy.address, 16)
        with Wire(proxy.address, source="127.0.0.9") as client:
            began = time.monotonic()
            assert client.ask("AUTH", "app", "a") == OK
            assert time.monotonic() - began < 1.0
        with Wire(proxy.address) as client:
            began = time.monotonic()
            assert client.ask("AUTH", "app", "a") == OK
            assert time.monotonic() - began >= 1.5

    def test_passwords_that_take_long(self, site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
        """Who guesses such a password from one address does not hold up the logins from another one."""
        salt = b"salt" * 4
        right = hashlib.scrypt(b"s", salt=salt, n=16384, r=8, p=1).hex()
        config = f'[[users]]\nname = "slow"\npassword_hash = "scrypt:16384:8:1:{salt.hex()}:{right}"\n'
        proxy = serve(
            "--static", site.shards.static, config=f"drain_timeout = '1s'\n[limits]\nauth_delay_max = '0s'\n{config}"
        )
        for number in range(150):
            crowd.enter_context(Wire(proxy.address)).send(pack("AUTH", "slow", f"guess {number}"))
        with Wire(proxy.address, source="127.0.0.9") as client:
            assert client.ask("AUTH", "slow", "s") == OK
            assert metric(proxy, FAILED, reason="wrong password") < 100, "most of the guesses are not even verified"

    def test_who_waits_for_its_turn_is_not_closed(self, site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
        """A right password behind many wrong ones from the same address is accepted, however long it takes to verify
        them all."""
        limits = "[limits]\nauth_timeout = '500ms'\nauth_delay_max = '0s'\n"
        salt = b"salt" * 4
        right = hashlib.scrypt(b"s", salt=salt, n=16384, r=8, p=1).hex()
        slow = f'[[users]]\nname = "slow"\npassword_hash = "scrypt:16384:8:1:{salt.hex()}:{right}"\n'
        proxy = serve("--static", site.shards.static, config=f"drain_timeout = '1s'\n{limits}{slow}")
        for number in range(40):
            crowd.enter_context(Wire(proxy.address)).send(pack("AUTH", "slow", f"guess {number}"))
        with Wire(proxy.address) as client:
            began = time.monotonic()
            assert client.ask("AUTH", "slow", "s") == OK
            assert time.monotonic() - began > 0.7, "it has waited longer than the timeout"

    def test_a_flood_keeps_nobody_out(self, site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
        """A right password comes to its turn behind the guesses that came earlier, though its client is closed and asks
        again several times, and though there are always more guesses waiting than can be verified in time."""
        limits = "[limits]\nauth_timeout = '300ms'\nauth_delay_max = '0s'\n"
        salt = b"salt" * 4
        right = hashlib.scrypt(b"s", salt=salt, n=4096, r=8, p=1).hex()
        slow = f'[[users]]\nname = "slow"\npassword_hash = "scrypt:4096:8:1:{salt.hex()}:{right}"\n'
        proxy = serve("--static", site.shards.static, config=f"drain_timeout = '1s'\n{limits}{slow}")
        guesses = itertools.count()

        def ask(password: str) -> Wire:
            client = crowd.enter_context(Wire(proxy.address))
            client.send(pack("AUTH", "slow", password))
            return client

        flood = [ask(f"guess {next(guesses)}") for _ in range(400)]
        client, asked = ask("s"), 1
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            ended, _, _ = select.select([client.socket, *(guess.socket for guess in flood)], [], [], 1)
            if client.socket in ended:
                with contextlib.suppress(ConnectionError):
                    assert client.reply() == OK
                    break
                client, asked = ask("s"), asked + 1
            for at, guess in enumerate(flood):
                if guess.socket in ended:
                    guess.close()
                    flood[at] = ask(f"guess {next(guesses)}")
        else:
            pytest.fail(f"the right password was refused {asked} times")
        assert asked > 1
