"""The log of denied commands and failed logins, as ACL LOG shows it. Pure.

Equal entries within a minute of each other are counted as one, as in Redis (src/acl.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from proxy.resp import encode
from proxy.session.audit import Audit

_TOGETHER = 60_000
"""The milliseconds within which equal entries are counted as one."""
_LOOKED_AT = 10
"""The number of newest entries with which a new entry is compared."""
LONGEST = 128
"""The number of entries that are kept, Redis's own default (acllog-max-len)."""
SHOWN = 10
"""The number of entries that ACL LOG shows if no number is given."""
_OBJECT_MOST = 4096
"""The bytes that are kept of the name of a key or channel."""


@dataclass(slots=True)
class LogEntry:
    """A denied command or a failed login. ``reason`` is command, key, channel, auth or tls-cert; ``context`` is
    toplevel, multi or lua; ``object_`` is the command, key or channel. Texts hold one byte in each character (Latin-1);
    times are milliseconds since 1970."""

    reason: str
    context: str
    object_: str
    username: str
    client_info: str
    updated: int
    created: int = 0
    number: int = 0
    count: int = 1

    def reply(self, now: int, protocol: int, numbered: bool) -> bytes:
        """Return the entry as a map; ``numbered`` says whether the map has the entry's number and times."""
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

    def add(self, reason: str, context: str, object_: str, username: str, client_info: str, now: int) -> LogEntry:
        """Add a denial, the newest, and return its entry, which may be one of before."""
        object_ = object_[:_OBJECT_MOST]
        entries = self._entries
        for at, known in enumerate(entries[:_LOOKED_AT] if entries else ()):
            if (
                known.object_ == object_
                and known.username == username
                and known.reason == reason
                and known.context == context
                and abs(known.updated - now) <= _TOGETHER
            ):
                known.client_info = client_info
                known.updated = now
                known.count += 1
                if at:
                    entries.insert(0, entries.pop(at))
                return known
        entry = LogEntry(reason, context, object_, username, client_info, now, now, self._numbered)
        self._numbered += 1
        entries.insert(0, entry)
        del entries[self._longest :]
        return entry

    def reset(self) -> None:
        """Forget all entries."""
        self._entries.clear()

    def export(self) -> list[dict[str, Any]]:
        """Return the entries as JSON values, newest first."""
        return [asdict(entry) for entry in self._entries]


class DeniedClient(Protocol):
    """A client whose login failed, or to whom a command was denied."""

    @property
    def user(self) -> str:
        """The name of the client's user."""

    @property
    def queued(self) -> int:
        """The number of commands that wait for EXEC; -1 outside of a transaction."""


class Denials:
    """Counts denials, and records them in the log. ``line_of`` shows a client as CLIENT LIST does; ``clock`` is the
    time of day, in seconds."""

    __slots__ = ("_clock", "_line_of", "audit", "commands", "log", "logins", "on_login")

    def __init__(self, clock: Callable[[], float] = float, line_of: Callable[[Any], str] = lambda session: "") -> None:
        self.log = AclLog()
        self.logins: dict[str, int] = {}
        """The number of failed logins, by the reason."""
        self.commands: dict[str, int] = {}
        """The number of denied commands, by what was denied: the command, a key, a channel."""
        self.on_login: Callable[[LogEntry, str], None] | None = None
        """Called with each failed login and its reason."""
        self.audit: Audit | None = None
        """The audit log, if there is one."""
        self._clock = clock
        self._line_of = line_of

    def __repr__(self) -> str:
        return f"Denials({self.log!r})"

    def now(self) -> int:
        """Return the milliseconds since 1970."""
        return int(self._clock() * 1000)

    def command(self, session: DeniedClient, reason: str, object_: bytes) -> None:
        """Record a command that was denied to a client: ``object_`` is the command, or the denied key or channel."""
        self.commands[reason] = self.commands.get(reason, 0) + 1
        self._note(session, reason, object_, session.user)

    def login(self, session: DeniedClient, command: bytes, username: str, why: str) -> None:
        """Record a failed login; ``command`` is the command that asked for it."""
        self._login(session, "auth", command, command, username, why)

    def certificate(self, session: DeniedClient, command: bytes, username: str) -> None:
        """Record a client whose certificate names no user that may log in; ``command`` stands for its login in the
        audit log."""
        self._login(session, "tls-cert", b"", command, username, "no user of the certificate")

    def turned_away(self, session: DeniedClient, command: bytes, username: str) -> None:
        """Record a client that has logged in rightly as a user who has as many clients as it may have."""
        if self.audit is not None:
            self.audit.login_failed(session, command, username, "too many clients")

    def _login(
        self, session: DeniedClient, reason: str, object_: bytes, command: bytes, username: str, why: str
    ) -> None:
        self.logins[why] = self.logins.get(why, 0) + 1
        entry = self._note(session, reason, object_, username)
        if self.audit is not None:
            self.audit.login_failed(session, command, username, why)
        if self.on_login is not None:
            self.on_login(entry, why)

    def _note(self, session: DeniedClient, reason: str, object_: bytes, username: str) -> LogEntry:
        context = "multi" if session.queued >= 0 else "toplevel"
        name = username.encode("utf-8", "surrogateescape").decode("latin-1")
        return self.log.add(reason, context, object_.decode("latin-1"), name, self._line_of(session), self.now())


def reply(logs: Iterable[Sequence[dict[str, Any]]], count: int, now: int, protocol: int, numbered: bool) -> bytes:
    """Return the reply to ACL LOG: the newest ``count`` of all workers' entries."""
    entries = sorted((LogEntry(**entry) for log in logs for entry in log), key=lambda entry: -entry.updated)
    return encode.array(entry.reply(now, protocol, numbered) for entry in entries[: max(count, 0)])
