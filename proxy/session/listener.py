"""What holds for the clients of one listening address: who may log in, and how the proxy presents itself to them. And
how the commands of one user reach the servers.

No I/O. Each client and its session refer to the listener that the client connected to.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from proxy.session.acl_users import DEFAULT, Users
from proxy.session.virtual_cluster import Presented


@dataclass(frozen=True, slots=True)
class UserRoute:
    """How the commands of a user reach the servers."""

    read_from: str = ""
    """The servers that answer reads; empty: as the client's listener says."""
    server_user: str = ""
    """The user of the servers; empty: the proxy's own."""


USUAL = UserRoute()


class Listener:
    """A listening address as its clients see it.

    ``index`` is the listener's position among all of them. ``users`` are the names of the users that may log in, None
    for all. ``wants_certificates`` says that only clients with a certificate can connect. ``max_clients`` is the number
    of clients of all workers together, None without a limit of its own. ``presented`` is the cluster that the proxy
    presents; None if it presents one server.
    """

    __slots__ = ("address", "index", "max_clients", "presented", "read_from", "users", "wants_certificates")

    def __init__(
        self,
        index: int = 0,
        address: str = "",
        read_from: str = "primary",
        presented: Presented | None = None,
        users: Collection[str] | None = None,
        max_clients: int | None = None,
        wants_certificates: bool = False,
    ) -> None:
        self.index = index
        self.address = address
        self.read_from = read_from
        self.presented = presented
        self.users = None if users is None else frozenset(users)
        self.max_clients = max_clients
        self.wants_certificates = wants_certificates

    def __repr__(self) -> str:
        return f"Listener({self.index} {self.address})"

    def admits(self, user: str) -> bool:
        """Whether the user of this name may log in here."""
        return self.users is None or user in self.users

    def policy(self, reads_replicas: bool, of_user: str = "") -> str:
        """The value of ``read_from`` for a client; ``reads_replicas``: the client has sent READONLY, ``of_user``: its
        user's own value."""
        policy = of_user or self.read_from
        return "prefer_replica" if reads_replicas and policy == "primary" else policy

    def open_to_all(self, users: Users) -> bool:
        """Whether a new client needs no password here: it is logged in as the default user of ``users``."""
        return users.default_open and self.admits(DEFAULT)

    def plain(self, users: Users) -> bool:
        """Whether a new client may also send everything over the fast paths without a check."""
        return users.default_plain and self.admits(DEFAULT)
