"""A name's addresses: which are tried, in what time, and what is said when none serves."""

import asyncio

import pytest

from proxy.errors import BackendError
from proxy.sharding.topology import Node
from proxy.transport import addresses
from proxy.transport.addresses import first_that_serves

NAMED = Node("db.test", 6379)
REFUSED = ConnectionRefusedError(111, "Connection refused")
REPLICA = BackendError("the server is no primary")


class Door:
    """What an attempt at each address comes to: an exception, or seconds until it succeeds."""

    def __init__(self, **outcomes: Exception | float) -> None:
        self.outcomes = outcomes
        self.tried: list[tuple[str, float]] = []

    async def attempt(self, address: str, seconds: float) -> str:
        self.tried.append((address, seconds))
        outcome = self.outcomes[address]
        if isinstance(outcome, Exception):
            raise outcome
        async with asyncio.timeout(seconds):
            await asyncio.sleep(outcome)
        return address


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the name leads to."""
    found: list[str] = []

    async def look_up(host: str, port: int) -> list[str]:
        assert (host, port) == ("db.test", 6379)
        return list(found)

    monkeypatch.setattr(addresses, "look_up", look_up)
    return found


@pytest.mark.parametrize("failure", [REFUSED, TimeoutError(), REPLICA])
async def test_the_next_is_tried_at_once(named: list[str], failure: Exception) -> None:
    named += ["a", "b"]
    door = Door(a=failure, b=0)
    assert await first_that_serves(NAMED, 1.0, door.attempt) == "b"
    assert door.tried == [("a", 0.5), ("b", 1.0)]


async def test_those_that_say_nothing_share_the_time(named: list[str]) -> None:
    named += ["a", "b", "c"]
    door = Door(a=9, b=9, c=0)
    began = asyncio.get_running_loop().time()
    assert await first_that_serves(NAMED, 0.3, door.attempt) == "c"
    assert 0.15 < asyncio.get_running_loop().time() - began < 5
    assert [seconds for _, seconds in door.tried] == [0.3 / 3, 0.3 / 3, 0.3]


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ((REFUSED,), REFUSED),
        ((REFUSED, REPLICA), REPLICA),
        ((REPLICA, REFUSED), REPLICA),
        ((REFUSED, TimeoutError("late")), TimeoutError("late")),
    ],
)
async def test_what_a_server_said_is_told(named: list[str], outcomes: tuple[Exception, ...], said: Exception) -> None:
    for number, _ in enumerate(outcomes):
        named.append("abc"[number])
    door = Door(**dict(zip("abc", outcomes, strict=False)))
    with pytest.raises(type(said), match=str(said).replace("[", r"\[").replace("]", r"\]") or None):
        await first_that_serves(NAMED, 1.0, door.attempt)


async def test_no_address(named: list[str]) -> None:
    with pytest.raises(OSError, match=r"db\.test has no address"):
        await first_that_serves(NAMED, 1.0, Door().attempt)


async def test_looked_up_each_time(named: list[str]) -> None:
    named += ["a"]
    door = Door(a=0, b=0)
    assert await first_that_serves(NAMED, 1.0, door.attempt) == "a"
    named[:] = ["b"]
    assert await first_that_serves(NAMED, 1.0, door.attempt) == "b"


@pytest.mark.parametrize("node", [Node("10.0.0.1", 6379), Node("::1", 6379), Node("/run/redis.sock", 0)])
async def test_what_is_no_name_is_not_looked_up(node: Node, named: list[str]) -> None:
    async def attempt(address: str, seconds: float) -> tuple[str, float]:
        return address, seconds

    assert await first_that_serves(node, 1.0, attempt) == (node.host, 1.0)
