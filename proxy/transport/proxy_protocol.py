"""The PROXY protocol on a listener: each connection begins with a header that tells whose connection it is.

::

    accepted ──▶ trusted? ──▶ HeaderReader ──header──▶ the protocol of the connection: TLS or the client
                    └─no──▶ closed          └─none, late or invalid──▶ closed

``HeaderReader`` takes the bytes of the header and puts the next protocol in its own place: from then on the connection
is as it is without the header, but for the addresses that its transport tells.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from proxy.config.values import ProxyNetwork
from proxy.metrics import Counters
from proxy.transport.clock import Clock, Deadline
from proxy.transport.log_rate import LogRate
from proxy.transport.proxy_header import Header, HeaderError, begins_header, read_header

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""The seconds that a header may take if ``limits.auth_timeout`` is off. Balancers send it at once."""
_LOGGED = 10
"""The refused connections that are logged one by one in each second."""
_METHODS = (
    *("abort", "close", "is_closing", "write", "writelines", "pause_reading", "resume_reading", "set_protocol"),
    *("get_write_buffer_size", "set_write_buffer_limits"),
)


class TrustedProxies:
    """The balancers that are believed: those in ``networks``, and with "unix" those that connect to a unix socket."""

    def __init__(self, networks: Sequence[ProxyNetwork]) -> None:
        self._unix = "unix" in networks
        self._networks = [network for network in networks if not isinstance(network, str)]

    def __repr__(self) -> str:
        return f"TrustedProxies({', '.join(map(str, self._networks))}{' unix' if self._unix else ''})"

    def believes(self, peername: object) -> bool:
        """Whether the other end of a connection, by its ``peername``, is believed."""
        if not isinstance(peername, tuple):
            return self._unix
        address = ipaddress.ip_address(peername[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


class ProxyProtocol:
    """What the connections to all listeners with the PROXY protocol share in a worker.

    ``patience``: the seconds that a header may take. ``most``: how many connections may wait for their header.
    """

    def __init__(
        self,
        trusted: TrustedProxies,
        counters: Counters,
        clock: Clock,
        patience: float = PATIENCE,
        most: Callable[[], int] = lambda: 1000,
    ) -> None:
        self.trusted = trusted
        self.clock = clock
        self.patience = patience or PATIENCE
        self.waiting: set[HeaderReader] = set()
        """The connections that wait for their header."""
        self._most = most
        self._counters = counters
        words = "more connections refused, for their PROXY headers count=%d"
        self._log_rate = LogRate(clock.now, _LOGGED, partial(log.warning, words))

    def __repr__(self) -> str:
        return f"ProxyProtocol({self.trusted!r}, {len(self.waiting)} waiting)"

    def ahead_of(self, factory: Callable[[], object], certified: bool = False) -> Callable[[], object]:
        """A factory of protocols that read the header, and then leave the connection to one that ``factory`` makes.

        ``certified``: that one is told the common name of the client's certificate, if the balancer has verified it.
        """
        return partial(HeaderReader, self, factory, certified)

    @property
    def full(self) -> bool:
        """Whether no more connections may wait for their header."""
        return len(self.waiting) >= self._most()

    def close(self) -> None:
        """Close the connections that wait for their header, as no more clients are taken."""
        for each in list(self.waiting):
            each.close()

    def refuse(self, reason: str, peername: object, words: str) -> None:
        """Count a connection that is refused for ``reason``, and log it unless many are refused in this second."""
        self._counters.reject(reason)
        if self._log_rate.allows():
            host = peername[0] if isinstance(peername, tuple) else "unix"
            log.warning("connection refused address=%s reason=%r", host, words)


class HeaderReader(asyncio.Protocol):
    """The protocol of a new connection until its header is complete."""

    __slots__ = ("_certified", "_data", "_deadline", "_factory", "_peername", "_shared", "_transport")

    def __init__(self, shared: ProxyProtocol, factory: Callable[[], object], certified: bool = False) -> None:
        self._shared = shared
        self._factory = factory
        self._certified = certified
        self._transport: asyncio.Transport | None = None
        self._peername: object = None
        self._data = bytearray()
        self._deadline: Deadline | None = None

    def __repr__(self) -> str:
        return f"HeaderReader({self._peername!r}, {len(self._data)} bytes)"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header if the other end is trusted; else close the connection."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        self._transport = cast(asyncio.Transport, transport)
        self._peername = transport.get_extra_info("peername")
        shared = self._shared
        if self._peername is None and isinstance(transport.get_extra_info("sockname"), tuple):
            self.close()  # reset before it was accepted, as some health checks are
        elif not shared.trusted.believes(self._peername):
            self._refuse("untrusted proxy", "it is none of the trusted_proxies")
        elif shared.full:
            self._refuse("max clients", "too many connections wait for their PROXY header")
        else:
            shared.waiting.add(self)
            self._deadline = shared.clock.call_later(shared.patience, self._late)

    def data_received(self, data: bytes) -> None:
        """Add ``data`` to the header, and leave the connection to the next protocol when the header is complete."""
        if self._deadline is None:
            return  # it was refused
        self._data += data
        try:
            found = read_header(self._data)
        except HeaderError as error:
            self._refuse("proxy header", f"no valid PROXY header: {error}")
            return
        if found is None:
            return
        header, size = found
        rest = bytes(memoryview(self._data)[size:])
        if begins_header(rest):
            self._refuse("proxy header", "two PROXY headers: the proxies in front of it each send one")
            return
        self._leave(header, rest)

    def eof_received(self) -> bool:
        """Close the connection, as the other end sends no more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Log a connection that ends within its header. One without a byte is a health check."""
        if self._deadline is not None and self._data:
            self._shared.refuse("proxy header", self._peername, "the connection ended within its PROXY header")
        self._end()

    def _late(self) -> None:
        self._refuse("proxy header", f"no PROXY header within {self._shared.patience:g} s")

    def _refuse(self, reason: str, words: str) -> None:
        self._shared.refuse(reason, self._peername, words)
        self.close()

    def close(self) -> None:
        """Close the connection."""
        transport = self._transport
        self._end()
        if transport is not None:
            transport.close()

    def _end(self) -> None:
        """Take notice that the header is not waited for any more."""
        if self._deadline is not None:
            self._shared.waiting.discard(self)
            self._deadline.cancel()
        self._deadline = self._transport = None

    def _leave(self, header: Header, rest: bytes) -> None:
        """Put the next protocol in the place of this one, and give it ``rest``, the bytes behind the header."""
        transport = self._transport
        assert transport is not None
        self._end()
        transport = _told(transport, _facts(header, self._peername))
        protocol = cast(Any, self._factory())
        transport.set_protocol(protocol)
        if hasattr(protocol, "get_buffer"):
            # A transport decides how to read when it begins to read, so it is restarted.
            transport.pause_reading()
            transport.resume_reading()
        protocol.connection_made(transport)
        if self._certified and header.common_name and not transport.is_closing():
            protocol.certified((header.common_name,))
        if rest and not transport.is_closing():
            _feed(protocol, rest)


def _facts(header: Header, peername: object) -> dict[str, object]:
    """The extra information of a connection by its header; ``peername`` is the balancer's address."""
    facts: dict[str, object] = {
        "authority": header.authority,
        "common_name": header.common_name,
        "relayed": header.source is None or not (_is_local(header.source) and _is_local(peername)),
    }
    if header.source is not None:
        facts |= {"peername": header.source, "sockname": header.destination}
    return facts


def _is_local(endpoint: object) -> bool:
    """Whether an endpoint is a unix socket or a loopback address of the machine of whoever tells it."""
    return not isinstance(endpoint, tuple) or ipaddress.ip_address(endpoint[0]).is_loopback


def _feed(protocol: Any, data: bytes) -> None:
    """Have ``protocol``, which may be an ``asyncio.BufferedProtocol``, receive ``data``."""
    if not hasattr(protocol, "get_buffer"):
        protocol.data_received(data)
        return
    left = memoryview(data)
    while left:
        room = memoryview(protocol.get_buffer(len(left)))
        size = min(len(room), len(left))
        room[:size] = left[:size]
        protocol.buffer_updated(size)
        left = left[size:]


def _told(transport: asyncio.Transport, facts: dict[str, object]) -> asyncio.Transport:
    """The transport with ``facts`` as extra information: the compiled engine's own keeps them itself."""
    keep = getattr(transport, "set_extra_info", None)
    if keep is None:
        return cast(asyncio.Transport, ToldTransport(transport, facts))
    keep(facts)
    return transport


class ToldTransport:
    """A transport of the event loop with more extra information than its own. Its methods are those of the loop's
    transport themselves, so that a call costs what it costs there."""

    __slots__ = ("_facts", "_transport", *_METHODS)

    def __init__(self, transport: asyncio.Transport, facts: dict[str, object]) -> None:
        self._transport = transport
        self._facts = facts
        for name in _METHODS:
            setattr(self, name, getattr(transport, name))

    def __repr__(self) -> str:
        return f"ToldTransport({self._facts!r}, {self._transport!r})"

    def get_extra_info(self, name: str, default: object = None) -> object:
        """The extra information ``name``; ``default`` if there is none."""
        if name in self._facts:
            return self._facts[name]
        return self._transport.get_extra_info(name, default)


class HeaderSender(asyncio.Protocol):
    """Sends ``header`` on a new connection to a server, and leaves the connection to ``protocol``."""

    __slots__ = ("_header", "_protocol")

    def __init__(self, header: bytes, protocol: object) -> None:
        self._header = header
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the header, and make way for the other protocol."""
        wanted = cast(asyncio.Transport, transport)
        wanted.write(self._header)
        wanted.set_protocol(cast(asyncio.Protocol, self._protocol))
        cast(asyncio.Protocol, self._protocol).connection_made(transport)
