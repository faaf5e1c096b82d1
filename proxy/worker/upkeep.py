"""What nobody uses any more is closed: connections of databases that a client has left, or to servers that only a
redirection named."""

import asyncio

from proxy.worker.service import Service

_SWEEPS = 12
"""How often it is looked in the time after which something is closed."""


class Upkeep:
    """Sweeps ``service`` now and then. Which routes are in use is seen from the clients, so that counting costs no
    request anything; a client that is idle keeps its own."""

    unused = 60.0
    """Seconds that a connection is kept for who may come back to it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(self.unused / _SWEEPS)
            self.sweep()

    def sweep(self) -> None:
        """Forget the routes that no client has, and close what no routes need and nobody used lately."""
        service = self._service
        service.upstream.forget_long_replies()
        used = {routes for client in service.clients for routes in client.used_routes}
        used.update(service.upstream.plain_routes)
        for place in service.upstream.pool.close_unused(service.upstream.keep_routes(used), self.unused):
            if tracker := service.trackers.get(place.owner):
                tracker.leave(place.node)
