"""The connections in RESP3 to which servers redirect the invalidations that a client's own connections can not
receive."""

import asyncio
from collections.abc import Callable
from functools import partial

from proxy import errors
from proxy.backends.dedicated_pool import Lease
from proxy.backends.settings import Place
from proxy.features.host import Services
from proxy.sharding.topology import Node


class Companions:
    """One connection for each server, for the client of ``holder``. ``on_push`` gets a server's push messages,
    ``on_lost`` is called with the server whose connection is lost."""

    __slots__ = ("_closed", "_holder", "_leases", "_on_lost", "_on_push", "_service")

    def __init__(
        self,
        service: Services,
        holder: str,
        on_push: Callable[[Node, bytes], None],
        on_lost: Callable[[Node], None],
    ) -> None:
        self._service = service
        self._holder = holder
        self._on_push = on_push
        self._on_lost = on_lost
        self._leases: dict[Node, Lease] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"Companions({list(self._leases.values())})"

    def number(self, node: Node) -> int:
        """The id at ``node`` of the connection to it; 0 if there is none."""
        lease = self._leases.get(node)
        return 0 if lease is None else lease.client_id

    async def come(self, place: Place) -> None:
        """Make the connection to the server of ``place``, if there is none. Raises ``BackendError``."""
        lease = self._leases.get(place.node)
        if lease is not None and lease.standing:
            return
        found: asyncio.Future[Lease | str] = self._service.loop.create_future()

        def came(lease: Lease | str) -> None:
            if not found.done():
                found.set_result(lease)
            elif isinstance(lease, Lease):
                lease.drop()

        claim = self._service.upstream.leases.ask(
            Place(place.shard, place.node, place.primary, 3, 0, 0), came, self._holder
        )
        try:
            lease_or_why = await found
        except asyncio.CancelledError:
            claim.cancel()
            if not found.cancelled() and isinstance(late := found.result(), Lease):
                late.drop()
            raise
        if isinstance(lease_or_why, str):
            raise errors.BackendError(lease_or_why)
        lease = lease_or_why
        if self._closed:
            lease.drop()
            raise errors.BackendError("the client does not track any more")
        lease.on_push = partial(self._on_push, place.node)
        lease.on_lost = lambda reason, sent: self._lost(place.node)
        self._leases[place.node] = lease

    def _lost(self, node: Node) -> None:
        self._leases.pop(node, None)
        self._on_lost(node)

    def leave(self, node: Node) -> None:
        """Close the connection to ``node``."""
        lease = self._leases.pop(node, None)
        if lease is not None:
            lease.drop()

    def close(self) -> None:
        """Close all connections, and make no further ones."""
        self._closed = True
        for lease in self._leases.values():
            lease.drop()
        self._leases.clear()
