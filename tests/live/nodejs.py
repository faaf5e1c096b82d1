"""Node.js and the clients of ``node/package.json``, installed once, into pytest's cache directory."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "node"
OLDEST = 20
INSTALL_TIMEOUT = 100


def node() -> str:
    """Node.js, or a skipped test."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("no node and npm here")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < OLDEST:
        pytest.skip(f"Node.js is too old for these clients: {version.strip()}, they need {OLDEST}")
    return found


def install(cache: pytest.Cache) -> Path:
    """A directory with the libraries of package.json and the scripts that use them, or a skipped test."""
    node()
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
