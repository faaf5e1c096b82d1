"""CLIENT TRACKING as a session knows it: what was asked for, and the words for what can not be. Pure.

Source: https://redis.io/docs/latest/commands/client-tracking/ and what Redis 7 answers.
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
"""Prefixes that are looked at, and put in order, until that may be interrupted."""
_AGAIN = "before disabling tracking for this client, and then re-enabling it with a different mode."


@dataclass(slots=True)
class Tracking:
    """What a client's CLIENT TRACKING ON asked for. ``redirect`` is the id of the client that hears of it, or 0."""

    bcast: bool = False
    optin: bool = False
    optout: bool = False
    noloop: bool = False
    redirect: int = 0
    prefixes: tuple[bytes, ...] = ()
    caching: str = field(default="", compare=False)
    """ "yes" or "no" after CLIENT CACHING, until the next command."""
    broken: bool = field(default=False, compare=False)
    """Whether the client that it redirects to is gone."""

    def flags(self) -> Iterator[str]:
        """As CLIENT TRACKINGINFO names them."""
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
        """As arguments of CLIENT TRACKING ON, but for the redirection; of as many commands as it takes."""
        modes = [name for name in _MODES if getattr(self, name.decode())]
        named = [prefix for prefix in self.prefixes if prefix]
        if named:
            words = [b"prefix"] * (2 * len(named))
            words[1::2] = named
            yield [*modes, *words]
        if not named or len(named) < len(self.prefixes):
            yield modes  # every key, which can not stand beside a prefix

    def one_by_one(self) -> Iterator[list[bytes]]:
        """The same, one command for each prefix: a server that knows some refuses only those."""
        for prefix in self.prefixes if self.bcast else (b"",):
            yield from replace(self, prefixes=(prefix,) if prefix else ()).options()

    def choose(self, word: bytes) -> str | None:
        """CLIENT CACHING YES | NO; why not, if it can not be."""
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
"""What is asked for: None for OFF, or the error that it deserves."""


def parsing(args: Sequence[bytes], now: Tracking | None, exists: Callable[[int], str | None]) -> Job[Asked]:
    """What CLIENT TRACKING's ``args`` ask for of a client that tracks as ``now`` says; there may be very many prefixes.
    ``exists`` says why a client can not be redirected to, None if it can."""
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
    """All prefixes in order; or the error that overlapping ones deserve, if there are any."""
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
    """``one``, and the first of ``others`` that overlaps with it, which there is; both to be quoted."""
    at = start
    while not _overlap(one, others[at]):
        at += 1
        if not at % _STEP:
            yield MORE
    return errors.text(one), errors.text(others[at])


def _in_order(given: Sequence[bytes], known: Sequence[bytes]) -> Job[Iterator[tuple[bytes, int]]]:
    """The prefixes in order, with the index of those that are given; of known ones, which are in order, it is -1."""
    runs: list[Iterable[tuple[bytes, int]]] = [((prefix, -1) for prefix in known)]
    for at in range(0, len(given), _RUN):
        runs.append(sorted(zip(given[at : at + _RUN], range(at, at + _RUN), strict=False)))
        yield MORE
    return merge(*runs)


def _overlapping(given: Sequence[bytes], known: Sequence[bytes]) -> Job[tuple[list[bytes], int | None, int | None]]:
    """All prefixes in order; the index of the first given one that overlaps with a known one, and of the first that
    does with another given one. In order whatever begins with a prefix stands behind it, before all that does not."""
    every = yield from _in_order(given, known)
    together: list[bytes] = []
    first: list[int | None] = [None, None]
    above: list[tuple[bytes, int]] = []
    """What the current one begins with, each beginning with the one before; and how many of them are known, given."""
    counts = [0, 0]
    below: list[list[bool]] = []
    """For each of ``above`` whether something known, something given, begins with it."""

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
    """CLIENT TRACKINGINFO."""
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
"""What most clients are told, in RESP2 and RESP3."""
