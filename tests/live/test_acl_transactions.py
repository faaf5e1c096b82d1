"""Transactions of users with rules, over the own fast path: what a plain server with the same users answers."""

from collections.abc import Iterator
from itertools import product

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, find_server, start_many
from proxy.session.users import DEFAULT_RULES
from tests.support.fixtures import Serve
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Argument, Wire, pipeline

pytestmark = pytest.mark.live

RULES = {
    "app": DEFAULT_RULES,
    "again": DEFAULT_RULES,
    "keyed": "on ~app:* &* +@all -@admin",
    "no-multi": "on ~* &* +@all -@admin -multi",
    "no-exec": "on ~* &* +@all -@admin -exec",
    "quiet": "on ~* &* +@all -@admin -client",
    "roles": "on ~* &* +@all -@admin +role +client|no-evict",
}
USERS = '[[users]]\nname = "default"\nnopass = true\nadmin = true\n' + "".join(
    f'[[users]]\nname = "{name}"\nrules = "{rules} >p"\n' for name, rules in RULES.items()
)
CONVERSATIONS: dict[str, list[tuple[Argument, ...]]] = {
    "its own": [("MULTI",), *[("PING",)] * 5, *[("ECHO", "x")] * 3, ("EXEC",)],
    "keys": [("MULTI",), *[("SET", "app:1", "v")] * 4, ("GET", "app:1"), ("EXEC",)],
    "other keys": [("MULTI",), *[("SET", "secret", "v")] * 4, ("PING",), ("EXEC",)],
    "mixed": [("MULTI",), ("SET", "app:1", "v"), ("PING",), ("SET", "app:1", "v"), ("PING",), ("EXEC",)],
    "discarded": [("MULTI",), ("PING",), ("PING",), ("DISCARD",), ("EXEC",)],
    "spoiled": [("MULTI",), ("NOSUCH",), ("PING",), ("PING",), ("PING",), ("EXEC",), ("PING",)],
    "denied within": [("MULTI",), ("PING",), ("CONFIG", "GET", "port"), ("PING",), ("PING",), ("EXEC",)],
    "names": [("MULTI",), *[("CLIENT", "SETNAME", "me")] * 3, ("CLIENT", "GETNAME"), ("EXEC",)],
    "roles": [
        ("ROLE",),
        ("ROLE",),
        ("MULTI",),
        ("CLIENT", "NO-EVICT", "OFF"),
        ("CLIENT", "NO-EVICT", "OFF"),
        ("EXEC",),
    ],
    "nothing": [("MULTI",), ("EXEC",), ("EXEC",), ("DISCARD",), ("MULTI",), ("MULTI",), ("DISCARD",)],
    "empty lines": [("MULTI",), ("PING",), ("EXEC",)],
}


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """One server, which has the same users."""
    with start_many(1, 0, binary=find_server()) as running:
        for name, rules in RULES.items():
            running.primaries[0].ask("ACL", "SETUSER", name, "reset", *rules.split(), ">p")
        yield running


@pytest.fixture(scope="module")
def server(shards: LocalShards) -> LocalServer:
    return shards.primaries[0]


@pytest.fixture
def proxy(shards: LocalShards, serve: Serve) -> ProxyProcess:
    return serve("--static", shards.static, config=f"[limits]\nauth_commands = 0\n{USERS}")


def told(address: str, *logins: str, conversation: list[tuple[Argument, ...]]) -> list[list[bytes]]:
    """What each user hears, one behind the other, so that what is remembered of one meets the next."""
    heard = []
    for name in logins:
        with Wire(address) as wire:
            wire.ask("AUTH", name, "p")
            wire.send(pipeline(*conversation))
            heard.append(wire.replies(len(conversation)))
    return heard


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_users_are_answered_as_by_a_server(server: LocalServer, proxy: ProxyProcess, name: str) -> None:
    conversation = CONVERSATIONS[name]
    logins = ["app", *RULES, *reversed(RULES)]
    if name == "roles":
        # The role's offset differs from one moment to the next: only whether it is told is compared.
        theirs, ours = (
            [[reply[:9] for reply in one] for one in told(at, *logins, conversation=conversation)]
            for at in (server.address, proxy.address)
        )
    else:
        theirs = told(server.address, *logins, conversation=conversation)
        ours = told(proxy.address, *logins, conversation=conversation)
    assert dict(zip(map(str, enumerate(logins)), ours, strict=True)) == dict(
        zip(map(str, enumerate(logins)), theirs, strict=True)
    )


@pytest.mark.parametrize("rule", ["-ping", "-client|setname", "-exec", "-set", "resetkeys"])
@pytest.mark.parametrize("queued", [("PING",), ("CLIENT", "SETNAME", "x"), ("SET", "app:1", "v")], ids=lambda it: it[0])
def test_rules_that_change_before_exec(
    server: LocalServer, proxy: ProxyProcess, rule: str, queued: tuple[str, ...]
) -> None:
    heard = []
    for address in (server.address, proxy.address):
        with Wire(address) as wire, Wire(address) as admin:
            admin.ask("ACL", "SETUSER", "changing", "reset", *DEFAULT_RULES.split(), ">p")
            wire.ask("AUTH", "changing", "p")
            wire.ask("MULTI")
            replies = [wire.ask(*queued) for _ in range(3)]
            admin.ask("ACL", "SETUSER", "changing", rule)
            replies.append(wire.ask(*queued))
            replies.append(wire.ask("EXEC"))
            replies.append(wire.ask("DISCARD"))
            heard.append(replies)
    assert heard[1] == heard[0]


def test_options_of_sort_are_checked_at_exec(server: LocalServer, proxy: ProxyProcess) -> None:
    """A denied option spoils no transaction, and what the rules deny at EXEC is denied whatever they were before."""
    sorts = [
        ("SORT", "{t}l", "BY", "nosort", "GET", "{t}secret:*"),
        ("SORT", "{t}nol", "BY", "w*"),
        ("SORT_RO", "{t}l", "GET", "#"),
        ("SORT", "{t}l", "ALPHA", "DESC"),
    ]
    rules = ["~{t}*", "~*", "%W~* %R~{t}*"]
    for sort, before, then in product(sorts, rules, ["", "resetkeys ~{t}l", "allkeys", "-sort"]):
        heard = []
        for address in (server.address, proxy.address):
            with Wire(address) as wire, Wire(address) as admin:
                admin.ask("ACL", "SETUSER", "sorting", "reset", "on", "+@all", "-@admin", *before.split(), ">p")
                admin.ask("DEL", "{t}l")
                admin.ask("RPUSH", "{t}l", "b", "a")
                admin.ask("SET", "{t}secret:a", "told")
                wire.ask("AUTH", "sorting", "p")
                replies = [wire.ask(*sort), wire.ask("MULTI"), wire.ask("SET", "{t}l2", "v"), wire.ask(*sort)]
                if then:
                    admin.ask("ACL", "SETUSER", "sorting", *then.split())
                replies += [wire.ask("ECHO", "x"), wire.ask("EXEC"), wire.ask(*sort)]
                heard.append(replies)
        assert heard[1] == heard[0], (sort, before, then)


def test_a_login_within_a_transaction(server: LocalServer, proxy: ProxyProcess) -> None:
    """What is behind it is checked by the rules of the new user; a failed one is one attempt, and changes nothing."""
    for login, set_ in product(
        [
            ("AUTH", "fz", "p"),
            ("AUTH", "fz", "wrong"),
            ("AUTH", "fz", "p", "x"),
            ("HELLO", "3", "AUTH", "fz", "p"),
            ("HELLO", "3", "AUTH", "fz", "wrong"),
            ("HELLO", "4", "AUTH", "fz", "p"),
        ],
        [("SET", "{t}k", "v"), ()],
    ):
        heard: list[list[object]] = []
        for address in (server.address, proxy.address):
            with Wire(address) as wire, Wire(address) as admin:
                admin.ask("ACL", "SETUSER", "fz", "reset", "on", "+incr", "+auth", "~{n}*", ">p")
                admin.ask("ACL", "SETUSER", "all", "reset", *DEFAULT_RULES.split(), ">p")
                admin.ask("DEL", "{n}k")
                admin.ask("ACL", "LOG", "RESET")
                wire.ask("AUTH", "all", "p")
                asked = [("MULTI",), login, *[("ECHO", "hi")] * 4]
                if set_:
                    asked = [("MULTI",), set_, login, ("GET", "{t}nokey"), ("ECHO", "hi"), ("INCR", "{n}k")]
                replies: list[object] = [wire.ask(*each) for each in asked]
                executed = wire.ask("EXEC")
                # HELLO tells the id of the client and the version.
                replies += [executed.split(b"NOPERM") if login[0] == "AUTH" else executed.count(b"NOPERM ACLs")]
                replies += [wire.ask("INCR", "{n}k"), wire.ask("GET", "{t}k")]
                log = admin.ask("ACL", "LOG").split(b"client-info")
                replies += [[each.split(b"$11\r\nage-seconds")[0].split(b"\r\n")[-14:] for each in log[:-1]]]
                heard.append(replies)
        assert heard[1] == heard[0], (login, set_)


def test_a_stranger_is_refused_at_once_whatever_it_asks(proxy: ProxyProcess) -> None:
    """Commands of admins are refused before login like all others."""
    with Wire(proxy.address) as admin:
        admin.ask("ACL", "SETUSER", "default", "resetpass", ">p")
        with Wire(proxy.address) as stranger:
            for command in (("ROLE",), ("CLIENT", "LIST"), ("CLIENT", "NO-EVICT", "OFF"), ("GET", "k")):
                for _ in range(3):
                    assert stranger.ask(*command) == b"-NOAUTH Authentication required.\r\n"
