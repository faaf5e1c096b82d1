"""What the proxy answers itself, as random streams of it, repeated and mixed, in whatever a client is in the middle of."""

import random
from collections.abc import Iterator

import pytest

from tests.live.differential.normalise import transaction
from tests.live.differential.test_random import replies
from tests.live.site import Site
from tests.live.wire import pack

pytestmark = [pytest.mark.live, pytest.mark.smoke]

LINES = """
PING
PING x
PING x y
ping
Ping
ECHO hello
ECHO
SELECT 0
SELECT 1
SELECT 99
SELECT x
AUTH wrong
AUTH
HELLO 2
HELLO 3
HELLO 9
HELLO 3 SETNAME me
HELLO 3 NOSUCH
CLIENT GETNAME
CLIENT SETNAME me
client setname you
CLIENT SETNAME
CLIENT NOSUCH
CLIENT
CLIENT NO-EVICT OFF
CLIENT NO-EVICT x
CLIENT REPLY ON
CLIENT REPLY SKIP
CLIENT REPLY x
CLIENT GETREDIR
CLIENT TRACKINGINFO
ACL WHOAMI
READONLY
READWRITE
ASKING
CLUSTER MYID
MULTI
DISCARD
EXEC
RESET
GET
GET k
SET k v
INCR n
NOSUCH
NOSUCH x
nosuch x y
SUBSCRIBE
SUBSCRIBE c
UNSUBSCRIBE c
UNSUBSCRIBE
WATCH k
UNWATCH
""".strip().splitlines()
NOTHING = (b"\r\n", b"*0\r\n", b"*-1\r\n", b"   \r\n")


def stream(seed: int) -> Iterator[bytes]:
    """Runs of one request, as RESP or inline; a few kinds of it in each stream, so that they meet in every way."""
    dice = random.Random(seed)
    lines = dice.sample(LINES, 12) + ["MULTI", "EXEC", "DISCARD", "PING", "ECHO hello"]
    for number in range(400):
        line = dice.choice(lines)
        if dice.random() < 0.1:
            line = f"ECHO {number}"
        request = pack(*line.split()) if dice.random() < 0.7 else line.encode() + b"\r\n"
        if dice.random() < 0.1:
            request = dice.choice(NOTHING)
        yield request * dice.choice((1, 1, 1, 2, 3, 30))
    # Out of everything, and answered.
    yield pack("RESET") + pack("CLIENT", "REPLY", "ON") + pack("PING") + pack("QUIT")


@pytest.mark.parametrize("seed", range(16))
def test_the_same_answers(site: Site, seed: int) -> None:
    if site.plain.binary.kind == "valkey":
        pytest.skip("Valkey words some of them otherwise, as scenes/ has it")
    data = b"".join(stream(seed))
    with site.direct() as server, site.client() as proxy:
        expected = [transaction(frame) for frame in replies(server, data, seed)]
        found = [transaction(frame) for frame in replies(proxy, data, seed + 1000)]
    for number, (left, right) in enumerate(zip(expected, found, strict=False)):
        assert right == left, f"reply {number} of {len(expected)}"
    assert len(found) == len(expected)
