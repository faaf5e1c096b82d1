"""Which engine runs: the compiled one, or the same modules as plain Python."""

from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Literal

MODULES = (
    "proxy.backend",
    "proxy.census",
    "proxy.client",
    "proxy.clientline",
    "proxy.clients",
    "proxy.clock",
    "proxy.colocation",
    "proxy.conversation",
    "proxy.dispatch",
    "proxy.engine.inflight",
    "proxy.engine.receiver",
    "proxy.engine.replyreader",
    "proxy.engine.room",
    "proxy.engine.sink",
    "proxy.engine.window",
    "proxy.fastlane",
    "proxy.flow",
    "proxy.glob",
    "proxy.lane",
    "proxy.merge",
    "proxy.metrics",
    "proxy.modes",
    "proxy.multikey",
    "proxy.owncalls",
    "proxy.ownlane",
    "proxy.ownwrites",
    "proxy.querylimit",
    "proxy.resp.replies",
    "proxy.resp.requests",
    "proxy.routes",
    "proxy.scatter",
    "proxy.session",
    "proxy.slots",
    "proxy.transaction",
    "proxy.turn",
)
"""The modules that are compiled (those with a .pxd beside them)."""

WARNING = (
    "the engine is not compiled: pipelined load costs about 5 times the CPU. To get the compiled one, install a C "
    "compiler and the headers of Python, then Slotgate again: in a checkout make compile, else pip install "
    "--force-reinstall --no-deps --no-cache-dir and what it was installed from"
)
"""Said once when the plain engine serves."""


@cache
def engine() -> Literal["compiled", "python"]:
    """``compiled`` only if every module of the engine is."""
    for module in MODULES:
        spec = find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(tuple(EXTENSION_SUFFIXES)):
            return "python"
    return "compiled"
