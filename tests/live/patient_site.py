"""A proxy in front of three shards, for what takes long: with bounds that let it be sent."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire

_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class PatientSite:
    """A proxy in front of shards."""

    proxy: ProxyProcess
    shards: LocalShards

    @contextlib.contextmanager
    def client(self, protocol: int = 2) -> Iterator[Wire]:
        with Wire(self.proxy.address, protocol=protocol, timeout=_PATIENCE) as wire:
            yield wire

    @contextlib.contextmanager
    def idle_clients(self, count: int) -> Iterator[list[socket.socket]]:
        """So many clients that do nothing."""
        host, _, port = self.proxy.address.rpartition(":")
        with contextlib.ExitStack() as stack:
            clients = []
            for number in range(count):
                clients.append(stack.enter_context(socket.create_connection((host, int(port)))))
                if number % 100 == 99:
                    clients[-1].sendall(b"PING\r\n")
                    assert clients[-1].recv(7) == b"+PONG\r\n"
            yield clients


_CONFIG = """
[topology]
kind = "static"
[limits]
max_clients = 12000
max_in_flight = 1100
output_hard = "512mb"
pubsub_output_hard = "512mb"
[backend]
request_timeout = "3s"
[[users]]
name = "default"
nopass = true
admin = true
"""


def _config(shards: LocalShards) -> str:
    """The text of the configuration for ``shards``."""
    text = _CONFIG
    for number, server in enumerate(shards.primaries):
        text += f'[[shards]]\nname = "s{number}"\nprimary = "{server.address}"\n'
    return text


@contextlib.contextmanager
def standing(binary: ServerBinary, directory: Path, kind: type[ProxyProcess] = ProxyProcess) -> Iterator[PatientSite]:
    """Three shards and a proxy of the given kind before them."""
    options = ("enable-debug-command yes", "maxclients 12000", "slowlog-log-slower-than -1", "save ''")
    with start_many(3, 0, binary=binary, options=options) as shards:
        proxy = kind(directory, config=_config(shards))
        with proxy.serving():
            yield PatientSite(proxy, shards)
