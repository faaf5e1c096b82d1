"""What a load saw, as it is handed from its process to the test."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Second:
    """A second of the load: its replies, how many of them were errors, and the longest that one was waited for."""

    start: float
    replies: int = 0
    errors: int = 0
    slowest: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth telling: when (time.monotonic(), the same clock in all processes), the key's slot, and what."""

    when: float
    slot: int
    words: str
    sent: float = 0.0
    """When the command was sent; its reply may have had to wait for those before it."""


@dataclass(slots=True)
class Report:
    """Times are seconds of time.monotonic(), waits are seconds from the sending of a pipeline to a reply."""

    started: float = 0.0
    ended: float = 0.0
    replies: int = 0
    errors: list[Note] = field(default_factory=list)
    """Every error reply, in its words."""
    wrong: list[Note] = field(default_factory=list)
    """Replies that were not what the command's key could give, whatever the reason: swapped, stale, made up."""
    lost: list[Note] = field(default_factory=list)
    """Writes that were acknowledged and are gone; ``when`` is when the first of them was acknowledged."""
    broken: list[Note] = field(default_factory=list)
    """Connections that ended."""
    old: int = 0
    """Reads that gave an earlier value; counted only where reads may come from replicas."""
    seconds: list[Second] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Replies a second, over all."""
        return self.replies / max(self.ended - self.started, 1e-9)

    @property
    def slowest(self) -> float:
        """The longest wait."""
        return max((second.slowest for second in self.seconds), default=0.0)

    def between(self, start: float, end: float) -> Iterator[Second]:
        """The seconds that lie whole between two times."""
        return (second for second in self.seconds if second.start >= start and second.start + 1 <= end)

    def quiet_rate(self) -> float:
        """Replies a second, half of the seconds are better: what it was while nothing happened."""
        whole = sorted(second.replies for second in self.between(self.started, self.ended))
        return whole[len(whole) // 2] if whole else self.rate

    @property
    def clean(self) -> bool:
        """Whether nothing at all was amiss."""
        return not (self.errors or self.wrong or self.lost or self.broken)

    @property
    def true(self) -> bool:
        """Whether nothing was wrong or lost; errors there may be."""
        return not (self.wrong or self.lost)

    def kinds(self) -> dict[str, int]:
        """How often each first word of an error came."""
        found: dict[str, int] = {}
        for note in self.errors:
            word = note.words.partition(" ")[0]
            found[word] = found.get(word, 0) + 1
        return found

    def __str__(self) -> str:
        lines = [
            f"{self.replies} replies in {self.ended - self.started:.1f} s, {self.rate:.0f} a second "
            f"({self.quiet_rate():.0f} in half of the seconds); slowest {self.slowest * 1000:.0f} ms; "
            f"{len(self.errors)} errors {self.kinds() or ''}, {len(self.wrong)} wrong, {len(self.lost)} lost, "
            f"{len(self.broken)} connections broken, {self.old} old reads"
        ]
        for name in ("errors", "wrong", "lost", "broken"):
            notes: list[Note] = getattr(self, name)
            lines += [
                f"  {name}: after {note.when - self.started:.3f} s, slot {note.slot}: {note.words}"
                for note in notes[:5]
            ]
        lines += [
            f"  slow: after {second.start - self.started:.0f} s: {second.slowest:.3f} s, {second.replies} replies"
            for second in self.seconds
            if second.slowest > 0.5
        ]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Report":
        raw: dict[str, Any] = json.loads(path.read_text())
        for name in ("errors", "wrong", "lost", "broken"):
            raw[name] = [Note(**note) for note in raw[name]]
        raw["seconds"] = [Second(**second) for second in raw["seconds"]]
        return cls(**raw)
