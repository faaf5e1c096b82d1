"""The options of CLIENT TRACKING in a session, and the errors for those that are not valid. No I/O.

Source: https://redis.io/docs/latest/commands/client-tracking/ and the replies of Redis 7.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge

from proxy import errors
from proxy.engine.jobs import MORE, Job
from proxy.resp import encode
from proxy.resp.numbers import parse_integer

_MODES = (b"bcast", b"optin", b"optout", b"noloop")
_STEP = 16
_RUN = 128
"""The numbers of prefixes that are compared, and sorted, after which a job may be interrupted."""
_AGAIN = "before disabling tracking for this client, and then re-enabling it with a different mode."


@dataclass(slots=True)
class Tracking:
    """The options of a client's CLIENT TRACKING ON. ``redirect`` is the id of the client that gets the invalidations,
    or 0."""

    bcast: bool = False
    optin: bool = False
    optout: bool = False
    noloop: bool = False
    redirect: int = 0
    prefixes: tuple[bytes, ...] = ()
    caching: str = field(default="", compare=False)
    """ "yes" or "no" after CLIENT CACHING, until the next command."""
    broken: bool = field(default=False, compare=False)
    """Whether the client of ``redirect`` is gone."""

    def flags(self) -> Iterator[str]:
        """The flags of CLIENT TRACKINGINFO."""
        yield "on"
        for name in ("bcast", "optin", "optout", "noloop"):
            if getattr(self, name):
                yield name
            if name == self._choice and self.caching:
                yield f"caching-{self.caching}"
        if self.broken:
            yield "broken_redirect"

    @property
    def _choice(self) -> str:
        return "optin" if self.optin else "optout" if self.optout else ""

    def options(self) -> Iterator[list[bytes]]:
        """The arguments of CLIENT TRACKING ON without the redirection, for each command that is needed."""
        modes = [name for name in _MODES if getattr(self, name.decode())]
        named = [prefix for prefix in self.prefixes if prefix]
        if named:
            words = [b"prefix"] * (2 * len(named))
            words[1::2] = named
            yield [*modes, *words]
        if not named or len(named) < len(self.prefixes):
            yield modes  # the empty prefix, which can not be named beside another

    def one_by_one(self) -> Iterator[list[bytes]]:
        """The arguments of CLIENT TRACKING ON, one command for each prefix: a server refuses only those that it has."""
        for prefix in self.prefixes if self.bcast else (b"",):
            yield from replace(self, prefixes=(prefix,) if prefix else ()).options()

    def choose(self, word: bytes) -> str | None:
        """Apply CLIENT CACHING YES | NO. Returns the error if that is not valid."""
        wanted = word.lower()
        if wanted == b"yes" and not self.optin:
            return "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
        if wanted == b"no" and not self.optout:
            return "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
        if wanted not in (b"yes", b"no"):
            return errors.SYNTAX
        self.caching = wanted.decode()
        return None


Asked = Tracking | str | None
"""The requested options, None for OFF, or the text of an error."""


def parsing(args: Sequence[bytes], now: Tracking | None, exists: Callable[[int], str | None]) -> Job[Asked]:
    """Parse CLIENT TRACKING's ``args`` for a client whose options are ``now``, as a job, since there may be very many
    prefixes. ``exists`` returns why a client can not be redirected to, or None."""
    asked = Tracking()
    prefixes: list[bytes] = []
    at = looked = 3
    while at < len(args):
        option, more = args[at].lower(), at + 1 < len(args)
        if option in _MODES:
            setattr(asked, option.decode(), True)
        elif option == b"prefix" and more:
            at += 1
            prefixes.append(args[at])
        elif option == b"redirect" and more:
            at += 1
            if asked.redirect:
                return "ERR A client can only redirect to a single other client"
            number = parse_integer(args[at])
            if number is None:
                return errors.NOT_AN_INTEGER
            if wrong := exists(number):
                return wrong
            asked.redirect = number
        else:
            return errors.SYNTAX
        at += 1
        if at - looked > _STEP:
            looked = at
            yield MORE
    if args[2].lower() == b"off":
        return None
    if args[2].lower() != b"on":
        return errors.SYNTAX
    return (yield from _joining(asked, prefixes, now))


def _joining(asked: Tracking, prefixes: Sequence[bytes], now: Tracking | None) -> Job[Tracking | str]:
    if prefixes and not asked.bcast:
        return "ERR PREFIX option requires BCAST mode to be enabled"
    if now is not None and now.bcast != asked.bcast:
        return f"ERR You can't switch BCAST mode on/off {_AGAIN}"
    if asked.bcast and (asked.optin or asked.optout):
        return "ERR OPTIN and OPTOUT are not compatible with BCAST"
    if asked.optin and asked.optout:
        return "ERR You can't specify both OPTIN mode and OPTOUT mode"
    if now is not None and ((asked.optin and now.optout) or (asked.optout and now.optin)):
        return f"ERR You can't switch OPTIN/OPTOUT mode {_AGAIN}"
    if asked.bcast:
        known = () if now is None else now.prefixes
        if not prefixes:
            asked.prefixes = tuple(sorted({*known, b""}))
            return asked
        together = yield from _together(prefixes, known)
        if isinstance(together, str):
            return together
        asked.prefixes = tuple(together)
    return asked


def _together(given: Sequence[bytes], known: Sequence[bytes]) -> Job[list[bytes] | str]:
    """All prefixes in order, or the error for those that overlap."""
    rules = "Prefixes for a single client must not overlap."
    together, of_known, of_given = yield from _overlapping(given, known)
    if of_known is not None:
        one, other = yield from _first_overlap(given[of_known], known, 0)
        return f"ERR Prefix '{one}' overlaps with an existing prefix '{other}'. {rules}"
    if of_given is not None:
        one, other = yield from _first_overlap(given[of_given], given, of_given + 1)
        return f"ERR Prefix '{one}' overlaps with another provided prefix '{other}'. {rules}"
    return together


def _first_overlap(one: bytes, others: Sequence[bytes], start: int) -> Job[tuple[str, str]]:
    """``one``, and the first of ``others`` that overlaps with it (one of them does), both for quoting."""
    at = start
    while not _overlap(one, others[at]):
        at += 1
        if not at % _STEP:
            yield MORE
    return errors.text(one), errors.text(others[at])


def _in_order(given: Sequence[bytes], known: Sequence[bytes]) -> Job[Iterator[tuple[bytes, int]]]:
    """The prefixes in order, with the index of each given one; it is -1 for known ones, which are in order already."""
    runs: list[Iterable[tuple[bytes, int]]] = [((prefix, -1) for prefix in known)]
    for at in range(0, len(given), _RUN):
        runs.append(sorted(zip(given[at : at + _RUN], range(at, at + _RUN), strict=False)))
        yield MORE
    return merge(*runs)


def _overlapping(given: Sequence[bytes], known: Sequence[bytes]) -> Job[tuple[list[bytes], int | None, int | None]]:
    """All prefixes in order; the index of the first given one that overlaps with a known one, and of the first that
    overlaps with another given one. In this order all strings that begin with a prefix follow it directly."""
    every = yield from _in_order(given, known)
    together: list[bytes] = []
    first: list[int | None] = [None, None]
    above: list[tuple[bytes, int]] = []
    """The prefixes that the current one begins with, each beginning with the one before it; ``counts`` has the numbers
    of known and of given ones."""
    counts = [0, 0]
    below: list[list[bool]] = []
    """For each prefix of ``above``, whether a known one and whether a given one begins with it."""

    def find(kind: int, index: int) -> None:
        known_first = first[kind]
        if index >= 0 and (known_first is None or index < known_first):
            first[kind] = index

    def leave() -> None:
        _, index = above.pop()
        counts[index >= 0] -= 1
        kinds = below.pop()
        for kind in (0, 1):
            if kinds[kind]:
                find(kind, index)
            if below:
                below[-1][kind] |= kinds[kind]
        if below:
            below[-1][index >= 0] = True

    for prefix, index in every:
        while above and not prefix.startswith(above[-1][0]):
            leave()
        for kind in (0, 1):
            if counts[kind]:
                find(kind, index)
        together.append(prefix)
        above.append((prefix, index))
        counts[index >= 0] += 1
        below.append([False, False])
        if not len(together) % _STEP:
            yield MORE
    while above:
        leave()
        if not len(above) % _STEP:
            yield MORE
    return together, first[0], first[1]


def _overlap(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)


def describe(tracking: Tracking | None, protocol: int) -> bytes:
    """The reply to CLIENT TRACKINGINFO."""
    return _OFF[protocol == 3] if tracking is None else _described(tracking, protocol)


def _described(tracking: Tracking | None, protocol: int) -> bytes:
    flags = ["off"] if tracking is None else tracking.flags()
    return encode.mapping(
        {
            encode.bulk("flags"): encode.set_of((encode.bulk(flag) for flag in flags), protocol),
            encode.bulk("redirect"): encode.integer(-1 if tracking is None else tracking.redirect),
            encode.bulk("prefixes"): encode.array(
                encode.bulk(prefix) for prefix in (tracking.prefixes if tracking else ())
            ),
        },
        protocol,
    )


_OFF = (_described(None, 2), _described(None, 3))
"""The reply to most clients, in RESP2 and RESP3."""
