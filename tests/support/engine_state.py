"""Checks that the engine which the tests would run is the one that they should run."""

import os
import shlex
import subprocess
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path


def sources(package: Path) -> list[Path]:
    """The files that the engine is compiled from: declarations, twins, and the Python sources that have
    declarations."""
    declarations = list(package.rglob("*.pxd"))
    plain = [path.with_suffix(".py") for path in declarations]
    return [*declarations, *package.rglob("*.pyx"), *(path for path in plain if path.exists())]


def compiled(package: Path) -> list[Path]:
    """The compiled modules that this Python can load."""
    return [path for path in package.rglob("*") if "." + path.name.partition(".")[2] in EXTENSION_SUFFIXES]


def module(path: Path) -> str:
    """The module of a file, without the part of the name that says which Python it is for."""
    return str(path.parent / path.name.partition(".")[0])


def problem(package: Path, chosen: bool, compilable: bool) -> str | None:
    """The fault of the engine in ``package``, in words, or None.

    ``chosen``: the uncompiled engine was asked for. ``compilable``: there is a compiler; without one, the uncompiled
    engine is as it should be.
    """
    if chosen:
        return None
    wanted = {module(path) for path in sources(package)}
    there = {module(path): path for path in compiled(package)}
    missing = sorted(wanted - there.keys())
    # A module for another system only may be missing: it has no plain source.
    missing = [name for name in missing if Path(name).with_suffix(".py").exists()]
    if not there:
        if compilable:
            return "the engine is not compiled, and could be: run make compile (or set SLOTGATE_ENGINE=python)"
        return None
    if missing:
        return f"the engine is compiled only in part, {Path(missing[0]).name} is not: run make compile"
    oldest = min(path.stat().st_mtime for path in there.values())
    newest = max(sources(package), key=lambda path: path.stat().st_mtime)
    if newest.stat().st_mtime > oldest:
        return f"the compiled engine is older than {newest.relative_to(package.parent)}: run make compile"
    return None


def compilable() -> bool:
    """Whether the engine could be compiled here, as setup.py finds out: Cython, a C compiler, the headers of Python."""
    if find_spec("Cython") is None:
        return False
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    try:
        tried = subprocess.run(
            [*compiler, f"-I{include}", "-fsyntax-only", "-x", "c", "-"],
            input="#include <Python.h>\n",
            text=True,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return tried.returncode == 0
