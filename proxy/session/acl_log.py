"""The log of denied commands and failed logins, as ACL LOG shows it. Pure.

Entries that are alike and come within a minute of each other are counted as one, as Redis does it (src/acl.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from proxy.resp import encode

_TOGETHER = 60_000
"""Milliseconds within which entries that are alike are one."""
_LOOKED_AT = 10
"""Entries, of the newest, with which a new one is compared."""
LONGEST = 128
"""Entries that are kept, as Redis keeps them by default (acllog-max-len)."""
SHOWN = 10
"""Entries that ACL LOG shows without a number."""
_OBJECT_MOST = 4096
"""Bytes of a key's or channel's name that are kept."""


@dataclass(slots=True)
class LogEntry:
    """What was denied: ``reason`` is command, key, channel or auth; ``context`` toplevel, multi or lua; ``object_`` is
    the command, key or channel. Texts hold a byte a character (Latin-1); times are milliseconds since 1970.
    """

    reason: str
    context: str
    object_: str
    username: str
    client_info: str
    updated: int
    created: int = 0
    number: int = 0
    count: int = 1

    def like(self, other: LogEntry) -> bool:
        """Whether ``other`` is the same again."""
        return (
            (self.reason, self.context, self.object_, self.username)
            == (other.reason, other.context, other.object_, other.username)
        ) and abs(self.updated - other.updated) <= _TOGETHER

    def reply(self, now: int, protocol: int, numbered: bool) -> bytes:
        """The entry as a map; ``numbered`` says whether its number and times belong to it."""
        age = (now - self.updated) / 1000
        shown = f"{age:.17g}" if not numbered else repr(age).removesuffix(".0")
        fields: dict[str, bytes] = {
            "count": encode.integer(self.count),
            "reason": encode.bulk(self.reason),
            "context": encode.bulk(self.context),
            "object": encode.bulk(self.object_.encode("latin-1")),
            "username": encode.bulk(self.username.encode("latin-1")),
            "age-seconds": b",%b\r\n" % shown.encode() if protocol >= 3 else encode.bulk(shown),
            "client-info": encode.bulk(self.client_info.encode("latin-1", "replace")),
        }
        if numbered:
            fields["entry-id"] = encode.integer(self.number)
            fields["timestamp-created"] = encode.integer(self.created)
            fields["timestamp-last-updated"] = encode.integer(self.updated)
        return encode.mapping({encode.bulk(name): value for name, value in fields.items()}, protocol)


class AclLog:
    """The newest entries of one worker."""

    __slots__ = ("_entries", "_longest", "_numbered")

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._entries: list[LogEntry] = []
        self._numbered = 0

    def __repr__(self) -> str:
        return f"<AclLog of {len(self._entries)} entries>"

    def add(self, entry: LogEntry) -> None:
        """One more denial, the newest."""
        entry.object_ = entry.object_[:_OBJECT_MOST]
        for at, known in enumerate(self._entries[:_LOOKED_AT]):
            if known.like(entry):
                known.client_info = entry.client_info
                known.updated = entry.updated
                known.count += 1
                self._entries.insert(0, self._entries.pop(at))
                return
        entry.number, entry.created = self._numbered, entry.updated
        self._numbered += 1
        self._entries.insert(0, entry)
        del self._entries[self._longest :]

    def reset(self) -> None:
        """Forget all entries."""
        self._entries.clear()

    def export(self) -> list[dict[str, Any]]:
        """The entries as JSON values, newest first."""
        return [asdict(entry) for entry in self._entries]


class DeniedClient(Protocol):
    """Whose login failed, or to whom a command was denied."""

    @property
    def user(self) -> str:
        """The name of its user."""

    @property
    def queued(self) -> int:
        """How many commands wait for EXEC; -1 outside of a transaction."""


class Denials:
    """Counts what was denied, and notes it in the log. ``line_of`` shows a client as CLIENT LIST does; the clock is
    that of the day, in seconds."""

    __slots__ = ("_clock", "_line_of", "commands", "log", "logins", "on_login")

    def __init__(self, clock: Callable[[], float] = float, line_of: Callable[[Any], str] = lambda session: "") -> None:
        self.log = AclLog()
        self.logins: dict[str, int] = {}
        """How many failed, by the reason."""
        self.commands: dict[str, int] = {}
        """How many were denied, by what was: the command, a key, a channel."""
        self.on_login: Callable[[LogEntry, str], None] | None = None
        """Called with each login that failed, and the reason."""
        self._clock = clock
        self._line_of = line_of

    def __repr__(self) -> str:
        return f"Denials({self.log!r})"

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)

    def command(self, session: DeniedClient, reason: str, object_: bytes) -> None:
        """A command was denied to a client: ``object_`` is the command itself, or the key or channel."""
        self.commands[reason] = self.commands.get(reason, 0) + 1
        self._note(session, reason, object_, session.user)

    def login(self, session: DeniedClient, command: bytes, username: str, why: str) -> None:
        """A login has failed; ``command`` is what asked for it."""
        self.logins[why] = self.logins.get(why, 0) + 1
        entry = self._note(session, "auth", command, username)
        if self.on_login is not None:
            self.on_login(entry, why)

    def _note(self, session: DeniedClient, reason: str, object_: bytes, username: str) -> LogEntry:
        context = "multi" if session.queued >= 0 else "toplevel"
        name = username.encode("utf-8", "surrogateescape").decode("latin-1")
        entry = LogEntry(reason, context, object_.decode("latin-1"), name, self._line_of(session), self.now())
        self.log.add(entry)
        return entry


def reply(logs: Iterable[Sequence[dict[str, Any]]], count: int, now: int, protocol: int, numbered: bool) -> bytes:
    """The reply to ACL LOG of several workers' entries: the newest ``count`` of them all."""
    entries = sorted((LogEntry(**entry) for log in logs for entry in log), key=lambda entry: -entry.updated)
    return encode.array(entry.reply(now, protocol, numbered) for entry in entries[: max(count, 0)])
