"""Node.js, and what is installed with npm."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import installed

SOURCES = Path(__file__).parent / "node"
OLDEST = 20


def node() -> str:
    """Node.js, or a skipped test."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("no node and npm here")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < OLDEST:
        pytest.skip(f"Node.js is too old for these clients: {version.strip()}, they need {OLDEST}")
    return found


def install(name: str, package: Path) -> Path:
    """A directory with the libraries of the file ``package``, or a skipped test."""
    node()
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    return installed.install(name, package, lambda _: [command])


def install_clients() -> Path:
    """A directory with the libraries of ``node/package.json`` and the scripts that use them, or a skipped test."""
    directory = install("node", SOURCES / "package.json")
    for script in SOURCES.glob("*.js"):
        shutil.copy(script, directory)
    return directory
