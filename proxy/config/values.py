"""Parsers of the values of a configuration: durations, sizes, counts, addresses and slot ranges.

Each parser takes a value of TOML, JSON or an environment variable and returns the parsed value, or raises ValueError
with words for the operator: what is wrong, and what to write.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainValidator

from proxy.sharding.slots import SLOTS

# sun_path holds 108 bytes, the closing zero included (unix(7)).
UNIX_PATH_MAX = 107
# No machine has so many cores: a larger number is a typing error.
WORKERS_MAX = 1024

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# Redis's units: 1k is 1000 bytes, 1kb is 1024 (the first lines of redis.conf).
_SIZE = re.compile(r"([0-9]{1,12})\s*(b|k|kb|m|mb|g|gb)", re.IGNORECASE)
_BYTES = {"b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")
_RANGE = re.compile(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on or to connect to. A unix socket has its path as ``host``, and ``unix`` is true."""

    host: str
    port: int
    unix: bool = False

    @property
    def chosen_by_system(self) -> bool:
        """Whether the system chooses a free port when the proxy starts to listen."""
        return self.port == 0 and not self.unix

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect to it."""
        return self.unix or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def shown(value: object) -> str:
    """A value as an error shows it: quoted, on one short line, and replaced if it may contain a password."""
    if isinstance(value, str) and ("://" in value or "@" in value):
        return "this value"
    text = json.dumps(value, default=lambda other: type(other).__name__)
    return text if len(text) <= 60 else f"{text[:60]}..."


def parse_duration(value: object) -> float:
    """The seconds of ``"500ms"``, ``"2s"``, ``"1.5m"``, ``"1h"``."""
    if _is_bare_number(value):
        raise ValueError(f'{shown(value)} has no unit: write "{value}s" or "{value}ms"')
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a duration: write a number and ms, s, m or h, as in "500ms" or "2s"')
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(value: object) -> int:
    """The bytes of ``"64kb"``, ``"512mb"``, ``"1gb"``, in Redis's units."""
    if _is_bare_number(value):
        raise ValueError(f'{shown(value)} has no unit: write "{value}b", "{value}kb" or "{value}mb"')
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f'{shown(value)} is not a size: write a whole number and b, kb, mb or gb, as in "64kb" or "512mb"'
        )
    return int(match[1]) * _BYTES[match[2].lower()]


def parse_percent(value: object) -> float:
    """The fraction of one of a percentage: 0.8 for ``"80%"``."""
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f'{shown(value)} is not a part of the whole: write it in quotes, from "1%" to "100%"')
    return float(match[1]) / 100


def parse_count(value: object) -> int:
    """A whole number, or the text of one, since an environment variable holds text only."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{shown(value)} is not a whole number: write it without quotes, as in 1000")


def parse_workers(value: object) -> int | Literal["auto"]:
    """A whole number from 1 on, or ``"auto"``."""
    if isinstance(value, str) and value.strip() == "auto":
        return "auto"
    try:
        count = parse_count(value)
    except ValueError:
        raise ValueError(f'{shown(value)} is not a number of workers: write one, as in 4, or "auto"') from None
    if count < 1:
        raise ValueError("is too small: at least 1")
    if count > WORKERS_MAX:
        raise ValueError(f"is too large: at most {WORKERS_MAX}")
    return count


def parse_memory(value: object) -> int | Literal["auto"]:
    """A size in bytes, or ``"auto"``."""
    return "auto" if isinstance(value, str) and value.strip() == "auto" else parse_size(value)


def _is_bare_number(value: object) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def parse_listen(value: object) -> Address:
    """An address to listen on; port 0 lets the system choose a free one."""
    return _parse_address(value, lowest_port=0)


def parse_server(value: object) -> Address:
    """An address to connect to."""
    return _parse_address(value, lowest_port=1)


def _parse_address(value: object, *, lowest_port: int) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not an address: write "host:port", "[::1]:port" or "unix:/path"')
    text = value.strip()
    if "://" in text or "@" in text:
        raise ValueError(
            'is a URL: write "host:port" only; a user and a password of the servers go under [backend], '
            "those of clients under [[users]]"
        )
    if text.startswith("unix:"):
        return _parse_unix(text)
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f'{shown(value)} is not an address: write "host:port", "[::1]:port" or "unix:/path"')
    if not re.fullmatch("[0-9]{1,9}", port) or not lowest_port <= int(port) <= 65535:
        raise ValueError(f"{shown(value)} has no good port: it is a number from {lowest_port} to 65535")
    return Address(_parse_host(host, port, value), int(port))


def _parse_unix(text: str) -> Address:
    path = text.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError(f'{shown(text)} is not a unix socket: write the full path of a file, as in "unix:/run/x.sock"')
    if len(path.encode()) > UNIX_PATH_MAX:
        raise ValueError(f"the path of a unix socket is at most {UNIX_PATH_MAX} bytes long: choose a shorter one")
    return Address(path, 0, unix=True)


def _parse_host(host: str, port: str, value: object) -> str:
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host or bracketed:
        try:
            parsed = ipaddress.IPv6Address(host[1:-1] if bracketed else host).compressed
        except ValueError:
            raise ValueError(f'{shown(value)} is not an address: write "host:port" or "[::1]:port"') from None
        if not bracketed:
            raise ValueError(f'{shown(value)} needs brackets around its IPv6 part: write "[{parsed}]:{port}"')
        return parsed
    if not _HOST.fullmatch(host):
        raise ValueError(f"{shown(value)} has no good host: a name or an IP address stands before the port")
    if re.fullmatch("[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f"{shown(value)} has no good host: an IPv4 address is four numbers, 0 to 255") from None
    return host.lower()


def parse_slots(value: object) -> tuple[tuple[int, int], ...]:
    """The ranges of ``"0-5460,7000"``: ((0, 5460), (7000, 7000)), ascending."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} names no slots: write ranges in quotes, as in "0-5460" or "0-99,7000"')
    if not value.strip():
        raise ValueError("names no slots: leave it out on every shard to divide them evenly")
    ranges = sorted(_parse_range(part.strip()) for part in value.split(","))
    for (_, last), (following, end) in pairwise(ranges):
        if following <= last:
            raise ValueError(f"{format_range(following, min(last, end))} is named twice: name each slot once")
    return tuple(ranges)


def _parse_range(part: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError(f'{shown(part)} is not a slot range: write "0-5460" or "7000", with commas between several')
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if max(first, last) >= SLOTS:
        raise ValueError(f"{part} is out of range: slots are 0 to {SLOTS - 1}")
    if first > last:
        raise ValueError(f"{part} is reversed: write {last}-{first}")
    return first, last


def parse_address_map(value: object) -> dict[str, str]:
    """The map from announced addresses to reachable ones, each a host with a port, or a host for all its ports:
    ``{"10.0.0.5:6379" = "203.0.113.5:7000", "10.0.0.6" = "203.0.113.6"}``."""
    if not isinstance(value, Mapping):
        raise ValueError('is not a table: write remap = { "10.0.0.5:6379" = "203.0.113.5:7000" }')
    found: dict[str, str] = {}
    for announced, reached in value.items():
        if not isinstance(announced, str) or not isinstance(reached, str):
            raise ValueError(f"{shown(announced)} has no address: write it in quotes")
        with_port = _has_port(announced)
        if with_port != _has_port(reached):
            raise ValueError(f"{shown(announced)} and {shown(reached)}: write both with a port, or both without")
        if with_port:
            found[str(parse_server(announced))] = str(parse_server(reached))
        else:
            found[_parse_bare_host(announced)] = _parse_bare_host(reached)
    return found


def _parse_bare_host(text: str) -> str:
    """A host without a port, so that an IPv6 address needs no brackets."""
    host = text.strip()
    return _parse_host(f"[{host}]" if ":" in host and not host.startswith("[") else host, "6379", text)


def _has_port(text: str) -> bool:
    host, colon, _ = text.strip().rpartition(":")
    return bool(colon) and (":" not in host or host.endswith("]"))


ProxyNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]
"""A network whose machines are believed about their clients; "unix" for whoever connects to a unix socket."""


def parse_trusted_proxy(value: object) -> ProxyNetwork:
    """A network, as in ``"10.0.0.0/24"``, an address, or ``"unix"``."""
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)) or value == "unix":
        return value
    text = value.strip() if isinstance(value, str) else ""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f'{shown(value)} is no network: write "10.0.0.0/24", an address, or "unix" for unix sockets'
            ) from None
        raise ValueError(f'{shown(value)} has bits behind its prefix: write "{network}"') from None
    if not network.prefixlen:
        raise ValueError(f"{shown(value)} is everybody, who could then claim any address: name the balancers' networks")
    return network


def format_range(first: int, last: int) -> str:
    """A range of slots as the configuration writes it."""
    return str(first) if first == last else f"{first}-{last}"


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""A duration in seconds."""
Size = Annotated[int, BeforeValidator(parse_size)]
"""A size in bytes."""
Percent = Annotated[float, BeforeValidator(parse_percent)]
"""A percentage as a fraction of one."""
Count = Annotated[int, BeforeValidator(parse_count)]
ReadFrom = Literal["primary", "prefer_replica", "replica", "any", "nearest"]
Workers = Annotated[int | Literal["auto"], PlainValidator(parse_workers)]
Memory = Annotated[int | Literal["auto"], PlainValidator(parse_memory)]
"""A size in bytes, or "auto"."""
ListenAddress = Annotated[Address, PlainValidator(parse_listen)]
ServerAddress = Annotated[Address, PlainValidator(parse_server)]
AddressMap = Annotated[dict[str, str], PlainValidator(parse_address_map)]
SlotRanges = Annotated[tuple[tuple[int, int], ...], PlainValidator(parse_slots)]
TrustedProxy = Annotated[ProxyNetwork, PlainValidator(parse_trusted_proxy)]
