"""The limits of users and addresses: counts the clients of each user, and gives each client its quota.

::

    new client ──▶ begin ──▶ has to log in: the bounds of a stranger, and what its address allows
               or  log_in ──▶ what its user and its address allow

A client has no quota if neither its user nor its address has limits. An address is what ``admission.counted_as`` says;
clients of unix sockets have none. What an address or user has taken is remembered for a second after its last client,
so that a new connection does not begin with a full bucket.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from proxy import errors
from proxy.client.admission import source_of
from proxy.client.allowance import Allowance, Cancellable
from proxy.client.client import Client
from proxy.client.quota import Quota
from proxy.config.client_limits import ConnectionLimits
from proxy.config.users import User
from proxy.engine.jobs import MORE, Job
from proxy.metrics import Counters

_KNOWN_MOST = 10_000
"""The most addresses and users without clients of which it is remembered what they have taken."""


@dataclass(frozen=True, slots=True)
class UserBounds:
    """The limits of one user: clients at a time, commands and bytes in a second, requests in flight. 0 is no limit."""

    clients: int
    rates: tuple[int, int, int]
    delays: bool
    key: str
    """The key of the configuration that bounds the clients."""

    @classmethod
    def of(cls, limits: ConnectionLimits, user: User | None) -> "UserBounds":
        """Return the limits of a user: its own, and those in ``limits`` that the user does not set itself."""
        own = (user.max_clients, user.max_command_rate, user.max_byte_rate, user.max_in_flight) if user else (None,) * 4
        common = (
            limits.max_clients_per_user,
            limits.max_command_rate_per_user,
            limits.max_byte_rate_per_user,
            limits.max_in_flight_per_user,
        )
        clients, commands, size, in_flight = (two if one is None else one for one, two in zip(own, common, strict=True))
        on_limit = limits.on_limit if user is None or user.on_limit is None else user.on_limit
        key = "limits.max_clients_per_user" if own[0] is None else "users.max_clients"
        return cls(clients, (commands, size, in_flight), on_limit == "delay", key)


class UserLimits:
    """The limits of a worker's clients by user and by address. ``get`` returns the client of an id."""

    def __init__(
        self,
        limits: ConnectionLimits,
        users: tuple[User, ...],
        get: Callable[[int], Client | None],
        counters: Counters,
        now: Callable[[], float],
    ) -> None:
        self.now = now
        self._loop = asyncio.get_running_loop()
        self._get = get
        self._counters = counters
        self._use(limits, users)
        self._counts: dict[str, int] = {}
        """How many clients each user has, of those whose number is bounded."""
        self._users: dict[int, str] = {}
        """The user under which each client is counted, by the client's id."""
        self.new_strangers: set[int] = set()
        """The ids of new clients that have to log in, and of those that have to again, since the set was cleared."""
        self._allowances: dict[tuple[str, str], Allowance] = {}
        """The allowances of users and addresses with clients."""
        self._left: OrderedDict[tuple[str, str], Allowance] = OrderedDict()
        """Those of users and addresses without clients, of which something may have been taken; the latest are last."""

    def _use(self, limits: ConnectionLimits, users: tuple[User, ...]) -> None:
        self._limits = limits
        self._common = UserBounds.of(limits, None)
        self._bounds: Mapping[str, UserBounds] = {user.name: UserBounds.of(limits, user) for user in users}
        self._address_rates = (limits.max_command_rate_per_address, limits.max_byte_rate_per_address, 0)
        bounds = (self._common, *self._bounds.values())
        self.limited = any(self._address_rates) or any(one.clients or any(one.rates) for one in bounds)
        """Whether any user or address has a limit."""

    def renew(self, limits: ConnectionLimits, users: tuple[User, ...], clients: Iterable[Client]) -> Job[None]:
        """Use other limits, also for the ``clients`` that are connected. Clients that are too many now stay."""
        self._use(limits, users)
        self._allowances, self._left = {}, OrderedDict()
        for client in clients:
            if not client.gone:
                session = client.known_session()
                user = session.user if session.authenticated else ""
                stranger = client.number in self.new_strangers
                before = self.leave(client)
                if stranger:
                    self.new_strangers.add(client.number)
                self._enter(client, user, before)
            yield MORE

    def __repr__(self) -> str:
        return f"UserLimits({len(self._users)} clients, {len(self._allowances)} allowances)"

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Cancellable:
        """Call ``callback`` after so many seconds."""
        return self._loop.call_later(seconds, callback)

    def hold(self, limit: str) -> None:
        """Count a client that waits because ``limit`` is reached."""
        self._counters.hold(limit)

    def refuse(self, limit: str) -> None:
        """Count a request that is refused because ``limit`` is reached."""
        self._counters.refuse(limit)

    def begin(self, client: Client) -> None:
        """Count a new client, and give it its quota."""
        session = client.known_session()
        authenticated = session.authenticated
        session.enter()
        if session.authenticated is not authenticated:
            client.adopt_session()

    def enter_user(self, number: int, user: str) -> str:
        """Count client ``number`` as one of ``user``, or (``""``) as one that is not logged in, and give it its quota.
        Returns the error, and changes nothing, if the user has as many clients as it may have."""
        client = self._get(number)
        if client is None or not (self.limited or client.flow.quota is not None or not user):
            return ""
        if refusal := self.full(number, user):
            self._counters.refuse("max_clients_per_user")
            return refusal
        quota = client.flow.quota
        stranger = isinstance(quota, Quota) and quota.stranger
        before = self.leave(client)
        if not user and not stranger:
            self.new_strangers.add(number)
        self._enter(client, user, before)
        return ""

    def _enter(self, client: Client, user: str, before: Quota | None) -> None:
        bounds = self._bounds.get(user, self._common)
        if user and bounds.clients:
            self._users[client.number] = user
            self._counts[user] = self._counts.get(user, 0) + 1
        self._give_quota(client, user, bounds, before)

    def full(self, number: int, user: str) -> str:
        """Return the error if client ``number`` can not be one of ``user``, who has as many as it may have."""
        bounds = self._bounds.get(user, self._common)
        full = bounds.clients and self._counts.get(user, 0) >= bounds.clients
        if user and full and self._users.get(number) != user:
            return f"{errors.MAX_CLIENTS} for user '{user}' ({bounds.key} = {bounds.clients})"
        return ""

    def leave(self, client: Client) -> Quota | None:
        """Count a client no more: its connection has ended, or it has another user. Returns the quota that is still to
        take the reply to the request that is carried out now."""
        self.new_strangers.discard(client.number)
        user = self._users.pop(client.number, None)
        if user is not None:
            self._counts[user] -= 1
            if not self._counts[user]:
                del self._counts[user]
        quota, before = client.flow.quota, None
        if isinstance(quota, Quota):
            before = quota.leave()
            client.flow.quota = None
            self._forget_full()
            for one in quota.allowances:
                if not one.clients and self._allowances.get((one.kind, one.name)) is one:
                    del self._allowances[one.kind, one.name]
                    # One that seems to be full is kept as well: the size of the requests that are carried out now is
                    # taken later.
                    self._left[one.kind, one.name] = one
        return before

    def _give_quota(self, client: Client, user: str, bounds: UserBounds, before: Quota | None) -> None:
        allowances = []
        if user and any(bounds.rates):
            allowances.append(self._allowance("user", user, bounds.rates, bounds.delays))
        if any(self._address_rates):
            address = source_of(client.known_session().address)
            if address and not address.startswith("/"):  # a client of a unix socket has none
                allowances.append(
                    self._allowance("address", address, self._address_rates, self._limits.on_limit == "delay")
                )
        limits = self._limits
        if not user:
            strict = True, limits.auth_commands, limits.auth_bytes
            client.flow.quota = Quota(client, self, allowances, *strict, before=before)
        else:
            client.flow.quota = Quota(client, self, allowances, before=before) if allowances else None

    def _allowance(self, kind: str, name: str, rates: tuple[int, int, int], delays: bool) -> Allowance:
        known = self._allowances.get((kind, name))
        if known is None:
            known = self._left.pop((kind, name), None) or Allowance(kind, name, self, rates, delays)
            self._allowances[kind, name] = known
        return known

    def _forget_full(self) -> None:
        """Forget the allowances without clients of which nothing was taken lately, and the oldest of too many."""
        now, left = self.now(), self._left
        while left and (len(left) >= _KNOWN_MOST or next(iter(left.values())).full(now)):
            left.popitem(last=False)
