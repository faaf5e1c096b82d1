"""Programs of others that tests drive, installed once for all runs of the tests in this checkout."""

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_PLACE = Path(__file__).parents[2] / ".pytest_cache" / "installed"
_TIMEOUT = 100


def install(name: str, wanted: Path, commands: Callable[[Path], list[list[str]]]) -> Path:
    """Return a directory with a copy of the file ``wanted``, in which ``commands`` were run for this version of it; or
    skip the test, if one of them fails. Other runs of pytest wait meanwhile."""
    directory = _PLACE / name
    directory.mkdir(parents=True, exist_ok=True)
    stamp = directory / "installed"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted.read_text():
            return directory
        shutil.copy(wanted, directory)
        try:
            for command in commands(directory):
                subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{name} can not be installed: {error.stderr[-300:]}")
        except subprocess.TimeoutExpired:
            pytest.skip(f"{name} took longer than {_TIMEOUT} s to install")
        stamp.write_text(wanted.read_text())
    return directory
