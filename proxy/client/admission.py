"""Admission of clients: protected mode, and the limits on clients and new connections of one address.

An address is an IPv4 address, or the /64 network of an IPv6 address, because one machine may own such a whole network.
Clients of unix sockets have no address and are not counted. Each worker counts only its own clients: workers share no
table of addresses, and dividing the limit among the workers would refuse clients while other workers have room.

Source of protected mode: Redis 7.0's networking.c, ``clientAcceptHandler``.
"""

import ipaddress
import socket
from collections.abc import Callable
from typing import Protocol

from proxy import errors
from proxy.config.client_limits import ConnectionLimits
from proxy.metrics import Counters
from proxy.session.acl_users import Users
from proxy.session.listener import Listener

PROTECTED = (
    "DENIED Slotgate is running in protected mode because protected mode is enabled and no password is set for the "
    "default user. In this mode connections are only accepted from the loopback interface. If you want to connect from "
    "other computers, adopt one of these solutions: 1) Set a password for the default user: write [[users]] with "
    'name = "default" and password_file into the configuration of the proxy, and restart it. 2) Disable protected mode '
    "with protected_mode = false at the top of the configuration, or SLOTGATE_PROTECTED_MODE=false in the environment, "
    "and restart the proxy; MAKE SURE that only those reach it who may read and write all data."
)
"""The error for a client of another machine while the default user has no password."""
_MOST_KNOWN = 10000
"""The most addresses for which ``ConnectionRates`` keeps a bucket; this bounds its memory."""
_IPV4_IN_IPV6 = bytes(10) + b"\xff\xff"


def too_many_clients(host: str, limit: int) -> str:
    """The error for a client whose address already has the most clients that ``limit`` allows."""
    return f"{errors.MAX_CLIENTS} for address {host} (limits.max_clients_per_address = {limit})"


def too_many_at(listener: Listener) -> str:
    """The error for a client of a listener that has the most clients it may have."""
    return f"{errors.MAX_CLIENTS} for the listener {listener.address} (its max_clients = {listener.max_clients})"


def connects_too_often(host: str, limit: int) -> str:
    """The error for a client whose address has opened more than ``limit`` connections within a second."""
    return f"ERR too many new connections from {host}: over limits.max_connection_rate = {limit} a second"


class Peer(Protocol):
    """The part of a client's connection that tells the address of its other end."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return the address of the client if ``name`` is "peername"; if it is "relayed", whether a balancer forwards a
        client that is not known to be on this machine."""


def host_of(peer: Peer) -> str:
    """The IP address of a client; "" for a client of a unix socket."""
    address = peer.get_extra_info("peername")
    return str(address[0]) if isinstance(address, tuple) else ""


def is_loopback(host: str) -> bool:
    """Whether a client at the IP address ``host`` is on this machine, over loopback or (``""``) a unix socket."""
    return not host or host == "::1" or host.removeprefix("::ffff:").startswith("127.")


def counted_as(host: str) -> str:
    """The address, or for IPv6 the /64 network, under which a client at the IP address ``host`` is counted."""
    if ":" not in host:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    if packed.startswith(_IPV4_IN_IPV6):
        return socket.inet_ntop(socket.AF_INET, packed[-4:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


def source_of(shown: str) -> str:
    """The address under which a client is counted whose address CLIENT LIST shows as ``shown``; for a unix socket, its
    full path, or "" if it has none: the client's end, or the header of a balancer, may name any."""
    host = shown.rpartition(":")[0]
    if host.startswith("/"):
        return host
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ""
    return counted_as(host)


class ConnectionRates:
    """A token bucket for each address that connected within the last second. An address may open ``most`` connections
    at once, and ``most`` in each second after that. Only the latest ``_MOST_KNOWN`` addresses are kept."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}
        """How many connections each address had left, and when; sorted by the last connection, the latest last."""

    def __repr__(self) -> str:
        return f"ConnectionRates({len(self._buckets)} addresses)"

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str) -> bool:
        """Whether ``address`` may connect now; if so, one connection is taken from its bucket."""
        now = self._now()
        buckets = self._buckets
        left, since = buckets.pop(address, (float(self._most), now))
        left = min(left + (now - since) * self._most, float(self._most))
        allowed = left >= 1.0
        buckets[address] = (left - 1.0 if allowed else left), now
        oldest = next(iter(buckets))
        while len(buckets) > _MOST_KNOWN or buckets[oldest][1] <= now - 1.0:  # a bucket is full after a second
            del buckets[oldest]
            oldest = next(iter(buckets))
        return allowed


class Admission:
    """Decides which clients are admitted. ``users`` say whether clients need a password."""

    def __init__(
        self,
        protected: bool,
        users: Users,
        limits: ConnectionLimits,
        counters: Counters,
        now: Callable[[], float],
    ) -> None:
        self._protected = protected
        self._users = users
        self._counters = counters
        self._now = now
        self.renew(limits)
        self._counts: dict[str, int] = {}
        """How many clients each address has."""
        self._addresses: dict[int, str] = {}
        """The address under which each client is counted, by the client's id."""

    def renew(self, limits: ConnectionLimits) -> None:
        """Use other limits from now on. Clients that were admitted without a limit on addresses do not count."""
        self._most = limits.max_clients_per_address
        self._rate = limits.max_connection_rate
        self._rates = ConnectionRates(self._rate, self._now) if self._rate else None

    def __repr__(self) -> str:
        return f"Admission(protected={self._protected}, {len(self._counts)} addresses)"

    def refusal(self, peer: Peer, listener: Listener) -> str:
        """Return the error's text if ``peer`` is refused at ``listener``, and count the refusal; return "" if ``peer``
        is admitted."""
        protects = self._protected and listener.open_to_all(self._users) and not listener.wants_certificates
        if not (protects or self._most or self._rate):
            return ""
        host = host_of(peer)
        if protects and not (is_loopback(host) and not peer.get_extra_info("relayed")):
            self._counters.reject("protected mode")
            return PROTECTED
        if not host:
            return ""
        address = counted_as(host)
        if self._rates is not None and not self._rates.take(address):
            self._counters.reject("connection rate")
            return connects_too_often(host, self._rate)
        if self._most and self._counts.get(address, 0) >= self._most:
            self._counters.reject("address limit")
            return too_many_clients(host, self._most)
        return ""

    def enter(self, number: int, peer: Peer) -> None:
        """Count client ``number``, which was admitted."""
        if self._most and (host := host_of(peer)):
            address = self._addresses[number] = counted_as(host)
            self._counts[address] = self._counts.get(address, 0) + 1

    def leave(self, number: int) -> None:
        """Count client ``number`` no more: its connection has ended."""
        address = self._addresses.pop(number, None)
        if address is None:
            return
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]
