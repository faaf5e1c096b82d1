"""What a server replies to INFO: lines of the form ``field:value``, under headings of the form ``# Section``.

Source: https://redis.io/docs/latest/commands/info/
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import AnyStr

from proxy.resp.role import is_replica

Section = dict[str, str]
"""The fields of a section, in order."""


def fields(document: AnyStr) -> Iterator[tuple[AnyStr, AnyStr]]:
    """Each field of any section and its value, in order. What is no field is passed over."""
    colon = ":" if isinstance(document, str) else b":"
    for line in document.splitlines():
        name, found, value = line.partition(colon)
        if found:
            yield name, value


def parse(document: str) -> dict[str, Section]:
    """The sections by name. A module's line, of which there are several alike, is kept whole as a field."""
    found: dict[str, Section] = {}
    current: Section = {}
    for line in document.splitlines():
        if line.startswith("# "):
            current = found.setdefault(line[2:].strip(), {})
        elif line.startswith("module:"):
            current[line] = ""
        elif ":" in line:
            name, _, value = line.partition(":")
            current[name] = value
    return found


def write(document: Mapping[str, Mapping[str, str]]) -> str:
    """The sections as Redis writes them: lines end in CRLF, and a blank line parts sections."""
    return "\r\n".join(
        f"# {name}\r\n" + "".join(f"{_line(field, value)}\r\n" for field, value in fields.items())
        for name, fields in document.items()
    )


def _line(field: str, value: str) -> str:
    return field if ":" in field else f"{field}:{value}"


@dataclass(frozen=True, slots=True)
class Replication:
    """What a server says of its part in replication: its ``role`` ("master", "slave" ...), the address that it
    ``follows``, and whether it ``takes_writes`` though it is a replica."""

    role: bytes
    takes_writes: bool
    follows: str

    @classmethod
    def read(cls, info: bytes) -> "Replication":
        """The meaning of the reply to INFO replication."""
        said = dict(fields(info))
        follows = b":".join(said[name] for name in (b"master_host", b"master_port") if name in said)
        writable = said.get(b"slave_read_only", said.get(b"replica_read_only")) == b"0"
        return cls(said.get(b"role", b""), writable, follows.decode("utf-8", "replace"))

    @property
    def demoted(self) -> bool:
        """Whether the server is a replica that refuses writes."""
        return is_replica(self.role) and not self.takes_writes
