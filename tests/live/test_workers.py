"""Several workers on one port: they look like one server, and outlive each other."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.devservers.servers import LOOPBACK, LocalShards, find_server, free_port, start_many
from tests.live.busy_clients import BusyClients
from tests.live.client_lists import listed
from tests.live.test_admin import Labels, samples, value
from tests.support.fixtures import Serve
from tests.support.processes import children, eventually, runs
from tests.support.proxy_process import ProxyProcess
from tests.support.site import shard_tags
from tests.support.wire import Wire, decode, pack, pipeline, wait_until_refused
from tests.support.worker_clients import one_of_each, worker_of

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
FIRST, SECOND = shard_tags(2)


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """Two shards without replicas."""
    with start_many(2, 0, binary=find_server()) as running:
        yield running


@pytest.fixture
def proxy(shards: LocalShards, serve: Serve) -> ProxyProcess:
    """Two workers."""
    return serve("--static", shards.static, "--workers", "2")


@pytest.fixture(scope="module")
def standing_proxy(shards: LocalShards, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Two workers that several tests share."""
    directory = tmp_path_factory.mktemp("standing")
    # A worker is stopped for longer than usual in one of the tests.
    config = "worker_patience = '60s'\n"
    proxy = ProxyProcess(directory, "--static", shards.static, "--workers", "2", config=config)
    with proxy.serving():
        yield proxy


@pytest.fixture
def standing(standing_proxy: ProxyProcess) -> ProxyProcess:
    """The same, when the test before has left nothing to wait for."""
    assert eventually(lambda: ready(standing_proxy))
    return standing_proxy


def workers(proxy: ProxyProcess) -> dict[int, int]:
    """The processes of the workers by index."""
    found = {}
    for pid in children(proxy.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = next((word for word in words if word.startswith(b"slotgate-worker-")), None)
        if name is not None:  # not between fork and exec
            found[int(name.rpartition(b"-")[2])] = pid
    return found


def client_id(client: Wire) -> int:
    number = client.value("CLIENT", "ID")
    assert isinstance(number, int)
    return number


def restarts(proxy: ProxyProcess) -> float:
    return value(samples(proxy), "slotgate_worker_restarts_total")


def kill_worker(proxy: ProxyProcess, index: int, number: signal.Signals = signal.SIGKILL) -> None:
    """And wait until it is noticed."""
    before = restarts(proxy)
    pid = workers(proxy)[index]
    os.kill(pid, number)
    assert eventually(lambda: restarts(proxy) > before and not runs(pid))


def ready(proxy: ProxyProcess) -> bool:
    return proxy.http("/readyz")[0] == 200


@pytest.mark.smoke
def test_connections_are_dealt_out_and_served_alike(standing: ProxyProcess) -> None:
    assert sorted(workers(standing)) == [0, 1]
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        assert one.ask("MSET", "a", 1, "b", 2, "c", 3, "d", 4) == OK
        assert two.value("MGET", "a", "b", "c", "d") == [b"1", b"2", b"3", b"4"]
        # Those that were tried and left may still be counted, for the moment that their end takes.
        assert eventually(lambda: b"connected_clients:2\r\n" in one.ask("INFO", "clients"))
        assert b"connected_clients:2\r\n" in two.ask("INFO", "clients")
    assert re.search(r" INFO worker=0 serving pid=\d+\n", standing.log)
    assert re.search(rf" INFO serving .* workers=2 pid={standing.pid}\n", standing.log)


def test_metrics_are_sums(standing: ProxyProcess) -> None:
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        assert eventually(lambda: value(samples(standing), "slotgate_clients") == 2)
        before = samples(standing)
        for _ in range(3):
            assert one.ask("SET", f"{{{FIRST}}}k", 1) == OK
        for _ in range(4):
            assert two.ask("SET", f"{{{SECOND}}}k", 1) == OK
        found = samples(standing)

    def grown(name: str, **labels: str) -> float:
        return value(found, name, **labels) - value(before, name, **labels)

    assert grown("slotgate_commands_total", command="set", outcome="ok") == 7
    assert grown("slotgate_backend_latency_seconds_count") == 7
    assert grown("slotgate_client_bytes_total", direction="in") == 7 * len(pack("SET", f"{{{FIRST}}}k", 1))
    assert grown("slotgate_client_bytes_total", direction="out") == 7 * len(OK)
    assert value(found, "slotgate_workers") == 2
    assert value(found, "slotgate_shards") == 2
    up = {dict(labels)["worker"]: count for (name, labels), count in found.items() if name == "slotgate_backend_up"}
    assert up == {"0": 1, "1": 1}
    assert standing.http("/readyz") == (200, "ready: every slot has a reachable primary\n")
    assert standing.http("/healthz") == (200, "alive\n")
    assert all(node["connected"] for node in standing.nodes())


def test_a_transaction_about_all_clients(standing: ProxyProcess) -> None:
    """What is about the clients of all workers is so inside a transaction too, and stands at its place."""
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        first, second = client_id(one), client_id(two)
        key = f"{{{FIRST}}}k"
        ids = ("CLIENT", "LIST", "ID", str(first), str(second))
        one.send(pipeline(("MULTI",), ("SET", key, 1), ids, ("GET", key), ("EXEC",), ("GET", key)))
        *_, result, behind = one.replies(6)
        found = decode(result)
        assert isinstance(found, list)
        ok, lines, value_ = found
        assert (ok, value_, behind) == (b"OK", b"1", b"$1\r\n1\r\n")
        assert [line.partition(b" ")[0] for line in lines.splitlines()] == [b"id=%d" % first, b"id=%d" % second]
        one.send(pipeline(("MULTI",), ("CLIENT", "KILL", "ID", str(second)), ("CLIENT", "ID"), ("EXEC",)))
        *_, result = one.replies(4)
        assert decode(result) == [1, first]
        assert two.closed()


def backwards(before: Mapping[tuple[str, Labels], float], after: Mapping[tuple[str, Labels], float]) -> list[str]:
    """Counters that are smaller than they were, or gone."""
    return [
        f"{name}{dict(labels)}: {count} then {after.get((name, labels))}"
        for (name, labels), count in before.items()
        if name.endswith(("_total", "_count", "_sum", "_bucket")) and after.get((name, labels), -1.0) < count
    ]


def test_a_worker_killed_under_load(standing: ProxyProcess) -> None:
    """Its own clients lose their connections, the others notice nothing, and no counter goes backwards."""
    wrong: list[str] = []
    before = restarts(standing)
    over = threading.Event()

    def scrape() -> None:
        last = samples(standing)
        while not over.is_set():
            now = samples(standing)
            wrong.extend(backwards(last, now))
            last = now

    scraper = threading.Thread(target=scrape)
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        scraper.start()
        try:
            with BusyClients(standing.address, lambda rng: [("SET", f"k{rng.random()}", 1)] * 5, clients=6) as load:
                load.wait(300)
                os.kill(workers(standing)[0], signal.SIGKILL)
                # Half of these go to the dead one's socket, and wait there for its successor.
                for number in range(20):
                    with Wire(standing.address) as client:
                        assert client.ask("SET", f"after{number}", number) == OK
                    assert two.ask("ECHO", number) == pack(number)[4:]
                load.wait(300)
            assert one.closed()
        finally:
            over.set()
            scraper.join()
    assert not wrong
    assert not load.errors
    assert restarts(standing) == before + 1
    assert eventually(lambda: ready(standing))
    assert re.search(r" ERROR worker ended worker=0 pid=\d+ signal=SIGKILL lived=[\d.]+s restart_in=", standing.log)


def test_connections_wait_for_the_successor(standing: ProxyProcess) -> None:
    """With all workers dead nothing is refused."""
    before = restarts(standing)
    for pid in workers(standing).values():
        os.kill(pid, signal.SIGKILL)
    clients = [Wire(standing.address) for _ in range(10)]
    for client in clients:
        assert client.ask("PING") == b"+PONG\r\n"
        client.close()
    assert eventually(lambda: restarts(standing) == before + 2)


def test_ids_are_unique_over_workers_and_their_lives(standing: ProxyProcess) -> None:
    seen: list[int] = []

    def come(count: int) -> None:
        for _ in range(count):
            with Wire(standing.address) as client:
                seen.append(client_id(client))

    come(40)
    for index in (0, 1):
        kill_worker(standing, index)
        come(40)
    assert len(set(seen)) == len(seen) == 120
    assert {number % 2 for number in seen} == {0, 1}
    for parity in (0, 1):
        of_one = [number for number in seen if number % 2 == parity]
        assert of_one == sorted(of_one)
    assert min(seen) > 0
    assert max(seen) - min(seen) < 4 * len(seen)


def test_client_list_and_kill_span_workers(standing: ProxyProcess) -> None:
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        first, second = client_id(one), client_id(two)
        two.ask("CLIENT", "SETNAME", "second")
        assert eventually(lambda: [row["id"] for row in listed(one)] == [str(n) for n in sorted((first, second))])
        rows = {int(row["id"]): row for row in listed(one)}
        assert rows[second]["name"] == "second"
        assert rows[first]["cmd"] == "client|list"
        assert [int(row["id"]) for row in listed(one, "ID", second, 999_999)] == [second]
        assert listed(one, "TYPE", "pubsub") == []
        assert one.ask("CLIENT", "LIST", "TYPE", "x") == b"-ERR Unknown client type 'x'\r\n"
        assert one.ask("CLIENT", "KILL", "127.0.0.1:1") == b"-ERR No such client\r\n"
        assert one.value("CLIENT", "KILL", "ID", 999_999) == 0
        # What follows a command that spans workers is carried out after it, and answered in its turn.
        one.send(
            pack("SET", f"{{{FIRST}}}k", 1)
            + pack("CLIENT", "KILL", "ID", second)
            + pack("CLIENT", "LIST", "ID", second)
            + pack("ECHO", "x")
            + pack("GET", f"{{{FIRST}}}k")
        )
        assert one.replies(5) == [OK, b":1\r\n", b"$0\r\n\r\n", b"$1\r\nx\r\n", b"$1\r\n1\r\n"]
        assert two.closed()
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        assert one.ask("CLIENT", "KILL", "{}:{}".format(*two.socket.getsockname())) == OK
        assert two.closed()
        _, two = one_of_each(standing.address, stack)
        others = len(listed(one)) - 1
        assert one.value("CLIENT", "KILL", "TYPE", "normal") == others
        assert two.closed()
        one.send(pack("CLIENT", "REPLY", "SKIP") + pack("CLIENT", "LIST") + pack("ECHO", "y"))
        assert one.reply() == b"$1\r\ny\r\n"
        assert one.value("CLIENT", "KILL", "ADDR", "{}:{}".format(*one.socket.getsockname()), "SKIPME", "no") == 1
        assert one.closed()


def test_pause_spans_workers_and_those_that_start_in_it(standing: ProxyProcess) -> None:
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        assert one.ask("CLIENT", "PAUSE", 60_000, "WRITE") == OK
        two.send(pack("SET", "paused", 1))
        assert two.silent()
        kill_worker(standing, 1)
        assert two.closed()
        _, two = one_of_each(standing.address, stack)
        assert two.ask("GET", "paused") == b"$-1\r\n"
        two.send(pack("SET", "paused", 1))
        assert two.silent()
        assert one.ask("CLIENT", "UNPAUSE") == OK
        assert two.reply() == OK
        assert one.ask("CLIENT", "PAUSE", 300) == OK
        began = time.monotonic()
        assert two.ask("GET", "paused") == b"$1\r\n1\r\n"
        assert time.monotonic() - began > 0.2
        # A pause that is over, or was ended, is nothing to a worker that starts.
        kill_worker(standing, 1)
        _, two = one_of_each(standing.address, stack)
        assert two.ask("SET", "paused", 2) == OK


def test_a_stuck_worker_holds_up_nobody_for_long(shards: LocalShards, standing: ProxyProcess) -> None:
    with ExitStack() as stack:
        direct = stack.enter_context(Wire(shards.primaries[0].address))
        one, two = one_of_each(standing.address, stack)
        first = client_id(one)
        pid = workers(standing)[1]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert [int(row["id"]) for row in listed(one)] == [first]
            assert value(samples(standing), "slotgate_workers") == 2
            assert standing.http("/readyz") == (503, "worker 1 does not answer\n")
            assert standing.http("/healthz")[0] == 200
            assert 2.5 < time.monotonic() - began < 8
            with Wire(standing.address) as leaver:  # before it is answered, whichever worker it has
                leaver.send(pack("CLIENT", "LIST"))
            # What follows a command that spans workers is not carried out before it.
            one.send(pack("CLIENT", "KILL", "ID", 999_999) + pack("SET", f"{{{FIRST}}}later", 1))
            assert one.silent()
            assert direct.value("EXISTS", f"{{{FIRST}}}later") == 0
            assert one.replies(2) == [b":0\r\n", OK]
        finally:
            os.kill(pid, signal.SIGCONT)
        assert eventually(lambda: ready(standing))
        assert two.ask("PING") == b"+PONG\r\n"
        # The one that has left is seen off when its worker comes to it.
        assert eventually(lambda: len(listed(one)) == 2)
    assert standing.log.count(f"worker does not answer worker=1 pid={pid}\n") == 1


@pytest.mark.drill
@pytest.mark.quick
def test_a_stuck_worker_is_killed_and_started_again(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, "--workers", "2", config="worker_patience = '1s'\n")
    with ExitStack() as stack:
        one, two = one_of_each(proxy.address, stack)
        pid = workers(proxy)[1]
        os.kill(pid, signal.SIGSTOP)
        assert eventually(lambda: not runs(pid))
        assert two.closed()
        assert one.ask("PING") == b"+PONG\r\n"
        assert eventually(lambda: ready(proxy))
        assert workers(proxy)[1] != pid
        one_of_each(proxy.address, stack)
    assert value(samples(proxy), "slotgate_workers_stuck_total") == restarts(proxy) == 1
    assert f"worker is stuck, and is killed worker=1 pid={pid} silent=1s\n" in proxy.log
    assert f"worker ended worker=1 pid={pid} signal=SIGKILL" in proxy.log


@pytest.mark.drill
@pytest.mark.quick
def test_a_stuck_supervisor_is_given_up(shards: LocalShards, serve: Serve) -> None:
    """The workers go on serving meanwhile, and then drain."""
    proxy = serve("--static", shards.static, "--workers", "2", config="worker_patience = '1s'\n")
    pids = [*workers(proxy).values(), proxy.pid]
    with ExitStack() as stack:
        one, two = one_of_each(proxy.address, stack)
        began = time.monotonic()
        os.kill(proxy.pid, signal.SIGSTOP)
        while time.monotonic() - began < 2:
            assert one.ask("PING") == two.ask("PING") == b"+PONG\r\n"
        assert one.closed()
        assert two.closed()
        assert 2.5 < time.monotonic() - began < 10
    assert eventually(lambda: not any(runs(pid) for pid in pids))
    assert proxy.log.count("the supervisor does not answer") == 2
    assert "the supervisor is stuck, and is killed" in proxy.log
    assert proxy.log.count(" stopped\n") == 2
    assert "Traceback" not in proxy.log
    proxy.kill()


def test_sigterm_drains_all_workers(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, "--workers", "2")
    pids = workers(proxy)
    with ExitStack() as stack:
        busy = one_of_each(proxy.address, stack)
        idle = stack.enter_context(Wire(proxy.address))
        assert idle.ask("PING") == b"+PONG\r\n"
        shards.primaries[0].pause()
        try:
            for client in busy:
                client.send(pack("SET", f"{{{FIRST}}}k", 1) + pack("SET", f"{{{SECOND}}}k", 1))
            assert all(client.silent() for client in busy)
            os.kill(proxy.pid, signal.SIGTERM)
            wait_until_refused(proxy.address)
            assert proxy.http("/readyz") == (503, "draining: the proxy is about to stop\n")
            assert idle.closed()
            assert all(client.silent() for client in busy)
            assert proxy.running
        finally:
            shards.primaries[0].resume()
        assert [client.rest() for client in busy] == [OK + OK] * 2
    proxy.stop()
    assert not any(runs(pid) for pid in pids.values())


@pytest.mark.drill
def test_a_worker_that_does_not_end_is_killed(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, "--workers", "2", config="drain_timeout = '200ms'\n")
    pids = workers(proxy)
    os.kill(pids[1], signal.SIGSTOP)
    began = time.monotonic()
    proxy.stop()
    assert 2 < time.monotonic() - began < 8
    assert not any(runs(pid) for pid in pids.values())
    assert f"worker did not end, and is killed worker=1 pid={pids[1]}\n" in proxy.log
    assert "worker=0 stopped" in proxy.log


def test_interrupted_as_a_group_it_ends_once(shards: LocalShards, serve: Serve) -> None:
    """Ctrl-C reaches every process."""
    proxy = serve("--static", shards.static, "--workers", "2")
    pids = [*workers(proxy).values(), proxy.pid]
    for number in (signal.SIGINT, signal.SIGTERM):
        for pid in pids:
            if runs(pid):
                os.kill(pid, number)
    proxy.stop()
    assert not any(runs(pid) for pid in pids)
    assert "worker ended" not in proxy.log


def test_interrupted_while_it_starts(shards: LocalShards, serve: Serve) -> None:
    """A worker that can not answer a signal yet is not killed by it, nor says so in a traceback."""
    proxy = serve("--static", shards.static, "--workers", "2", ready=False)
    assert eventually(lambda: len(workers(proxy)) == 2)
    pids = [*workers(proxy).values(), proxy.pid]
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    proxy.stop()
    assert not any(runs(pid) for pid in pids)


def test_sigterm_of_one_worker_replaces_it(standing: ProxyProcess) -> None:
    with ExitStack() as stack:
        one, two = one_of_each(standing.address, stack)
        old = workers(standing)[1]
        kill_worker(standing, 1, signal.SIGTERM)
        assert two.closed()
        assert one.ask("PING") == b"+PONG\r\n"
        one_of_each(standing.address, stack)
        assert workers(standing)[1] != old
    assert re.search(rf" ERROR worker ended worker=1 pid={old} exit=0 ", standing.log)


def test_workers_do_not_outlive_their_supervisor(proxy: ProxyProcess) -> None:
    pids = workers(proxy)
    with Wire(proxy.address) as client:
        assert client.ask("PING") == b"+PONG\r\n"
        proxy.kill()
        assert client.closed()
    assert eventually(lambda: not any(runs(pid) for pid in pids.values()), 5)
    wait_until_refused(proxy.address)


@pytest.mark.drill
def test_a_worker_that_keeps_dying_is_given_pauses(proxy: ProxyProcess) -> None:
    for _ in range(3):
        kill_worker(proxy, 0)
        assert eventually(lambda: 0 in workers(proxy))
    ends = re.findall(r"worker ended worker=0 .* lived=([\d.]+)s restart_in=([\d.]+)s", proxy.log)
    expected, waits = 0.0, []
    for lived, _ in ends:
        # The first one may have lived long, on a slow machine.
        expected = 0.0 if float(lived) > 5 else max(2 * expected, 0.05)
        waits.append(expected)
    assert [float(wait) for _, wait in ends] == waits
    assert len(waits) == 3
    assert waits[-1] > waits[-2] > 0
    assert eventually(lambda: ready(proxy))


def test_a_unix_socket(shards: LocalShards, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    proxy = serve("--static", shards.static, "--workers", "2", listen=f"unix:{path}")
    with ExitStack() as stack:
        clients = [stack.enter_context(Wire(proxy.address)) for _ in range(20)]
        assert {client.ask("SET", "k", 1) for client in clients} == {OK}
    for index in (0, 1):
        kill_worker(proxy, index)
    with Wire(proxy.address) as client:
        assert client.value("GET", "k") == b"1"
    proxy.stop()
    assert not path.exists()


def test_a_worker_for_each_core(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, "--workers", "auto")
    cores = len(os.sched_getaffinity(0))
    assert value(samples(proxy), "slotgate_workers") == cores
    assert len(workers(proxy)) == (cores if cores > 1 else 0)


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_taken_port_is_said_in_one_line(shards: LocalShards, standing: ProxyProcess, count: str) -> None:
    """SO_REUSEPORT must not let another one in."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "proxy", "serve", "--static", shards.static, "--workers", count),
            *("--listen", standing.address, "--admin", f"{LOOPBACK}:{free_port()}"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    words = "Address already in use. Stop what uses it, or choose another address (listen, listeners, admin)"
    *_, line = ended.stderr.splitlines()
    assert line == f"slotgate: can not listen on {standing.address}: {words}"


def test_a_taken_port_is_said_before_anything_is_connected(standing: ProxyProcess) -> None:
    """Neither to the servers, nor is anything said of them."""
    with socket.create_server((LOOPBACK, 0)) as server:
        server.settimeout(0)
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "proxy", "serve", "--static", f"{LOOPBACK}:{server.getsockname()[1]}"),
                *("--listen", f"{LOOPBACK}:{free_port()}", "--admin", standing.admin),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        with pytest.raises(BlockingIOError):
            server.accept()
    assert ended.returncode == 1
    assert f"slotgate: can not listen on {standing.admin}: Address already in use. Stop" in ended.stderr


def test_max_clients_is_for_all_workers(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, "--workers", "2", config="[limits]\nmax_clients = 4\n")
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(Wire(proxy.address))
            assert client.ask("PING") == b"+PONG\r\n"
        for _ in range(5):
            with Wire(proxy.address) as one_too_many:
                assert one_too_many.rest() == b"-ERR max number of clients reached\r\n"
        # What a dead worker had makes room.
        dead = worker_of(client)
        kill_worker(proxy, dead)
        assert client.closed()
        with Wire(proxy.address) as another:
            assert another.ask("PING") == b"+PONG\r\n"


def test_secrets_are_in_no_argument_and_no_environment(shards: LocalShards, serve: Serve) -> None:
    users = '[[users]]\nname = "default"\npassword = "open-sesame"\n'
    proxy = serve("--static", shards.static, "--workers", "2", config=users)
    for pid in workers(proxy).values():
        for name in ("cmdline", "environ"):
            assert b"sesame" not in Path(f"/proc/{pid}/{name}").read_bytes()
    for _ in range(6):
        with Wire(proxy.address) as client:
            assert client.ask("GET", "k") == b"-NOAUTH Authentication required.\r\n"
            assert client.ask("AUTH", "open-sesame") == OK
            assert client.ask("SET", "k", 1) == OK
