"""``slotgate check --connect`` against real servers: what each of them says about itself, and what does not fit."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from proxy.commandline.check import CheckOptions, check
from proxy.commandline.server_facts import QUESTIONS
from proxy.devservers.cluster import start_cluster
from proxy.devservers.sentinel import start_watched
from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, free_port, start_many
from tests.support.certificates import Authority, speaks_tls

pytestmark = pytest.mark.live

SECRET = "n0t-to-be-shown"


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    with start_many(2, 1, binary=binary) as found:
        yield found


def checked(folder: Path, text: str, strict: bool = False) -> tuple[str, int]:
    path = folder / "slotgate.toml"
    path.write_text(text)
    path.chmod(0o600)
    found = check(path, {}, {}, CheckOptions(connect=True, strict=strict))
    assert SECRET not in found[0]
    return found


def static(*shards: Sequence[str]) -> str:
    return "".join(
        f'[[shards]]\nprimary = "{primary}"\nreplicas = [{", ".join(map(json.dumps, replicas))}]\n'
        for primary, *replicas in shards
    )


def servers_of(shards: LocalShards) -> list[list[str]]:
    return [
        [primary.address, *(replica.address for replica in replicas)]
        for primary, replicas in zip(shards.primaries, shards.replicas, strict=True)
    ]


def set_at(server: LocalServer, name: str, value: str) -> None:
    assert server.ask("CONFIG", "SET", name, value) == b"OK"


def findings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("error", "warning"))]


def test_servers_that_are_right(shards: LocalShards, binary: ServerBinary, tmp_path: Path) -> None:
    text, code = checked(tmp_path, static(*servers_of(shards)), strict=True)
    assert (findings(text), code) == ([], 0)
    rows = [line.split() for line in text.splitlines()[-4:]]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        (server, f"shard-{index}", role, "ok")
        for index, servers in enumerate(servers_of(shards), start=1)
        for server, role in zip(servers, ("primary", "replica"), strict=True)
    ]
    assert all(binary.version in row for row in rows)


def test_the_command_as_json(shards: LocalShards) -> None:
    command = [sys.executable, "-m", "proxy", "check", "--static", shards.static, "--connect", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert [(each["server"], each["state"]) for each in found["servers"]] == [
        (address, "ok") for servers in servers_of(shards) for address in servers
    ]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("timeout", "60", "closes connections that are idle for 60 s (timeout)"),
        ("maxmemory-policy", "allkeys-lru", 'has maxmemory-policy "allkeys-lru", but most servers have "noeviction"'),
        ("notify-keyspace-events", "KEA", "subscribers to key events hear those of some shards only"),
        ("maxclients", "500", "takes 500 clients (maxclients), and this proxy alone may have 1008 connections"),
    ],
)
def test_a_setting_of_one_server(shards: LocalShards, tmp_path: Path, name: str, value: str, words: str) -> None:
    one = shards.primaries[1]
    before = one.ask("CONFIG", "GET", name)
    assert isinstance(before, list)
    set_at(one, name, value)
    try:
        text, code = checked(tmp_path, static(*servers_of(shards)))
        [line] = findings(text)
        assert line.startswith(f"warning    {one.address} (shard-2): ")
        assert words in line
        assert code == 0
        assert checked(tmp_path, static(*servers_of(shards)), strict=True)[1] == 1
    finally:
        set_at(one, name, before[1].decode())


def test_servers_in_the_wrong_place(shards: LocalShards, tmp_path: Path) -> None:
    (one, its), (two, other) = servers_of(shards)
    elsewhere = one.replace("127.0.0.1", "0.0.0.0")
    for servers, lines in (
        # A replica as primary, and a primary as replica.
        (
            ([its, one], [two, other]),
            [
                f"error      {its} (shard-1): is a replica of {one}, and is named as primary: name the primary",
                f"warning    {one} (shard-1): is a primary, and is named as replica: nothing is read from it",
            ],
        ),
        # The replicas of the two shards are exchanged.
        (
            ([one, other], [two, its]),
            [
                f"error      {other} (shard-1): follows {two}, the primary of shard-2",
                f"error      {its} (shard-2): follows {one}, the primary of shard-1",
            ],
        ),
        # One server by two names.
        (([one, its], [elsewhere]), [f"error      {elsewhere} (shard-2): is the same server as {one}"]),
    ):
        text, code = checked(tmp_path, static(*servers))
        assert code == 1
        found = findings(text)
        assert len(found) == len(lines)
        for line, words in zip(found, lines, strict=True):
            assert line.startswith(words)


def test_replicas_that_are_discovered(shards: LocalShards, tmp_path: Path) -> None:
    primaries = static(*([primary] for primary, _ in servers_of(shards)))
    text, code = checked(tmp_path, f"{primaries}[topology]\ndiscover_replicas = true\n", strict=True)
    assert code == 0
    rows = {tuple(line.split()[:3]) for line in text.splitlines() if line.endswith(" ok")}
    assert rows == {
        (server, f"shard-{index}", role)
        for index, servers in enumerate(servers_of(shards), start=1)
        for server, role in zip(servers, ("primary", "replica"), strict=True)
    }


def test_a_server_that_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as web:
        web.settimeout(10)

        def answer() -> None:
            with web.accept()[0] as client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (silent, web)]
        text, code = checked(
            tmp_path, f'{static(*([each] for each in addresses))}[backend]\nconnect_timeout = "100ms"\n'
        )
        answering.join()
    assert code == 1
    hanging, other = [line for line in findings(text) if line.startswith("error")]
    assert hanging.startswith(f"error      {addresses[0]} (shard-1): does not answer within 3.1 s: a firewall may drop")
    assert other.startswith(f"error      {addresses[1]} (shard-2): what answers is no Redis server")


def test_a_server_that_quotes_the_password(tmp_path: Path) -> None:
    """As a server does on which AUTH has another name (rename-command)."""
    with socket.create_server(("127.0.0.1", 0)) as odd:
        odd.settimeout(10)

        def answer() -> None:
            with odd.accept()[0] as client:
                words = f"-ERR unknown command 'AUTH', with args beginning with: '{SECRET}' \r\n"
                client.sendall(words.encode() + b"-NOAUTH Authentication required.\r\n" * len(QUESTIONS))
                client.recv(10000)

        answering = threading.Thread(target=answer)
        answering.start()
        address = f"127.0.0.1:{odd.getsockname()[1]}"
        text, code = checked(tmp_path, f'{static([address])}[backend]\npassword = "{SECRET}"\n')
        answering.join()
    assert f"{address} (shard-1): the server refuses the proxy's AUTH: ERR unknown command 'AUTH'\n" in text
    assert code == 1


def test_servers_that_can_not_be_reached(tmp_path: Path) -> None:
    port = free_port()
    text, code = checked(tmp_path, static([f"127.0.0.1:{port}"], ["no-such-host.invalid:1"], ["unix:/no/s.sock"]))
    assert code == 1
    assert [line for line in findings(text) if line.startswith("error")] == [
        f"error      127.0.0.1:{port} (shard-1): refuses the connection: start the server, or correct the port",
        "error      no-such-host.invalid:1 (shard-2): has a name that can not be resolved: correct it, or look at your "
        "name servers",
        "error      unix:/no/s.sock (shard-3): has no socket there: start the server, or correct the path",
    ]


def test_logins(binary: ServerBinary, tmp_path: Path) -> None:
    server = LocalServer(binary, tmp_path, password=SECRET)
    open_one = LocalServer(binary, tmp_path)
    server.start()
    open_one.start()
    try:
        shard = static([server.address])
        for backend, words in (
            ("", "asks for a password: set password_env or password_file under [backend]"),
            (
                'password = "wr0ng"',
                "refuses the proxy's user or password: correct username and password under [backend]",
            ),
            (f'username = "nobody"\npassword = "{SECRET}"', "refuses the proxy's user or password"),
        ):
            text, code = checked(tmp_path, f"{shard}[backend]\n{backend}\n")
            assert f"error      {server.address} (shard-1): {words}" in text
            assert code == 1
        assert checked(tmp_path, f'{shard}[backend]\npassword = "{SECRET}"\n', strict=True)[1] == 0
        user = f'[[users]]\nname = "a"\nnopass = true\nbackend_user = "b"\nbackend_password = "{SECRET}"\n'
        text, _ = checked(tmp_path, f'{shard}[backend]\npassword = "{SECRET}"\n{user}')
        assert f'{server.address} (shard-1): refuses the backend_user "b": refuses the proxy' in text
        text, _ = checked(tmp_path, f'{static([open_one.address])}[backend]\npassword = "{SECRET}"\n')
        assert "needs no password: leave password out under [backend]" in text
        # A user that may do nothing but what the proxy does anyhow: what is not told is not an error.
        open_one.ask("ACL", "SETUSER", "few", "on", f">{SECRET}", "~*", "+@all", "-config", "-module")
        few = f'[backend]\nusername = "few"\npassword = "{SECRET}"\n'
        text, code = checked(tmp_path, static([open_one.address]) + few, strict=True)
        assert "note       " in text
        assert "does not allow the proxy's user MODULE LIST, CONFIG GET maxclients" in text
        assert code == 0
    finally:
        server.stop()
        open_one.stop()


def test_a_cluster(binary: ServerBinary, tmp_path: Path) -> None:
    with start_cluster(2, 1, binary=binary) as cluster, start_many(1, 0, binary=binary) as plain:
        seeds = cluster.seeds.split(",")
        kind = '[topology]\nkind = "cluster"\n'
        text, code = checked(tmp_path, f"{kind}[cluster]\nseeds = {json.dumps(seeds)}\n")
        assert (findings(text), code) == ([], 0)
        rows = [line.split() for line in text.splitlines()[-4:]]
        assert [(row[1], row[2], row[-1]) for row in rows] == [
            ("0-8191", "primary", "ok"),
            ("0-8191", "replica", "ok"),
            ("8192-16383", "primary", "ok"),
            ("8192-16383", "replica", "ok"),
        ]
        # A node as a static shard.
        text, code = checked(tmp_path, static([seeds[0]]))
        assert f"{seeds[0]} (shard-1): is a node of a Redis Cluster and serves 8192 of the 16384 slots" in text
        assert code == 1
        # A server that is in no cluster as seed, and one that is down.
        lone = plain.primaries[0].address
        text, code = checked(tmp_path, f'{kind}[cluster]\nseeds = ["{lone}"]\n')
        assert f"error      {lone} (seed): it is not in cluster mode" in text
        assert code == 1
        down = f"127.0.0.1:{free_port()}"
        text, code = checked(tmp_path, f'{kind}[cluster]\nseeds = ["{down}", "{seeds[0]}"]\n')
        assert f"warning    {down} (seed): refuses the connection" in text
        assert code == 0
        # Slots that nobody has.
        cluster.nodes[0].ask("CLUSTER", "DELSLOTS", 5)
        text, code = checked(tmp_path, f'{kind}[cluster]\nseeds = ["{seeds[0]}"]\n')
        assert "error      cluster: 1 of the 16384 slots have no owner" in text
        assert code == 1


def test_sentinels(binary: ServerBinary, tmp_path: Path) -> None:
    with start_watched(2, 1, binary=binary) as watched:
        sentinels = watched.sentinel_addresses.split(",")
        kind = f'[topology]\nkind = "sentinel"\n[sentinel]\nsentinels = {json.dumps(sentinels)}\n'
        masters = watched.masters.split(",")
        text, code = checked(tmp_path, f"{kind}masters = {json.dumps(masters)}\n")
        assert (findings(text), code) == ([], 0)
        roles = [line.split()[1:3] for line in text.splitlines() if line.endswith("ok")]
        assert roles.count(["-", "sentinel"]) == len(sentinels)
        assert [role for role in roles if role[0] == masters[0]] == [[masters[0], "primary"], [masters[0], "replica"]]
        text, code = checked(tmp_path, f'{kind}masters = ["{masters[0]}x"]\n')
        assert f'error      {sentinels[0]} (sentinel): knows no master "{masters[0]}x"; did you mean "' in text
        assert code == 1
        # A server in place of a sentinel, and a sentinel in place of a server.
        server = watched.primary(masters[0]).address
        text, code = checked(
            tmp_path,
            f'[topology]\nkind = "sentinel"\n[sentinel]\nsentinels = ["{server}"]\nmasters = ["{masters[0]}"]\n',
        )
        assert f"error      {server} (sentinel): it is a server, not a sentinel" in text
        text, code = checked(tmp_path, static([sentinels[0]]))
        assert f"error      {sentinels[0]} (shard-1): is a sentinel, and holds no keys" in text
        assert code == 1


def test_tls(binary: ServerBinary, tmp_path: Path) -> None:
    speaks_tls(binary)
    authority, stranger = Authority(tmp_path / "good"), Authority(tmp_path / "other", "stranger")
    port = free_port()
    soon = authority.sign("server", days=2)
    options = (
        f"tls-port {port}",
        f"tls-cert-file {soon.certificate}",
        f"tls-key-file {soon.key}",
        f"tls-ca-cert-file {authority.pair.certificate}",
        "tls-auth-clients no",
    )
    server = LocalServer(binary, tmp_path, options=options)
    server.start()
    try:
        shard = static([f"127.0.0.1:{port}"])
        text, code = checked(tmp_path, f'{shard}[backend]\ntls = true\ntls_ca_file = "{authority.pair.certificate}"\n')
        assert (
            f"warning    127.0.0.1:{port} (shard-1): speaks TLS, whose certificate expires in 2 days: renew it" in text
        )
        assert code == 0
        text, code = checked(tmp_path, f'{shard}[backend]\ntls = true\ntls_ca_file = "{stranger.pair.certificate}"\n')
        assert "(shard-1): the server's certificate is not trusted" in text
        assert code == 1
        text, code = checked(tmp_path, shard)
        assert "if it speaks TLS at this port, tls = true is missing" in text
        plain = f'{static([server.address])}[backend]\ntls = true\nconnect_timeout = "500ms"\n'
        text, code = checked(tmp_path, f'{plain}tls_ca_file = "{authority.pair.certificate}"\n')
        assert "if it speaks no TLS at this port, name its tls-port" in text
        assert code == 1
    finally:
        server.stop()
