"""node-redis and ioredis. They are installed once, into pytest's cache directory."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.live.site import Site

pytestmark = [pytest.mark.live, pytest.mark.clients]

SOURCES = Path(__file__).parent / "node"
OLDEST = 20
INSTALL_TIMEOUT = 100
RUN_TIMEOUT = 60


def node() -> str:
    """Node.js, or a skipped test."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("no node and npm here")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < OLDEST:
        pytest.skip(f"Node.js is too old for these clients: {version.strip()}, they need {OLDEST}")
    return found


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest) -> Path:
    """A directory with the libraries of package.json and the scripts that use them."""
    node()
    cache = request.config.cache
    assert cache is not None
    directory = cache.mkdir("slotgate-node")
    wanted = (SOURCES / "package.json").read_text()
    stamp = directory / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        (directory / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm install failed: {error.stderr[-300:]}")
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm install took longer than {INSTALL_TIMEOUT} s")
        stamp.write_text(wanted)
    for script in SOURCES.glob("*.js"):
        shutil.copy(script, directory)
    return directory


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
