"""CLIENT TRACKING as a session knows it: what was asked for, and the words for what can not be. Pure.

Source: https://redis.io/docs/latest/commands/client-tracking/ and what Redis 7 answers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from proxy import errors
from proxy.resp import encode
from proxy.resp.numbers import parse_integer

_MODES = (b"bcast", b"optin", b"optout", b"noloop")
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
            yield [*modes, *(word for prefix in named for word in (b"prefix", prefix))]
        if not named or len(named) < len(self.prefixes):
            yield modes  # every key, which can not stand beside a prefix

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


def parse(args: Sequence[bytes], now: Tracking | None, exists: Callable[[int], str | None]) -> Tracking | str | None:
    """What CLIENT TRACKING's ``args`` ask for of a client that tracks as ``now`` says: None for OFF, or the error they
    deserve. ``exists`` says why a client can not be redirected to, None if it can."""
    asked = Tracking()
    prefixes: list[bytes] = []
    at = 3
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
    if args[2].lower() == b"off":
        return None
    if args[2].lower() != b"on":
        return errors.SYNTAX
    return _joined(asked, prefixes, now)


def _joined(asked: Tracking, prefixes: Sequence[bytes], now: Tracking | None) -> Tracking | str:
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
        if wrong := _collision(prefixes, known):
            return wrong
        asked.prefixes = tuple(sorted({*known, *(prefixes or [b""])}))
    return asked


def _collision(given: Sequence[bytes], known: Sequence[bytes]) -> str | None:
    rules = "Prefixes for a single client must not overlap."
    for one in given:
        for other in known:
            if _overlap(one, other):
                words = errors.text(one), errors.text(other)
                return f"ERR Prefix '{words[0]}' overlaps with an existing prefix '{words[1]}'. {rules}"
    for one, other in combinations(given, 2):
        if _overlap(one, other):
            words = errors.text(one), errors.text(other)
            return f"ERR Prefix '{words[0]}' overlaps with another provided prefix '{words[1]}'. {rules}"
    return None


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
