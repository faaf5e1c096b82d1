"""The mistakes that ``slotgate check`` finds without a connection: each is one line that says what to write."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.commandline import machine_advice
from proxy.commandline.check import CheckOptions, check
from proxy.transport.descriptors import PLENTY
from tests.support.certificates import Authority

SHARD = '[[shards]]\nprimary = "127.0.0.1:7001"\n'
PAIR = '[[shards]]\nprimary = "127.0.0.1:7001"\nreplicas = ["127.0.0.1:7002"]\n'
TWO = f'{SHARD}[[shards]]\nprimary = "127.0.0.1:7003"\n'
SECRET = "n0t-to-be-shown"
OPEN_USER = '[[users]]\nname = "default"\nnopass = true\n'

MISTAKES = {
    # ---- what is no TOML
    "no equals sign": ("read_from any\n", "read_from ...; write KEY = VALUE"),
    "text without quotes": (f"drain_timeout = 20s\n{SHARD}", 'drain_timeout ...; a text stands in quotes, as in "20s"'),
    "word without quotes": (f"read_from = any\n{SHARD}", 'a text stands in quotes, as in "20s"'),
    "password without quotes": (f"[backend]\npassword = {SECRET}\n", "a text stands in quotes"),
    "a quote is missing": (f'[backend]\npassword = "{SECRET}\n', "ends with one, on the same line"),
    "a key twice": (f'read_from = "any"\nread_from = "any"\n{SHARD}', "the key is there twice: keep one of them"),
    "a table twice": (f"{SHARD}[backend]\n[backend]\n", "put all its keys under one heading"),
    "two keys on a line": (f'read_from = "any" workers = 2\n{SHARD}', "one key stands on each line"),
    "a backslash": ('aclfile = "C:\\proxy.acl"\n', "write \\\\ for each backslash"),
    "a backslash before a u": ('aclfile = "C:\\users.acl"\n', "write \\\\ for each backslash"),
    "a list that does not end": ('listen = ["127.0.0.1:6380"\nworkers = 2\n', "a list ends with ]"),
    "a heading that does not end": ("[backend\n", "a heading is [name]"),
    # ---- keys and values
    "a misspelt key": (f'read_form = "any"\n{SHARD}', 'did you mean "read_from"? (slotgate.toml:1)'),
    "a key of another table": (f"max_clients = 5\n{SHARD}", "it belongs under [limits] (slotgate.toml:1)"),
    "a key of the top in a table": (f'{SHARD}cross_slot = "split"\n', "it belongs at the top of the file"),
    "a misspelt choice": (f'read_from = "replicas"\n{SHARD}', 'did you mean "replica"?'),
    "a time without unit": (f"drain_timeout = 20\n{SHARD}", 'write "20s" or "20ms" (slotgate.toml:1)'),
    "a size without unit": (f"{SHARD}[limits]\nmax_bulk = 5\n", 'has no unit: write "5b"'),
    "a number that is no number": (f'{SHARD}[limits]\nmax_clients = "many"\n', "is not a whole number"),
    "an address without port": (f'listen = "127.0.0.1"\n{SHARD}', 'write "host:port"'),
    "a url": ('[[shards]]\nprimary = "redis://me:secret@a:1"\n', "shards[0].primary"),
    "an IPv6 address without brackets": (f'listen = "::1:6380"\n{SHARD}', "needs brackets around its IPv6 part"),
    "no shards": ("workers = 2\n", "name at least one primary under [[shards]]"),
    "a missing primary": ('[[shards]]\nname = "a"\n', "is missing: name the server that takes the writes"),
    "slots that nobody has": (f'{SHARD}slots = "0-99"\n', "no shard has the slots 100-16383"),
    "a server twice": (f"{SHARD}{SHARD}", "name each server once (slotgate.toml:4)"),
    "the proxy as its own server": (f'listen = "127.0.0.1:7001"\n{SHARD}', "is the proxy itself"),
    "a user without password": (f'{SHARD}[[users]]\nname = "app"\n', "has no password: set one of"),
    "two passwords": (f'{SHARD}[backend]\npassword = "{SECRET}"\npassword_env = "X"\n', "keep one of them"),
    "a variable that is not set": (f'{SHARD}[backend]\npassword_env = "NOT_SET"\n', "which is not set: set it"),
    "a file that is not there": (f'{SHARD}[backend]\npassword_file = "no"\n', "can not be read: No such file"),
    "TLS keys without TLS": (f'{SHARD}[backend]\ntls_ca_file = "x"\n', "has no effect without TLS"),
    "a username without password": (f'{SHARD}[backend]\nusername = "u"\n', "needs a password"),
    "seeds of a static topology": (f'{SHARD}[cluster]\nseeds = ["a:1"]\n', 'topology.kind is "static"'),
    "a cluster without seeds": ('[topology]\nkind = "cluster"\n', "name two or three nodes of the cluster"),
    "a rule that is none": (f'{SHARD}[[users]]\nname = "a"\nnopass = true\nrules = "+@raed"\n', "users[0].rules"),
    # ---- what can be used, but hardly is what is meant
    "replica reads of a shard without": (
        f'read_from = "replica"\n{PAIR}[[shards]]\nname = "b"\nprimary = "127.0.0.1:7003"\n',
        'read_from: is "replica", but without replicas every read of b is an error: name replicas',
    ),
    "replica reads of a user": (
        f'{SHARD}{OPEN_USER}read_from = "replica"\n',
        'users[0].read_from: is "replica", but without replicas every read of shard-1 is an error',
    ),
    "replica reads of a listener": (
        f'{SHARD}[[listeners]]\naddress = "127.0.0.1:6380"\nread_from = "replica"\n',
        'listeners[0].read_from: is "replica", but without replicas',
    ),
    "any server, without a replica": (f'read_from = "any"\n{SHARD}', "no shard has a replica, so that every read goes"),
    "own writes without replica reads": (f'read_your_writes = "1s"\n{SHARD}', "read_your_writes: has no effect"),
    "retries longer than a request": (
        f'{SHARD}[backend]\nretry_deadline = "16s"\n',
        "backend.retry_deadline: (16s) is longer than backend.request_timeout (15s), which ends a request before",
    ),
    "no retries": (f'{SHARD}[backend]\nretry_deadline = "0s"\n', "every failover is an error for clients"),
    "a connect longer than a request": (
        f'{SHARD}[backend]\nconnect_timeout = "20s"\n',
        "backend.connect_timeout: (20s) is longer than backend.request_timeout",
    ),
    "a connect longer than the retries": (
        f'{SHARD}[backend]\nconnect_timeout = "11s"\n',
        "a server is tried once only while requests wait for it",
    ),
    "no time to drain": (f'drain_timeout = "0s"\n{SHARD}', "on SIGTERM, requests that are in flight are cut off"),
    "little time to drain": (f'drain_timeout = "1s"\n{SHARD}', "drain_timeout: (1s) is shorter than backend.request"),
    "no keepalive": (f'{SHARD}[limits]\ntcp_keepalive = "0s"\n', "a client that vanishes without a word"),
    "a short idle timeout": (f'{SHARD}[limits]\nidle_timeout = "5s"\n', "find their idle connections closed"),
    "more workers than cores": (f"workers = 1000\n{SHARD}", "are more than the cores that it may use here"),
    "a listener that is closed to others": (
        f'listen = "0.0.0.0:6380"\n{SHARD}',
        "protected  0.0.0.0:6380 accepts clients of this machine only",
    ),
    "a listener that is open to all": (
        f'protected_mode = false\nlisten = "0.0.0.0:6380"\n{SHARD}',
        "whoever reaches 0.0.0.0:6380 can read, change and delete all data. Set a password under [[users]]",
    ),
    "an admin port that is open to all": (f'admin = "0.0.0.0:9121"\n{SHARD}', "set token_env or token_file"),
    "a missing socket folder": (
        f'listen = "unix:/no/such/folder/s.sock"\n{SHARD}',
        "listen[0]: is a socket in /no/such/folder, which does not exist: make the folder",
    ),
    "a missing socket folder of the admin port": (
        f'admin = "unix:/no/such/folder/s.sock"\n{SHARD}',
        "admin.address: is a socket in /no/such/folder, which does not exist",
    ),
    "a socket name that is a file": (f'listen = "unix:/etc/hostname"\n{SHARD}', "is a file that is no socket"),
    "a server's socket that is missing": (
        '[[shards]]\nprimary = "unix:/no/redis.sock"\n',
        "shards[0].primary: names the socket /no/redis.sock, which does not exist",
    ),
    "certificates that nobody checks": (f"{SHARD}[backend]\ntls = true\ntls_verify = false\n", "can pose as one"),
    "a boolean as a word": (
        f'{SHARD}[topology]\ncheck_roles = "yes"\n',
        "topology.check_roles: is true or false, and not a text or a number: write check_roles = true, without quotes",
    ),
    "a boolean as a number": (f"measure = 0\n{SHARD}", "write measure = false, without quotes (slotgate.toml:1)"),
    "a number as a text": (
        f'{SHARD}[limits]\nmax_clients = "500"\n',
        "limits.max_clients: is a number, and not a text: write max_clients = 500, without quotes (slotgate.toml:4)",
    ),
    "workers as a text": (f'workers = "1"\n{SHARD}', "write workers = 1, without quotes"),
    "a limit of a user as a text": (f'{SHARD}{OPEN_USER}max_clients = "5"\n', "write max_clients = 5, without quotes"),
    "memory that is less than one request": (f'{SHARD}[limits]\nmemory = "200mb"\n', "limits.max_request_size"),
    "one seed": ('[topology]\nkind = "cluster"\n[cluster]\nseeds = "a:1"\n', "names one node: if it is down"),
    "one sentinel": (
        '[topology]\nkind = "sentinel"\n[sentinel]\nsentinels = "a:1"\nmasters = "m"\n',
        "names one sentinel: if it is down",
    ),
    "rules for one shard": (f'{SHARD}[[colocate]]\nprefix = "bull:"\nupto = 2\n', "as long as there is one shard"),
    "a log that writes very much": (f'{SHARD}[log]\nlevel = "debug"\n', '"info" is for every day'),
}


def said(folder: Path, text: str, strict: bool = False, **environ: str) -> tuple[str, int]:
    """What the check says about a file that nobody else can read."""
    path = folder / "slotgate.toml"
    path.write_text(text)
    path.chmod(0o600)
    return check(path, {}, environ, CheckOptions(strict=strict))


def test_there_are_forty() -> None:
    assert len(MISTAKES) >= 40


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said(tmp_path: Path, mistake: str) -> None:
    text, words = MISTAKES[mistake]
    found, code = said(tmp_path, text)
    [line] = [line for line in found.splitlines() if words in line]
    assert SECRET not in found
    if line.startswith(("warning", "note", "protected")):
        assert code == 0
        assert said(tmp_path, text, strict=True)[1] == (0 if line.startswith("note") else 1)
    else:
        assert code == 1


@pytest.mark.parametrize("text", [SHARD, PAIR, f'read_from = "any"\n{PAIR}{SHARD.replace("7001", "7009")}', TWO])
def test_what_is_right_has_no_warning(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_advice, "hard_limit", lambda: PLENTY)
    found, code = said(tmp_path, text + '[limits]\nmemory = "4gb"\n', strict=True)
    assert code == 0
    assert found.startswith("listen     127.0.0.1:6380\n")


def test_more_clients_than_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_advice, "hard_limit", lambda: 1024)
    found, code = said(tmp_path, SHARD)
    assert code == 0
    [line] = [line for line in found.splitlines() if line.startswith("warning    limits.max_clients: (10000) is above")]
    assert "with 1024 files there can be" in line
    assert "Raise the limit to" in line


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can get to, other than that of a test."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


PASSWORDS = (
    f'{SHARD}[backend]\npassword = "{SECRET}"\n',
    f'{SHARD}[admin]\ntoken = "{SECRET}"\n',
    f'{SHARD}[[users]]\nname = "app"\nrules = ">{SECRET} +@all"\n',
    f'{SHARD}{OPEN_USER}backend_user = "b"\nbackend_password = "{SECRET}"\n',
)


@pytest.mark.parametrize("text", PASSWORDS)
def test_passwords_that_everybody_can_read(public: Path, text: str) -> None:
    path = public / "slotgate.toml"
    assert "can read it" not in said(public, text)[0]
    path.chmod(0o644)
    found, _ = check(path, {}, {}, CheckOptions())
    assert f"warning    {path}: has passwords, and every user of this machine can read it: chmod 640 it" in found
    assert SECRET not in found
    public.chmod(0o750)
    assert "can read it" not in check(path, {}, {}, CheckOptions())[0]


def test_no_warning_without_passwords(public: Path) -> None:
    path = public / "slotgate.toml"
    path.write_text(f'{SHARD}[backend]\npassword_env = "PW"\n')
    path.chmod(0o644)
    assert "can read" not in check(path, {}, {"PW": SECRET}, CheckOptions())[0]


@pytest.mark.parametrize("table", ["[backend]", '[[users]]\nname = "a"', '[admin]\nusername = "a"'])
def test_a_password_file_that_everybody_can_read(public: Path, table: str) -> None:
    file = public / "pw"
    file.write_text(SECRET)
    for mode, warned in (0o644, True), (0o640, False):
        file.chmod(mode)
        found, _ = said(public, f'{SHARD}{table}\npassword_file = "pw"\n')
        assert ("password_file: names pw, where every user of this machine can read a password" in found) == warned


def test_an_aclfile_that_everybody_can_read(public: Path) -> None:
    file = public / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")
    file.chmod(0o644)
    found, _ = said(public, f'protected_mode = false\nlisten = "0.0.0.0:6380"\naclfile = "users.acl"\n{SHARD}')
    assert f"aclfile: names {file}, where every user of this machine can read password hashes" in found
    assert "protected_mode: is false, and the user default needs no password" in found


def test_a_socket_folder_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: str(path) != str(tmp_path))
    found, _ = said(tmp_path, f'listen = "unix:{tmp_path}/s.sock"\n{SHARD}')
    assert f"listen[0]: is a socket in {tmp_path}, where this user can make no file: change its owner or mode" in found


def test_certificates_that_end(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    for days, words in (-1, "expired 1 day ago"), (5, "expires in 5 days"), (60, ""):
        pair = authority.sign(f"cert{days}", days=days)
        text = (
            f'{SHARD}[admin]\ntls_cert_file = "{pair.certificate}"\ntls_key_file = "{pair.key}"\n'
            f'[[listeners]]\naddress = "127.0.0.1:6381"\n[listeners.tls]\ncert_file = "{pair.certificate}"\n'
            f'key_file = "{pair.key}"\n'
        )
        found, code = said(tmp_path, text)
        assert code == 0
        lines = [line for line in found.splitlines() if "renew it" in line]
        if not words:
            assert lines == []
            continue
        one, two = lines
        assert one.startswith(f"warning    admin.tls_cert_file: names {pair.certificate}, whose certificate {words}")
        assert two.startswith(
            f"warning    listeners[0].tls.cert_file: names {pair.certificate}, whose certificate {words}"
        )


def test_as_json(tmp_path: Path) -> None:
    path = tmp_path / "slotgate.toml"
    path.write_text(f'drain_timeout = "0s"\n{SHARD}')
    text, code = check(path, {}, {}, CheckOptions(json=True, strict=True))
    found = json.loads(text)
    assert (code, found["ok"]) == (1, False)
    [finding] = [each for each in found["findings"] if each["where"] == "drain_timeout"]
    assert (finding["severity"], finding["place"]) == ("warning", "slotgate.toml:1")
    assert {"name": "read_from", "words": "primary"} in found["summary"]
    path.write_text(f"drain_timeout = 5\n{SHARD}")
    text, code = check(path, {}, {}, CheckOptions(json=True))
    assert code == 1
    assert json.loads(text) == {
        "ok": False,
        "findings": [
            {
                "severity": "error",
                "where": "drain_timeout",
                "words": '5 has no unit: write "5s" or "5ms"',
                "place": "slotgate.toml:1",
            }
        ],
    }


def test_the_source_of_every_value(tmp_path: Path) -> None:
    path = tmp_path / "slotgate.toml"
    path.write_text(
        f'read_from = "any"\n{PAIR}name = "a"\n[backend]\nrequest_timeout = "1500ms"\npassword_file = "pw"\n'
        '[admin]\nhosts = "x"\n[limits]\nmax_bulk = "64mb"\n'
    )
    (tmp_path / "pw").write_text(SECRET)
    environ = {"SLOTGATE_LIMITS__MAX_CLIENTS": "7", "SLOTGATE_ADMIN": "127.0.0.1:1"}
    text, _ = check(path, {"workers": 1}, environ, CheckOptions(show=True))
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines() if "." in line or "_" in line}
    rows |= {"workers": next(line for line in text.splitlines() if line.startswith("workers "))}
    for key, words in {
        "workers": "1 command line",
        "read_from": "any slotgate.toml:1",
        "shards[0].primary": "127.0.0.1:7001 slotgate.toml:3",
        "shards[0].name": "a slotgate.toml:5",
        "shards[0].slots": "- default",
        "backend.request_timeout": "1.5s slotgate.toml:7",
        "backend.retry_deadline": "10s default",
        "backend.password": "(set, not shown) slotgate.toml:8",
        "backend.dedicated_share": "80% default",
        "admin.address": "127.0.0.1:1 SLOTGATE_ADMIN",
        "admin.hosts": "x slotgate.toml:10",
        "limits.max_clients": "7 SLOTGATE_LIMITS__MAX_CLIENTS",
        "limits.max_bulk": "64mb slotgate.toml:12",
        "limits.output_hard": "1gb default",
    }.items():
        assert " ".join(rows[key].split()).endswith(words), key
    assert SECRET not in text


def test_a_password_of_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "slotgate.toml"
    path.write_text(f'{SHARD}[backend]\npassword_env = "PW"\n')
    environ = {"SLOTGATE_BACKEND__PASSWORD": SECRET}
    text, _ = check(path, {}, environ, CheckOptions(show=True))
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines()}
    assert rows["backend.password"] == "(set, not shown) SLOTGATE_BACKEND__PASSWORD"
    assert rows["backend.password_env"] == "- default"
    assert SECRET not in text
