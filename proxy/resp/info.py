"""Parsing and writing of INFO documents: lines of the form ``field:value``, under headings of the form ``# Section``.

Source: https://redis.io/docs/latest/commands/info/
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import AnyStr

from proxy.resp.role import is_replica

_STEP = 2048
"""The number of characters of a document that are parsed in one step."""

Section = dict[str, str]
"""The fields of one section of INFO, in order."""


def fields(document: AnyStr) -> Iterator[tuple[AnyStr, AnyStr]]:
    """The fields of all sections and their values, in order. Lines without a colon are skipped."""
    colon = ":" if isinstance(document, str) else b":"
    for line in document.splitlines():
        name, found, value = line.partition(colon)
        if found:
            yield name, value


def parse(document: str) -> dict[str, Section]:
    """The sections of ``document`` by name. A ``module:`` line is kept whole as a field, since there can be several."""
    found: dict[str, Section] = {}
    for _ in parsing(document, found):
        pass
    return found


def parsing(document: str, found: dict[str, Section]) -> Iterator[None]:
    """Parse ``document`` as ``parse`` does into ``found``, in steps of some lines, of which there may be very many."""
    current: Section = {}
    at = 0
    while at < len(document):
        end = document.find("\n", at + _STEP) + 1 or len(document)
        for line in document[at:end].splitlines():
            if line.startswith("# "):
                current = found.setdefault(line[2:].strip(), {})
            elif line.startswith("module:"):
                current[line] = ""
            elif ":" in line:
                name, _, value = line.partition(":")
                current[name] = value
        at = end
        yield


def write(document: Mapping[str, Mapping[str, str]]) -> str:
    """``document`` as Redis writes INFO: lines end in CRLF, and a blank line stands between sections."""
    return "\r\n".join(
        f"# {name}\r\n" + "".join(f"{_line(field, value)}\r\n" for field, value in fields.items())
        for name, fields in document.items()
    )


def _line(field: str, value: str) -> str:
    return field if ":" in field else f"{field}:{value}"


@dataclass(frozen=True, slots=True)
class Replication:
    """The replication state that a server reports: its ``role`` ("master", "slave" ...), the address ``host:port`` of
    the primary that it ``follows`` (empty without one), and whether it ``takes_writes`` as a replica."""

    role: bytes
    takes_writes: bool
    follows: str

    @classmethod
    def read(cls, info: bytes) -> "Replication":
        """Parse ``info``, the content of the reply to INFO replication."""
        said = dict(fields(info))
        follows = b":".join(said[name] for name in (b"master_host", b"master_port") if name in said)
        writable = said.get(b"slave_read_only", said.get(b"replica_read_only")) == b"0"
        return cls(said.get(b"role", b""), writable, follows.decode("utf-8", "replace"))

    @property
    def demoted(self) -> bool:
        """Whether the server is a replica that refuses writes."""
        return is_replica(self.role) and not self.takes_writes
