"""What the benchmark reads and writes; nothing here is timed, and no load is generated."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.figures import Ratio, ratio
from benchmarks.loadgen import RunFailed, parse_csv
from benchmarks.machine import Bystanders, busy_ticks, cpu_model
from benchmarks.peers import NAMES, PROXIES, UNCOMPILED, Target, envoy_bootstrap, is_compiled, twemproxy_configuration
from benchmarks.proc import cpu_ns, memory, own_cpu_ns, process_tree, reset_resident_peak, resident_peak
from benchmarks.report import lines
from benchmarks.rounds import Pace, Results, ordered, seconds_each
from benchmarks.run import Sample
from benchmarks.scenarios import KEY_SETS, RANDOM, SCENARIOS, Scenario, scenarios_named

HEADER = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"'
)
GET = scenarios_named(["get-p1"])[0]
COMPILED, PLAIN = "0.1.0 (engine: compiled)", "0.1.0 (engine: python)"


def target(name: str, version: str = "1.0") -> Target:
    return Target(name, version, "127.0.0.1", 1, 1, lambda: True)


def results_of(samples: dict[str, list[Sample]], *, version: str = COMPILED) -> Results:
    """Of GET without a pipeline, by target."""
    versions = {"slotgate": version, UNCOMPILED: PLAIN}
    targets = tuple(target(name, versions.get(name, "1.0")) for name in samples)
    rounds = max((len(each) for each in samples.values()), default=0)
    return Results(targets, (GET,), rounds, samples={(GET.name, name): each for name, each in samples.items()})


def render(results: Results) -> str:
    return "\n".join(lines(results))


def rows(report: str, words: str) -> list[list[str]]:
    """The cells of every table's row that begins with ``words``."""
    found = [line for line in report.splitlines() if line.startswith(f"| {words}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def end(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        pipe.close()
    child.wait()


class TestRedisBenchmarksOutput:
    def test_figures(self) -> None:
        line = '"GET key:__rand_int__","21739.13","1.659","0.536","1.551","2.647","3.095","3.519"'
        assert parse_csv(f"{HEADER}\n{line}\n") == (21739.13, 3.095)

    def test_commas_and_quotes_in_the_command(self) -> None:
        line = '"SET a,"b",c __rand_int__","5000.00","3.6","3.4","3.6","3.7","3.751","3.8"'
        assert parse_csv(f"{HEADER}\n{line}\n") == (5000.0, 3.751)

    def test_warnings_before_the_figures(self) -> None:
        line = '"GET x","10.00","1.0","1.0","1.0","1.0","2.0","3.0"'
        assert parse_csv(f"WARNING: Could not fetch server CONFIG\n{HEADER}\n{line}\n") == (10.0, 2.0)

    @pytest.mark.parametrize(
        ("output", "words"),
        [
            ("", "without a word"),
            (f"{HEADER}\nError from server: ERR unknown command 'NOSUCH'\n", "ERR unknown command"),
            ("Could not connect to Redis at 127.0.0.1:1: Connection refused\n", "Connection refused"),
            (f"{HEADER}\n", "without a word"),
            (f'{HEADER}\n"GET","nan","0.1","0.1","0.1","0.1","0.1","0.1"\n', "nan commands"),
            ('"test","rps"\n"GET","1000.00"\n', "6.2 or later"),
        ],
    )
    def test_no_figures(self, output: str, words: str) -> None:
        with pytest.raises(RunFailed, match=words):
            parse_csv(output)


class TestProcesses:
    @pytest.fixture
    def child(self) -> Iterator[subprocess.Popen[bytes]]:
        code = "import sys; sum(range(300000)); print(flush=True); sys.stdin.read()"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        end(process)

    def test_cpu_time(self, child: subprocess.Popen[bytes]) -> None:
        assert cpu_ns(child.pid) == own_cpu_ns(child.pid) > 0

    def test_cpu_time_of_threads_that_have_ended(self) -> None:
        before, began = own_cpu_ns(os.getpid()), time.thread_time_ns()
        worker = threading.Thread(target=lambda: sum(range(2_000_000)))
        worker.start()
        worker.join()
        assert own_cpu_ns(os.getpid()) - before > 2 * (time.thread_time_ns() - began)

    def test_covers_its_children(self, child: subprocess.Popen[bytes]) -> None:
        assert {os.getpid(), child.pid} <= process_tree(os.getpid())
        assert os.getpid() not in process_tree(child.pid)

    def test_cpu_time_of_a_process_that_is_gone(self, child: subprocess.Popen[bytes]) -> None:
        end(child)
        assert cpu_ns(child.pid) == 0

    def test_cores_in_use(self) -> None:
        assert Sample(rps=50_000, p99=1.0, cpu=10.0).busy == pytest.approx(0.5)

    def test_memory(self, child: subprocess.Popen[bytes]) -> None:
        found = memory(child.pid)
        assert found.resident > found.anonymous > 1024 * 1024

    def test_memory_counts_its_children(self, child: subprocess.Popen[bytes]) -> None:
        assert memory(os.getpid()).resident > memory(child.pid).resident

    def test_peak_is_what_was_there_since_it_was_reset(self) -> None:
        size = 64 * 1024 * 1024
        bytearray(b"x") * size
        base = reset_resident_peak(os.getpid())
        assert resident_peak(os.getpid()) - base < size // 2
        bytearray(b"x") * size
        assert resident_peak(os.getpid()) - base > size // 2


class TestScenarios:
    def test_names_are_unique(self) -> None:
        assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
        assert len({scenario.words for scenario in SCENARIOS}) == len(SCENARIOS)

    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
    def test_sends_whole_pipelines(self, scenario: Scenario) -> None:
        step = scenario.clients * scenario.pipeline
        for requests in (1, step - 1, step, step + 1, scenario.requests):
            assert scenario.rounded(requests) % step == 0
            assert 0 < scenario.rounded(requests) <= max(requests, step)

    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
    def test_fits_a_command_line(self, scenario: Scenario) -> None:
        # Linux's MAX_ARG_STRLEN.
        assert all(len(argument) < 128 * 1024 for argument in scenario.args)

    def test_uses_the_keys_that_are_preloaded(self) -> None:
        for scenario in SCENARIOS:
            random = {argument for argument in scenario.args if RANDOM in argument}
            assert random <= {scenario.keys.pattern}

    def test_keys_look_as_redis_benchmark_writes_them(self) -> None:
        for keys in KEY_SETS:
            assert keys.key(7) == keys.pattern.replace(RANDOM, "000000000007")
            assert len(keys.value) == keys.size

    def test_by_name(self) -> None:
        assert scenarios_named([]) == SCENARIOS
        assert [scenario.name for scenario in scenarios_named(["mget-10", "get-p1"])] == ["get-p1", "mget-10"]


class TestPeers:
    def test_twemproxy(self) -> None:
        text = twemproxy_configuration(7000, [7001, 7002])
        assert "  listen: 127.0.0.1:7000\n" in text
        assert text.endswith("  servers:\n   - 127.0.0.1:7001:1\n   - 127.0.0.1:7002:1\n")

    def test_envoy_names_every_shard_and_no_admin_port(self) -> None:
        bootstrap = envoy_bootstrap(7000, [7001, 7002])
        assert list(bootstrap) == ["static_resources"]
        assert [port for port in (7000, 7001, 7002) if f"'port_value': {port}" in str(bootstrap)] == [7000, 7001, 7002]

    @pytest.mark.parametrize(
        ("name", "said", "version"),
        [
            ("twemproxy", "This is nutcracker-0.5.0\nasync event backend: epoll\n", "0.5.0"),
            (
                "envoy",
                "envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL",
                "1.40.0",
            ),
            ("envoy", "no number", "unknown"),
            ("slotgate", "slotgate 0.1.0 (engine: python)\n", "0.1.0 (engine: python)"),
        ],
    )
    def test_versions(self, name: str, said: str, version: str) -> None:
        assert PROXIES[name].version_in(said) == version

    def test_the_uncompiled_one_says_so(self) -> None:
        assert PROXIES[UNCOMPILED].environment()["SLOTGATE_ENGINE"] == "python"
        assert "SLOTGATE_ENGINE" not in PROXIES["slotgate"].environment()

    @pytest.mark.parametrize(("version", "compiled"), [(COMPILED, True), (PLAIN, False), ("0.1.0", False)])
    def test_which_engine(self, version: str, compiled: bool) -> None:
        assert is_compiled(version) is compiled


class TestRounds:
    @pytest.mark.parametrize("count", [2, 3, 4, 5])
    def test_everybody_has_every_place_as_often(self, count: int) -> None:
        orders = [ordered(range(count), number) for number in range(count)]
        assert all(sorted(place) == list(range(count)) for place in zip(*orders, strict=True))

    @pytest.mark.parametrize("count", [2, 3, 4, 5])
    def test_everybody_follows_everybody_as_often(self, count: int) -> None:
        rounds = count * (1 + count % 2)
        follows = Counter(pair for number in range(rounds) for pair in pairwise(ordered(range(count), number)))
        assert len(follows) == count * (count - 1)
        assert set(follows.values()) == {1 + count % 2}

    def test_order_of_one_or_none(self) -> None:
        assert ordered(["a"], 3) == ["a"]
        assert ordered([], 1) == []

    def test_runs_fill_the_time(self) -> None:
        paces = [Pace(1000, 0.1), Pace(5000, 0.3)]
        assert seconds_each(10.0, 5, paces) == pytest.approx(0.8)

    def test_runs_are_no_longer_than_they_need_be(self) -> None:
        assert seconds_each(1000.0, 1, [Pace(1000, 0.1)]) == 1.5

    def test_no_time_is_left(self) -> None:
        assert seconds_each(-1.0, 5, [Pace(1000, 0.1)]) == 0
        assert seconds_each(1.0, 5, []) == pytest.approx(0.2)

    def test_who_takes_part(self) -> None:
        (large,) = scenarios_named(["get-1m"])
        results = Results((target("slotgate"), target(UNCOMPILED), target("envoy")), (GET, large))
        results.failures[GET.name, "envoy"] = "broken"
        assert [each.name for each in results.takers(GET)] == ["slotgate", UNCOMPILED]
        assert [each.name for each in results.takers(large)] == ["slotgate", "envoy"]


class TestReport:
    def test_ratio_is_the_median_of_the_rounds(self) -> None:
        found = ratio([8.0, 9.0, 20.0], [10.0, 5.0, 10.0])
        assert found == Ratio(1.8, 0.8, 2.0)
        assert str(found) == "1.80 (0.80 to 2.00)"

    def test_ratio_of_one_round_has_no_spread(self) -> None:
        assert str(ratio([8.0], [10.0])) == "0.80"

    def test_no_ratio_without_figures(self) -> None:
        assert ratio([], [1.0]) is None
        assert ratio([1.0], []) is None
        assert ratio([1.0], [0.0]) is None

    def test_best_peer_is_each_measures_own(self) -> None:
        cpu, uncompiled, throughput, p99 = rows(
            render(
                results_of(
                    {
                        "slotgate": [Sample(rps=60_000, p99=2.0, cpu=8.0, generator=0.25, shard=0.125)],
                        UNCOMPILED: [Sample(rps=50_000, p99=2.0, cpu=12.0)],
                        "twemproxy": [Sample(rps=50_000, p99=4.0, cpu=10.0)],
                        "envoy": [Sample(rps=80_000, p99=1.0, cpu=16.0)],
                        "direct": [Sample(rps=200_000, p99=0.1, cpu=1.0)],
                    }
                )
            ),
            GET.words,
        )
        assert cpu[1:] == ["8.00", "10.00", "16.00", "1.00", "0.80", "≤ 0.85 met"]
        assert uncompiled[1:] == ["8.00", "12.00", "1.50", "1.20", "≤ 1.30 met"]
        assert throughput[1:] == [
            *("60,000", "50,000", "80,000", "200,000", "0.75"),
            *("0.48", "0.25", "0.12", "≥ 1.00 **not met**"),
        ]
        assert p99[1:] == ["2.00", "4.00", "1.00", "0.10", "2.00", "≤ 1.10 **not met**"]

    @pytest.mark.parametrize(
        ("rps", "cpu", "generator", "verdict"),
        [
            (50_000, 19.0, 0.3, "≥ 1.00 met"),
            (40_000, 24.0, 0.3, "≥ 1.00 **not met**"),
            (40_000, 24.0, 0.97, "not the limit"),
        ],
    )
    def test_throughput_counts_where_slotgate_is_the_limit(
        self, rps: float, cpu: float, generator: float, verdict: str
    ) -> None:
        samples = {"slotgate": [Sample(rps, 1.0, cpu, generator)], "envoy": [Sample(50_000, 1.0, 30.0)]}
        _, _, throughput, _ = rows(render(results_of(samples)), GET.words)
        assert throughput[-1] == verdict

    def test_plain_python_is_judged_by_its_own_target(self) -> None:
        samples = {"slotgate": [Sample(1000, 1.0, 14.0)], "twemproxy": [Sample(1000, 1.0, 10.0)]}
        cpu, uncompiled, throughput, p99 = rows(render(results_of(samples, version=PLAIN)), GET.words)
        assert cpu[3:] == ["1.40", "≤ 0.85"]
        assert uncompiled[1:] == ["-", "14.00", "-", "1.40", "≤ 1.30 **not met**"]
        assert throughput[-1] == "≥ 1.00"
        assert p99[-1] == "≤ 1.10"

    def test_a_failed_run_is_no_figure(self) -> None:
        results = results_of({"slotgate": [Sample(1000, 1.0, 14.0)], "twemproxy": [Sample(1000, 1.0, 10.0)]})
        results.failures[GET.name, "twemproxy"] = "redis-benchmark: ERR broken"
        report = render(results)
        assert "- **twemproxy, get-p1: failed**: redis-benchmark: ERR broken" in report
        assert rows(report, GET.words)[0][1:4] == ["14.00", "failed", "-"]

    def test_keys_that_were_not_there_are_said(self) -> None:
        results = results_of({"slotgate": []})
        assert "not there: 0." in render(results)
        results.misses = 7
        assert "not there: 7 **(should be 0)**." in render(results)

    def test_tables_are_whole(self) -> None:
        found = [line for line in render(results_of({"slotgate": []})).splitlines() if line.startswith("|")]
        assert len(found) == 12
        for first in range(0, 12, 3):
            assert len({len(line) for line in found[first : first + 3]}) == 1
            assert len({line.count("|") for line in found[first : first + 3]}) == 1


class TestMachine:
    def test_busy_time_leaves_out_idle_and_guests(self) -> None:
        assert busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 1 1 1 1 1 1 1 1 1\n") == 1 + 2 + 4 + 8 + 16 + 32

    def test_bystanders_are_never_negative(self) -> None:
        assert Bystanders().cores() >= 0

    def test_name_of_the_processor(self) -> None:
        assert cpu_model("processor\t: 0\nmodel name\t: A  CPU @ 2 GHz\n") == "A  CPU @ 2 GHz"
        assert cpu_model("")


class TestCommandLine:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--proxies", "slotgate,nginx"], "nginx: unknown; there are slotgate"),
            (["--scenarios", "fast"], "fast: unknown; there are get-p1"),
            (["--parts", "all"], "all: unknown; there are proxies, overhead, memory, mixed-load, micro"),
            (["--rounds", "0"], "not a whole number of 1 or more"),
        ],
    )
    def test_wrong_usage(self, args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            command.main(args)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err

    def test_without_a_load_generator(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert command.main(["--quick", "--proxies", ",".join(NAMES)]) == 1
        assert "redis-benchmark is not on PATH" in capsys.readouterr().err
