"""The delay of logins from an address, or as a user, of which many have failed. Pure: no timers are started here.

::

    failures   0 ... 9   10    11    12    13    14    15 ...      one failure is forgotten every 6 seconds
    delay      none      0.1   0.2   0.4   0.8   1.6   the most    a tenth of it for the failures of a user

A login waits before its password is checked, a right one as well as a wrong one: otherwise a client that guesses would
not wait for the answer to a wrong password, and ask again over another connection. No login waits longer than the
longest delay, and none is refused, but for one in a transaction, where no command can wait. So whoever guesses can slow
down the logins of others at its own address, and by a tenth of that those of the same user at other addresses, and can
not keep anybody from logging in.

Passwords whose digest takes long to compute are verified one by one. Addresses take turns, and at one address logins
come in the order in which they were first tried: whoever is closed before its turn, or gives up, and asks again with
the same password, has its old place. So guesses that come later are behind it, however many they are.

Each worker counts alone. The counts and the places are bounded; the address or user whose failures are the oldest is
forgotten first.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

FREE = 10
"""The number of failures after which logins are delayed."""
FIRST = 0.1
"""The first delay in seconds; each further failure doubles the delay."""
FORGOTTEN_EVERY = 6.0
"""The seconds after which one failure is forgotten: whoever fails ten times a minute is not delayed."""
_MOST = FREE + 10
"""The most failures that count: after the last failure, the delay ends within a minute."""
_KNOWN_MOST = 10_000
"""The most addresses, and the most users, of which failures are counted."""
_NAME_MOST = 128
"""The characters of a user's name that are kept. Longer names with the same beginning count as one."""
_PLACES_MOST = 10_000
"""The most places of logins that are kept for clients that have left before their turn."""
_SPARED_MOST = 100
"""How many logins of an address, of those whose passwords are verified next, are waited for beyond a timeout."""
_OF_USERS = 0.1
"""The part of the delay that the failures of a user cause, which other addresses cause as well."""


class LoggingIn(Protocol):
    """A client that logs in."""

    @property
    def id(self) -> int:
        """The client's id."""

    @property
    def address(self) -> str:
        """The client's address, as CLIENT LIST shows it."""


class Failures:
    """The latest failures of each address, or of each user: how many are not forgotten, and since when."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Failures of {len(self._known)}>"

    def __len__(self) -> int:
        return len(self._known)

    def count(self, key: str, now: float) -> int:
        """Return the number of failures that are not forgotten."""
        return self._left(key, now)[0]

    def add(self, key: str, now: float) -> int:
        """Count one more failure, and return their number."""
        count, since = self._left(key, now)
        count = min(count + 1, _MOST)
        self._known[key] = count, since
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN_MOST:
            self._known.popitem(last=False)
        return count

    def drop_old(self, now: float) -> None:
        """Drop the addresses or users of which everything is forgotten."""
        known = self._known
        while known and self.count(oldest := next(iter(known)), now) == 0:
            del known[oldest]

    def _left(self, key: str, now: float) -> tuple[int, float]:
        count, since = self._known.get(key, (0, now))
        forgotten = int((now - since) / FORGOTTEN_EVERY)
        return (count - forgotten, since + forgotten * FORGOTTEN_EVERY) if forgotten < count else (0, now)


class LoginDelays:
    """Delays the logins of clients. ``source_of`` gives the key under which a client's address is counted; ``longest``
    is the longest delay in seconds, 0 for none."""

    __slots__ = (
        "_addresses",
        "_clock",
        "_longest",
        "_places",
        "_queued",
        "_source_of",
        "_tried",
        "_users",
        "active",
        "checked",
        "delayed",
        "unverified",
        "verifying",
        "waiting",
    )

    def __init__(
        self,
        clock: Callable[[], float] = float,
        longest: float = 0.0,
        source_of: Callable[[str], str] = str,
    ) -> None:
        self._clock = clock
        self._longest = longest
        self._source_of = source_of
        self._addresses = Failures()
        self._users = Failures()
        self._tried = 0
        """How many logins were tried, of those whose passwords have to be verified in a thread."""
        self._queued: dict[int, tuple[str, int, bytes]] = {}
        """The clients in ``unverified``, by id: the address, the place, and the mark of the login."""
        self._places: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        """The places of logins whose clients have left before their turn, by address and mark; the latest are last."""
        self.active = False
        """Whether any login may have to wait, so that logins take the slow path."""
        self.checked = 0
        """The id of the client that has waited and whose login is checked now; 0 if there is none."""
        self.waiting: dict[int, Callable[[], object]] = {}
        """The clients whose logins wait, by id, each with the function that ends the waiting."""
        self.unverified: OrderedDict[str, list[tuple[int, int, Callable[[], object]]]] = OrderedDict()
        """The logins whose passwords have to be verified in a thread, by address, in the order of their places: the
        place, the client's id, and the function that starts it."""
        self.verifying = 0
        """The id of the client whose password is being verified in the thread; 0 if there is none."""
        self.delayed = 0
        """The number of logins that were delayed."""

    def __repr__(self) -> str:
        return f"<LoginDelays, {len(self._addresses)} addresses, {len(self._users)} users, {len(self.waiting)} wait>"

    def source(self, client: LoggingIn) -> str:
        """Return the key under which the address of a client is counted."""
        return self._source_of(client.address)

    def due(self, client: LoggingIn, user: str) -> float:
        """Return the seconds that a login of ``client`` as ``user`` has to wait."""
        if not self.active or client.id == self.checked:
            return 0.0
        now = self._clock()
        at_address = self._delay(self._addresses.count(self.source(client), now))
        return max(at_address, self._delay(self._users.count(user[:_NAME_MOST], now)) * _OF_USERS)

    def failed(self, client: LoggingIn, user: str) -> None:
        """Count a login that failed."""
        if not self._longest:
            return
        now = self._clock()
        for failures, key in (self._addresses, self.source(client)), (self._users, user[:_NAME_MOST]):
            failures.drop_old(now)
            if failures.add(key, now) >= FREE:
                self.active = True

    def settle(self) -> None:
        """Let logins take the fast path again if no failure is left that could delay one."""
        if self.active:
            now = self._clock()
            self._addresses.drop_old(now)
            self._users.drop_old(now)
            self.active = bool(len(self._addresses) or len(self._users))

    def verify_later(self, client: LoggingIn, start: Callable[[], object], mark: bytes = b"") -> None:
        """Call ``start``, which verifies the password of ``client`` in a thread, when its turn comes. ``mark`` stands
        for the user and the password."""
        source = self.source(client)
        self._tried += 1
        place = self._places.pop((source, mark), self._tried)
        self._queued[client.id] = source, place, mark
        insort(self.unverified.setdefault(source, []), (place, client.id, start))
        if not self.verifying:
            self.verify_next()

    def verify_next(self) -> None:
        """Start the next verification, as the one before has ended. Addresses take turns, so that a login does not wait
        behind all those from another address."""
        self.verifying = 0
        if self.unverified:
            source, logins = self.unverified.popitem(last=False)
            _, self.verifying, start = logins.pop(0)
            del self._queued[self.verifying]
            if logins:
                self.unverified[source] = logins
            start()

    def spared(self) -> set[int]:
        """The ids of the clients that are about to be answered: whose logins are delayed or being verified, or come
        next at their address. The number of the latter is bounded, so that no client stays for long because many
        others log in."""
        found = {self.verifying, *self.waiting}
        for logins in self.unverified.values():
            found.update(number for _, number, _ in logins[:_SPARED_MOST])
        return found

    def leave(self, number: int) -> None:
        """End the waiting of client ``number``, whose connection has ended."""
        end = self.waiting.pop(number, None)
        if end is not None:
            end()
        queued = self._queued.pop(number, None)
        if queued is not None:
            source, place, mark = queued
            logins = self.unverified[source]
            del logins[bisect_left(logins, (place, number))]
            if not logins:
                del self.unverified[source]
            if mark:
                self._places[source, mark] = place
                if len(self._places) > _PLACES_MOST:
                    self._places.popitem(last=False)

    def _delay(self, failures: int) -> float:
        return 0.0 if failures < FREE else min(FIRST * 2.0 ** (failures - FREE), self._longest)
