"""No secret is shown: in the log, metrics, command lines, the crash output, INFO, SLOTGATE CONFIG, `slotgate check`, or
to others by MONITOR, ACL LOG and CLIENT LIST.

Every other test with a proxy checks its log, its command line and what it reads of the admin port, too
(``tests.support.secrets``).
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.devservers.servers import ServerBinary, start_many
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.secrets import Secrets, command_lines
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

SERVERS = "planted-for-servers"
ADMIN = "planted-for-the-admin-port"
USER, HASHED, RULED, FILED, NAMED = (f"planted-for-user-{number}" for number in range(5))
TRIED, TYPED, SET = "planted-guess-of-a-client", "planted-in-a-misspelt-auth", "planted-by-setuser"
PLANTED = (SERVERS, ADMIN, USER, HASHED, RULED, FILED, NAMED, TRIED, SET)
CONFIG = f"""
workers = {{workers}}
[admin]
username = "scraper"
password = "{ADMIN}"
[backend]
password = "{SERVERS}"
[log]
level = "debug"
[[users]]
name = "default"
password = "{USER}"
admin = true
[[users]]
name = "hashed"
password_sha256 = "{hashlib.sha256(HASHED.encode()).hexdigest()}"
[[users]]
name = "ruled"
rules = "on >{RULED} ~* +@all"
[[users]]
name = "filed"
password_file = "filed"
[[users]]
name = "named"
password_env = "PLANTED"
"""
SHOWN = (
    ("INFO", "everything"),
    ("SLOTGATE", "CONFIG"),
    ("SLOTGATE", "NODES"),
    ("SLOTGATE", "CLIENTS"),
    ("CONFIG", "GET", "*"),
    ("CLIENT", "LIST"),
    ("CLIENT", "INFO"),
    ("ACL", "LOG"),
    ("SLOWLOG", "GET", "100"),
    ("LATENCY", "LATEST"),
    ("COMMAND", "COUNT"),
)


def hashes() -> set[str]:
    return {hashlib.sha256(secret.encode()).hexdigest() for secret in PLANTED}


def clear_of_secrets(text: str) -> None:
    shown = [secret for secret in (*PLANTED, *hashes()) if secret in text]
    assert not shown, (shown, text)


@pytest.mark.parametrize("workers", [1, 2])
def test_planted_secrets(binary: ServerBinary, tmp_path: Path, workers: int) -> None:
    (tmp_path / "filed").write_text(f"{FILED}\n")
    environment = {"PLANTED": NAMED, "PYTHONFAULTHANDLER": "1"}
    with start_many(2, 0, binary=binary, password=SERVERS) as shards:
        proxy = ProxyProcess(
            tmp_path, "--static", shards.static, config=CONFIG.format(workers=workers), environment=environment
        )
        assert Secrets.known >= {*PLANTED} - {HASHED, TRIED, SET}
        try:
            start(proxy)
            said = talk(proxy, workers)
            said += "".join(body(proxy, path) for path in ("/metrics", "/topology", "/readyz", "/healthz", "/status"))
            said += command_lines(proxy.pid)
            clear_of_secrets(said)
            proxy.signal(signal.SIGABRT)
            assert eventually(lambda: not proxy.running)
            assert "Fatal Python error: Aborted" in proxy.log
            clear_of_secrets(proxy.log)
            assert TYPED not in proxy.log
        finally:
            proxy.kill()


def start(proxy: ProxyProcess) -> None:
    """Start a proxy whose admin port answers nobody without a password."""
    with contextlib.suppress(AssertionError):
        proxy.start(ready=False)
    assert proxy.running, proxy.log


def body(proxy: ProxyProcess, path: str) -> str:
    """What the admin port answers to who knows its password."""
    command = ["curl", "-s", "-u", f"scraper:{ADMIN}", f"http://{proxy.admin}{path}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout


def talk(proxy: ProxyProcess, workers: int) -> str:
    """What the proxy shows to an admin while others log in, or try to."""
    shown = b""
    with Wire(proxy.address) as admin, Wire(proxy.address) as spectator:
        for client in (admin, spectator):
            assert client.ask("AUTH", USER) == b"+OK\r\n"
        assert spectator.ask("MONITOR") == b"+OK\r\n"
        for user, password in (("hashed", HASHED), ("ruled", RULED), ("filed", FILED), ("named", NAMED)):
            with Wire(proxy.address) as client:
                assert client.ask("AUTH", user, TRIED).startswith(b"-WRONGPASS ")
                assert client.ask("HELLO", 3, "AUTH", user, password, "SETNAME", "me").startswith(b"%")
                client.ask("SET", "k", 1)
        with Wire(proxy.address) as client:
            client.ask("AUHT", TYPED)
        assert admin.ask("ACL", "SETUSER", "new", "on", f">{SET}", "+@all", "~*") == b"+OK\r\n"
        for command in SHOWN:
            shown += admin.ask(*command)
        # Redis shows hashes to who may ask for users; passwords it shows to nobody.
        for command in ("ACL", "LIST"), ("ACL", "GETUSER", "ruled"), ("ACL", "GETUSER", "new"):
            users = admin.ask(*command).decode()
            assert not [secret for secret in PLANTED if secret in users]
        spectator.send(pack("RESET"))
        while not (reply := spectator.reply()).startswith(b"+RESET"):
            shown += reply
    assert b'"k"' in shown  # the spectator saw the commands
    return shown.decode("latin-1")


def test_the_words_of_check(tmp_path: Path) -> None:
    """Wrong and right configurations, in words, and the tracebacks of neither."""
    (tmp_path / "filed").write_text(f"{FILED}\n")
    right = CONFIG.format(workers=1) + '[[shards]]\nprimary = "127.0.0.1:1"\n'
    wrong = right.replace('password = "', 'passwort = "') + "max_clients = -1\n"
    mistyped = right.replace(f'password = "{USER}"', f'password = ["{USER}"]').replace('level = "debug"', "level = 1")
    for text, code in (right, 0), (wrong, 1), (mistyped, 1):
        file = tmp_path / "slotgate.toml"
        file.write_text(text)
        command = [sys.executable, "-m", "proxy", "check", "-c", str(file)]
        environment = {**os.environ, "PLANTED": NAMED}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert done.returncode == code
        clear_of_secrets(done.stdout + done.stderr)


def test_the_check_of_all_tests_finds_a_secret(tmp_path: Path) -> None:
    """A proxy whose log shows a password, or its hash, fails the test that stops it."""
    known, leaked = {*Secrets.known}, [*Secrets.leaked]
    try:
        proxy = ProxyProcess(tmp_path, config='[backend]\npassword = "pl4nted-to-be-found"\n')
        log = next(tmp_path.glob("*.toml")).with_suffix(".log")
        for line in (
            "INFO connecting password=pl4nted-to-be-found to all",
            hashlib.sha256(b"pl4nted-to-be-found").hexdigest(),
            json.dumps({"event": "x", "password": "pl4nted-to-be-found"}),
        ):
            log.write_text(f"INFO serving\n{line}\nINFO stopped\n")
            (found,) = {each.partition(": ")[2] for each in Secrets.shown_in(proxy.log, "the log")}
            assert found == line
        log.write_text("INFO serving\n")
        assert not Secrets.shown_in(proxy.log, "the log")
        Secrets.add_sent(pack("HELLO", "3", "AUTH", "somebody", "hunter22"))
        Secrets.add_sent(pack("AUTH", "hunter23"))
        Secrets.add_sent(pack("ACL", "SETUSER", "u", "on", ">hunter24", "~keys:*"))
        assert {"hunter22", "hunter23", "hunter24"} <= Secrets.known
        assert not {"keys:*", "eys:*"} & Secrets.known
    finally:
        Secrets.known, Secrets.leaked = known, leaked
