"""Replies without measure to the proxy's own questions: the connection is closed, the log says so, nothing else."""

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from proxy.backends.handshake import Credentials
from proxy.backends.query import Line, ask
from proxy.errors import BackendError
from proxy.sharding.topology import Node
from tests.live.speaker import Speaker
from tests.live.turns import long_turns
from tests.support.endless import ENDLESS
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire

pytestmark = pytest.mark.live

MEGABYTE = 1024 * 1024
TURN = 0.02
MANY = [("COMMAND",), ("CLUSTER", "SLOTS"), ("CLUSTER", "NODES"), ("FUNCTION", "LIST"), ("SENTINEL", "REPLICAS", "m")]
SHORT = [("INFO", "server"), ("ROLE",), ("CONFIG", "GET", "databases"), ("CLUSTER", "MYID"), ("SENTINEL", "MYID")]
FEW = ("a bulk string of 64 MB comes", "a line does not end", "five million elements", "arrays in arrays")


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    with Speaker() as speaking:
        yield speaking


def node_of(speaker: Speaker) -> Node:
    host, _, port = speaker.address.rpartition(":")
    return Node(host, int(port))


async def longest_turn(asking: "asyncio.Task[object]") -> float:
    """The longest turn of the loop, in processor time, until ``asking`` is done."""
    longest = 0.0
    while not asking.done():
        before = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - before)
    return longest


@pytest.mark.parametrize("question", [*MANY, *SHORT], ids=" ".join)
@pytest.mark.parametrize("name", ENDLESS)
def test_a_question(speaker: Speaker, name: str, question: Sequence[str], caplog: pytest.LogCaptureFixture) -> None:
    speaker.answer = lambda args: ENDLESS[name] if args[0] == question[0].encode() else None

    async def asked() -> float:
        line = Line(node_of(speaker), Credentials())
        asking = asyncio.create_task(line.connect([("PING",), question, ("PING",)]))
        longest = await longest_turn(asking)
        with pytest.raises(BackendError) as raised:
            await asking
        assert str(raised.value).startswith(
            (f"its reply to {' '.join(question[:2])} is too long", "what answers is no")
        )
        assert not line.connected
        return longest

    longest = min(asyncio.run(asked()) for _ in range(3 if name in FEW else 1))
    assert longest < TURN or name not in FEW
    for record in caplog.records:
        assert record.levelno == logging.WARNING
        assert speaker.address in record.getMessage()


def test_the_log_names_a_server_once_a_minute(speaker: Speaker, caplog: pytest.LogCaptureFixture) -> None:
    speaker.answer = lambda args: b"+" + b"x" * MEGABYTE
    for _ in range(3):
        with pytest.raises(BackendError):
            asyncio.run(ask(node_of(speaker), Credentials(), [("ROLE",)], 5.0))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"connection closed, as a server replies too much address={speaker.address} "
        "reason='its reply to ROLE is too long: a line has more than 65536 bytes'"
    )


KINDS = {
    "static": "[[shards]]\nprimary = '{}'\n",
    "roles": "topology.discover_replicas = true\n[[shards]]\nprimary = '{}'\n",
    "cluster": "topology.kind = 'cluster'\ncluster.seeds = ['{}']\n",
    "sentinel": "topology.kind = 'sentinel'\nsentinel.masters = 'm'\nsentinel.sentinels = ['{}']\n",
}


def resident(proxy: ProxyProcess) -> int:
    """The most bytes of memory that the process has had."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{proxy.pid}/status").read_text())
    return int(kilobytes) * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_of_servers_that_send_without_measure(speaker: Speaker, kind: str, tmp_path: Path) -> None:
    """Whatever it asks, from the handshake on: it stays small and awake, and says why it does not use the server."""
    variants = iter(ENDLESS.values())
    speaker.answer = lambda args: next(variants, b"+OK\r\n")
    with ProxyProcess(tmp_path, config=KINDS[kind].format(speaker.address)).serving(ready=False) as proxy:
        before = resident(proxy)
        assert eventually(lambda: next(variants, None) is None, 40.0)
        assert proxy.http("/healthz")[0] == 200
        assert resident(proxy) < before + 60 * MEGABYTE
        assert long_turns(proxy.http("/metrics")[1]) == 0
        assert re.search("replies too much|can not be|not asked yet|too long|Protocol error", proxy.log)


def test_a_proxy_whose_server_was_odd_serves_again(speaker: Speaker, tmp_path: Path) -> None:
    speaker.answer = lambda args: ENDLESS["a line does not end"]
    config = KINDS["static"].format(speaker.address)
    with ProxyProcess(tmp_path, config=config).serving(ready=False) as proxy, Wire(proxy.address) as wire:
        assert eventually(lambda: speaker.connections > 1)
        speaker.answer = lambda args: None
        assert eventually(lambda: wire.ask("GET", "k") == b"$5\r\nvalue\r\n")


def test_what_a_server_answers_to_info_on_a_shared_connection(speaker: Speaker, tmp_path: Path) -> None:
    """The role is asked every second between clients' requests: a long answer is dropped, and the next is theirs."""
    config = KINDS["static"].format(speaker.address)
    with ProxyProcess(tmp_path, config=config).serving() as proxy, Wire(proxy.address, timeout=20) as wire:
        document = b"role:slave\r\n" + b"x:y\r\n" * MEGABYTE
        long = b"$%d\r\n%b\r\n" % (len(document), document)
        speaker.answer = lambda args: long if args[0] == b"INFO" else None
        asked = len(speaker.asked)
        assert eventually(lambda: (b"INFO", b"replication") in speaker.asked[asked:])
        for _ in range(100):
            assert wire.ask("GET", "k") == b"$5\r\nvalue\r\n"
        assert long_turns(proxy.http("/metrics")[1]) == 0
