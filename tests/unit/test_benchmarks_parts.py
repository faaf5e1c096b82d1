"""The other parts of the benchmark: memory, the cost of measuring, single steps. Nothing here is timed."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import against, micro, overhead, paired, usage
from benchmarks.loadgen import RunFailed
from benchmarks.lockstep import Load, one_cpu
from benchmarks.many_clients import LargeValue, connected
from benchmarks.paired import Costs, Estimate
from benchmarks.peers import Target
from benchmarks.scenarios import SMALL
from benchmarks.steps import steps
from benchmarks.usage import Large, Return, Usage
from proxy.errors import SlotgateError

MB = 1024 * 1024


class Answering:
    """A server that reads ``size`` bytes of each connection, sends ``answer`` and no more."""

    def __init__(self, size: int, answer: bytes, connections: int = 1) -> None:
        self.received = bytearray()
        self._size = size
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, args=(connections,))
        self._thread.start()

    @property
    def target(self) -> Target:
        host, port = self._listener.getsockname()
        return Target("server", "1.0", host, port, os.getpid(), lambda: True)

    def end(self) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self, connections: int) -> None:
        with contextlib.ExitStack() as clients:
            for _ in range(connections):
                client = clients.enter_context(self._listener.accept()[0])
                self.received = bytearray()
                while left := self._size - len(self.received):
                    self.received += client.recv(left)
                client.sendall(self._answer)
                with contextlib.suppress(OSError):  # who asked may be gone, with what was sent
                    client.shutdown(socket.SHUT_WR)


@pytest.fixture
def answering() -> Iterator[list[Answering]]:
    """Those that a test starts are ended after it."""
    servers: list[Answering] = []
    yield servers
    for server in servers:
        server.end()


def answer(servers: list[Answering], size: int, reply: bytes, connections: int = 1) -> Answering:
    servers.append(Answering(size, reply, connections))
    return servers[-1]


class TestLargeValue:
    HEAD = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$2097152\r\n"
    GET = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"

    def test_set_sends_it_whole(self, answering: list[Answering]) -> None:
        server = answer(answering, len(self.HEAD) + 2 * MB + 2, b"+OK\r\n")
        LargeValue("key", 2).set(server.target)
        server.end()
        assert bytes(server.received) == self.HEAD + b"x" * (2 * MB) + b"\r\n"

    def test_set_is_refused(self, answering: list[Answering]) -> None:
        server = answer(answering, len(self.HEAD) + 2 * MB + 2, b"-OOM command not allowed\r\n")
        with pytest.raises(RunFailed, match="SET of 2 MB was answered b'-OOM"):
            LargeValue("key", 2).set(server.target)

    @pytest.mark.parametrize("piece", [1000, MB])
    def test_get_reads_it_whole(self, answering: list[Answering], piece: int) -> None:
        server = answer(answering, len(self.GET), b"$2097152\r\n" + b"x" * (2 * MB) + b"\r\n")
        LargeValue("key", 2).get(server.target, piece=piece)
        assert bytes(server.received) == self.GET

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            (b"-ERR no such thing\r\n", "was answered b'-ERR no"),
            (b"$2097152\r\n" + b"x" * MB, "closed 1048578 bytes before the end"),
        ],
    )
    def test_get_without_a_value(self, answering: list[Answering], reply: bytes, words: str) -> None:
        server = answer(answering, len(self.GET), reply)
        with pytest.raises(RunFailed, match=words):
            LargeValue("key", 2).get(server.target)


class TestManyClients:
    FIRST = b"*2\r\n$3\r\nGET\r\n$21\r\nbench:64:000000000000\r\n"

    def test_all_are_answered_and_stay(self, answering: list[Answering]) -> None:
        server = answer(answering, len(self.FIRST), b"$64\r\n" + b"x" * 64 + b"\r\n", 3)
        with connected(server.target, 3, SMALL):
            pass

    def test_a_key_is_not_there(self, answering: list[Answering]) -> None:
        server = answer(answering, len(self.FIRST), b"$-1\r\n")
        with pytest.raises(RunFailed, match="not answered with its value"), connected(server.target, 1, SMALL):
            pass


class TestUsage:
    def test_tables(self) -> None:
        found = Usage(
            clients=5000,
            idle={"slotgate": 4097.0, "envoy": 9000.0},
            burst={"slotgate": Return(40 * MB, 60 * MB, 50 * MB, 0.5)},
            traffic={"slotgate": Return(40 * MB, 60 * MB, 53 * MB, 6.1)},
            large={
                "slotgate": [
                    Large(64, 0.064, 70 * MB, 0.064, 12 * MB, 9 * MB),
                    Large(128, 0.2, 140 * MB, 0.128, 2 * MB, 13 * MB),
                ],
                "direct": [Large(64, 0.064, 64 * MB, 0.032, 0, 0)],
            },
            notes=["twemproxy is left out: not installed"],
        )
        report = [line.rstrip() for line in usage.lines(found)]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in report if line.startswith("|")]
        assert "- twemproxy is left out: not installed" in report
        assert ["slotgate", "4,097", "≤ 4,096 **not met**"] in cells
        assert ["envoy", "9,000", "-"] in cells
        assert ["slotgate, clients", "40.0", "60.0", "50.0", "0.5", "1.25", "≤ 1.30 met"] in cells
        assert ["slotgate, 1 GB", "40.0", "60.0", "53.0", "6.1", "1.32", "≤ 1.30 **not met**"] in cells
        assert ["slotgate, 64 MB", "1.00", "70.0", "1.00", "12.0", "9.0", "≤ 12 met"] in cells
        assert ["slotgate, 128 MB", "1.56", "140.0", "1.00", "2.0", "13.0", "≤ 12 **not met**"] in cells
        assert ["direct, 64 MB", "1.00", "-", "0.50", "-", "-", "-"] in cells
        assert report[-1].startswith(
            "- slotgate: time for each MB at 128 MB to that at 64 MB: SET 1.56, GET 1.00; target"
        )
        assert report[-1].endswith("≤ 1.50 **not met**")


class TestOverhead:
    def test_estimate(self) -> None:
        found = paired.estimate([[1.0, 1.1, 1.2], [1.0, 1.0, 1.0], [1.3, 1.3, 9.0]])
        assert found == Estimate(1.1, 1.0, 1.3)

    def test_estimate_of_what_does_not_vary(self) -> None:
        assert paired.estimate([[1.02], [1.02]]) == Estimate(1.02, 1.02, 1.02)

    @pytest.mark.parametrize(
        ("estimate", "words"),
        [
            (Estimate(1.01, 1.00, 1.02), "< 1.03 met"),
            (Estimate(1.01, 0.98, 1.04), "< 1.03 met, not certain"),
            (Estimate(1.04, 1.02, 1.06), "< 1.03 **not met**, not certain"),
            (Estimate(1.06, 1.05, 1.07), "< 1.03 **not met**"),
        ],
    )
    def test_verdict(self, estimate: Estimate, words: str) -> None:
        assert overhead.verdict(estimate) == words

    def test_table(self) -> None:
        costs = {Load("GET", SMALL, 16): Costs([0.5, 0.6, 0.7], [0.5, 0.5, 0.5], [[1.0, 1.2], [1.4]])}
        row = next(line for line in overhead.lines(costs) if line.startswith("| 16"))
        assert [cell.strip() for cell in row.strip("|").split("|")][:5] == [
            *("16", "0.600", "0.500", "1.250 (1.100 to 1.400)", "3")
        ]

    def test_table_against_another_checkout(self) -> None:
        costs = {Load("MGET", SMALL): Costs([0.5, 0.6, 0.7], [0.5, 0.5, 0.5], [[1.0, 1.2], [1.4]])}
        row = next(line for line in against.lines(costs) if line.startswith("| MGET"))
        assert [cell.strip() for cell in row.strip("|").split("|")] == [
            *("MGET of 10, 64 B, pipeline of 1", "0.600", "0.500", "1.250 (1.100 to 1.400)", "3", "≤ 1.02 **not met**")
        ]

    def test_another_checkout_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(SlotgateError, match=r"has no \.venv/bin/python: run make compile there"):
            against.measure(tmp_path)

    @pytest.mark.parametrize("command", ["GET", "SET", "MGET"])
    def test_a_slice_reads_what_it_is_answered(self, command: str) -> None:
        load = Load(command, SMALL, pipeline=2, clients=1)
        sent = b"".join(load.request(number) for number in range(2))
        assert sent.count(b"*") == 2
        value = b"$64\r\n" + b"x" * 64 + b"\r\n"
        reply = {"GET": value, "SET": b"+OK\r\n", "MGET": b"*10\r\n" + value * 10}[command]
        assert load.reply_size == len(reply)

    def test_one_cpu_is_given_back(self) -> None:
        before = os.sched_getaffinity(0)
        with one_cpu([]):
            assert os.sched_getaffinity(0) == {max(before)}
        assert os.sched_getaffinity(0) == before


class TestMicro:
    def test_every_step_can_be_taken_twice(self) -> None:
        for step in steps().values():
            step()
            step()

    def test_least(self) -> None:
        assert micro.least({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 2.0}) == {"a": 1.0, "b": 2.0}
        assert micro.least({}, {"a": 2.0}) == {"a": 2.0}

    def test_both_engines_side_by_side(self) -> None:
        report = list(micro.lines({"compiled": {"slot": 25.0}, "python": {"slot": 200.0, "plain only": 1000.0}}))
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in report if line.startswith("|")]
        assert cells[2:] == [["slot", "25", "200", "0.12"], ["plain only", "-", "1,000", "-"]]

    def test_one_engine(self) -> None:
        report = list(micro.lines({"python": {"slot": 200.0}}))
        assert report[-1].split() == ["|", "slot", "|", "-", "|", "200", "|", "-", "|"]
