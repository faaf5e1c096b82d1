"""What the proxy answers itself, in random streams: repeated, mixed, in whatever a client is in the middle of."""

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalServer, find_server
from tests.live.differential.normalise import transaction
from tests.live.differential.test_random import replies
from tests.support.fixtures import Serve
from tests.support.site import Site
from tests.support.wire import Wire, pack

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
CLIENT LIST ID 999999999
CLIENT LIST TYPE master
CLIENT LIST TYPE x
CLIENT LIST x
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
INCR {k}n
NOSUCH
NOSUCH x
nosuch x y
SUBSCRIBE
SUBSCRIBE c
PSUBSCRIBE c*
UNSUBSCRIBE c
UNSUBSCRIBE c d
UNSUBSCRIBE
PUNSUBSCRIBE c*
PUNSUBSCRIBE
PUNSUBSCRIBE d* e*
SUNSUBSCRIBE s
SUNSUBSCRIBE
WATCH k
UNWATCH
""".strip().splitlines()
NOTHING = (b"\r\n", b"*0\r\n", b"*-1\r\n", b"   \r\n")


def stream(seed: int) -> Iterator[bytes]:
    """Runs of one request, as RESP or inline; a few kinds of it in each stream, so that they meet in every way."""
    dice = random.Random(seed)
    lines = [*dice.sample(LINES, 12), "MULTI", "EXEC", "DISCARD", "PING", "ECHO hello"]
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


def test_the_same_answers_before_auth(tmp_path: Path, serve: Serve) -> None:
    """And behind it: nothing that a stranger was answered is answered to who has logged in, or the other way round."""
    server = LocalServer(find_server(), tmp_path, password="s3cret")
    try:
        server.start()
        users = '[[users]]\nname = "default"\npassword = "s3cret"\nadmin = true\n'
        shard = f'[[shards]]\nprimary = "{server.address}"\n'
        limits = 'limits.auth_commands = 0\nlimits.auth_bytes = "0b"\nlimits.auth_delay_max = "0s"\n'
        proxy = serve(config=f'backend.password = "s3cret"\n{limits}{users}{shard}')
        with ExitStack() as stack:
            strangers = [stack.enter_context(Wire(address)) for address in (server.address, proxy.address)]
            known = [stack.enter_context(Wire(address)) for address in (server.address, proxy.address)]
            for wire in known:
                assert wire.ask("AUTH", "s3cret") == b"+OK\r\n"
            dice = random.Random(1)
            # Redis 7.0 words HELLO's refusal otherwise than later ones; SKIP and RESET are about what follows.
            lines = [line for line in LINES if not re.search("REPLY SKIP|RESET|HELLO|INCR", line)]
            for line in [*lines, *lines]:
                request = pack(*line.split()) if dice.random() < 0.7 else line.encode() + b"\r\n"
                for wires in (known, strangers, known):
                    if line.startswith(("SUBSCRIBE", "MULTI", "UNSUBSCRIBE")) and wires is known:
                        continue
                    for wire in wires:
                        wire.send(request * 3)
                    expected, found = ([transaction(frame) for frame in wire.replies(3)] for wire in wires)
                    assert found == expected, line
            # RESET forgets who it was, with what it is subscribed to and what it has queued, and is asked for again.
            for begin in ("SUBSCRIBE c", "MULTI", "SELECT 1", "CLIENT SETNAME me", "RESET"):
                words = ("AUTH s3cret", begin, "UNSUBSCRIBE d", "PING", "RESET", "GET k")
                for wire in known:
                    wire.send(b"".join(pack(*said.split()) for said in words) * 3)
                left, right = (wire.replies(3 * len(words)) for wire in known)
                assert right == left, begin
    finally:
        server.stop()
