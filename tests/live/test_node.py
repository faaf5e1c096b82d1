"""node-redis and ioredis."""

import subprocess
from pathlib import Path

import pytest

from tests.live.nodejs import node
from tests.support.site import Site

pytestmark = [pytest.mark.live, pytest.mark.clients]

RUN_TIMEOUT = 60


def run(directory: Path, site: Site, script: str, *arguments: str) -> None:
    """Run a script against the proxy; it exits with 0 and says that it is done."""
    host, _, port = site.proxy.address.rpartition(":")
    ended = subprocess.run(
        [node(), script, host, port, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stdout + ended.stderr


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_node_redis(site: Site, installed: Path, protocol: str) -> None:
    run(installed, site, "node_redis.js", protocol)


def test_ioredis(site: Site, installed: Path) -> None:
    run(installed, site, "ioredis.js")
