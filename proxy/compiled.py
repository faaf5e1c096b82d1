"""Tells which engine runs: the compiled one, or the same modules as plain Python."""

from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Literal

MODULES = (
    "proxy.backends.connection",
    "proxy.backends.dispatch",
    "proxy.backends.reconnecting",
    "proxy.backends.routes",
    "proxy.backends.shared",
    "proxy.client.allowance",
    "proxy.client.client",
    "proxy.client.connection",
    "proxy.client.fast_commands",
    "proxy.client.fast_path",
    "proxy.client.holdings",
    "proxy.client.kept_input",
    "proxy.client.own_answers",
    "proxy.client.own_commands",
    "proxy.client.own_fast_path",
    "proxy.client.pacing",
    "proxy.client.planned",
    "proxy.client.quota",
    "proxy.client.read_your_writes",
    "proxy.client.registry",
    "proxy.client.request_loop",
    "proxy.client.shared_counts",
    "proxy.client.slow_path",
    "proxy.engine.inflight",
    "proxy.engine.receive_buffer",
    "proxy.engine.receiver",
    "proxy.engine.reply_reader",
    "proxy.engine.sink",
    "proxy.engine.window",
    "proxy.features.request",
    "proxy.features.state",
    "proxy.metrics",
    "proxy.planning.exec_block",
    "proxy.planning.merge",
    "proxy.planning.merge_keys",
    "proxy.planning.query_limit",
    "proxy.planning.scatter",
    "proxy.planning.split",
    "proxy.resp.glob",
    "proxy.resp.replies",
    "proxy.resp.requests",
    "proxy.session.client_line",
    "proxy.session.login_commands",
    "proxy.session.session",
    "proxy.sharding.colocation",
    "proxy.sharding.slots",
    "proxy.transport.client_tls",
    "proxy.transport.clock",
    "proxy.transport.flow_control",
    "proxy.transport.tls_input",
    "proxy.transport.tls_output",
    "proxy.transport.write_batch",
)
"""The modules that are compiled on every system: those with a .pxd beside the .py.

A .pyx without a .py is a module of Linux only.
"""

WARNING = (
    "the engine is not compiled: pipelined load costs about 5 times the CPU. To get the compiled one, install a C "
    "compiler and the headers of Python, then Slotgate again: in a checkout make compile, else pip install "
    "--force-reinstall --no-deps --no-cache-dir and what it was installed from"
)
"""Logged once when the plain engine serves."""


@cache
def engine() -> Literal["compiled", "python"]:
    """Return ``compiled`` only if every module of the engine is compiled."""
    for module in MODULES:
        spec = find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(tuple(EXTENSION_SUFFIXES)):
            return "python"
    return "compiled"
