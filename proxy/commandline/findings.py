"""One finding of ``slotgate check``: how grave it is, where, what is wrong and what to do; and findings as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
"""An error keeps the proxy from working. A warning is likely a mistake, and fails the check with ``--strict``. A note
is for people to know, and never fails the check."""
PROTECTED_MODE = "protected"
"""The ``kind`` of the warning that a listener refuses the clients of other machines."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about the key or the server ``where``. ``place`` is the line of the file or the variable, if there is
    one. ``kind`` heads the line of text if it is not the severity."""

    severity: Severity
    where: str
    words: str
    place: str = ""
    kind: str = ""

    def text(self) -> str:
        """Return the finding as one line."""
        words = f"{self.where}: {self.words}" if self.where else self.words
        place = f" ({self.place})" if self.place else ""
        return f"{self.kind or self.severity:<10} {words}{place}"

    def fields(self) -> dict[str, str]:
        """Return the finding as the keys of a JSON object."""
        return {"severity": self.severity, "where": self.where, "words": self.words, "place": self.place}


def failed(findings: Iterable[Finding], strict: bool) -> bool:
    """Whether the findings fail the check; warnings do so if it is ``strict``."""
    fatal: Sequence[Severity] = ("error", "warning") if strict else ("error",)
    return any(each.severity in fatal for each in findings)
