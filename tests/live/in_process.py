"""A worker in the test's own process, where a test chooses the moment or measures the loop."""

import contextlib
from collections.abc import AsyncIterator

from proxy.config import Config
from proxy.sharding.topology import build_topology
from proxy.transport.listeners import listen
from proxy.transport.transports import Transports
from proxy.worker.server import accept
from proxy.worker.service import Service


@contextlib.asynccontextmanager
async def working(config: Config, transports: Transports) -> AsyncIterator[Service]:
    """It serves as ``config`` says, in the running loop; its clients and connections are closed at the end."""
    service = Service(config, build_topology(config), transports=transports)
    listeners = listen([each.address for each in config.listening])
    try:
        await accept(service, listeners.of(0))
        yield service
    finally:
        service.transports.stop_listening()
        listeners.close()
        for client in service.clients:
            client.close()
        await service.close()
