"""The contract of the audit log, as sessions use it."""

from collections.abc import Sequence
from typing import Any, Protocol

from proxy.commands.facts import Fact


class Audit(Protocol):
    """Records commands and logins. The session of the client is ``proxy.session.session.Session``."""

    written: int
    """The number of lines that were recorded."""
    dropped: int
    """The number of lines for which there was no room."""

    @property
    def waiting(self) -> int:
        """The number of bytes that are not written yet."""

    @property
    def full(self) -> bool:
        """Whether commands that have to be recorded are refused, because no more can be recorded now."""

    def record(self, session: Any, fact: Fact, args: Sequence[bytes]) -> bytes | None:
        """Return the line for a command that is about to be carried out; None if no rule records the command."""

    def write(self, record: bytes) -> None:
        """Write a line of ``record``, or count that it is dropped."""

    def denied(self, session: Any, fact: Fact, args: Sequence[bytes], why: str) -> None:
        """Record a denied command, if a rule says so."""

    def logged_in(self, session: Any, command: bytes) -> None:
        """Record that a client has logged in as the session's user, if a rule says so."""

    def login_failed(self, session: Any, command: bytes, user: str, why: str) -> None:
        """Record that a client could not log in as ``user``, if a rule says so."""

    def forget(self) -> None:
        """Take notice that the known commands have changed."""

    def reopen(self) -> None:
        """Open the file again: the old one may have been moved away."""

    async def close(self) -> None:
        """Write the lines that wait, and close the file."""
