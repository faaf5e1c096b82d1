"""Compares replies with what they can be, and fills the report in."""

import time
from collections.abc import Sequence
from typing import Final

import hiredis

from proxy.sharding.slots import key_slot
from tests.drills.mixture import Command
from tests.drills.model import Key, Verdict
from tests.drills.report import Note, Report, Second

_KEPT: Final = 2000


class Checker:
    """Fills a report in: compares each reply with what its command's keys could give."""

    def __init__(self, report: Report, *, stale: bool) -> None:
        self.report = report
        self._stale = stale

    def reply(self, command: Command, reply: object, now: float, *, final: bool = False) -> bool:
        """Takes a reply; False if it was an error reply."""
        second = self._second(now)
        second.replies += 1
        second.slowest = max(second.slowest, now - command.sent)
        self.report.replies += 1
        if isinstance(reply, hiredis.ReplyError):
            second.errors += 1
            self._error(command, str(reply), now)
            return False
        verdict, key = self._verdict(command, reply, now, stale=self._stale and not final)
        self._tell(verdict, command, key, reply, now)
        return True

    def unexplained(self, key: Key) -> None:
        """The load is over: what replicas answered early and no write explains was wrong."""
        for when, part, reply in key.early:
            words = f"{key.name.decode()}: {part.name} was answered {str(reply)[:200]} by a replica"
            _note(self.report.wrong, when, key_slot(key.name), words)
        key.early.clear()

    def broken(self, commands: Sequence[Command], words: str) -> None:
        """A connection ended: what it had not answered may have run or not."""
        for command in commands:
            for part in command.parts:
                part.key.uncertain(part)
        _note(self.report.broken, time.monotonic(), -1, f"{words}, with {len(commands)} commands unanswered")

    def _error(self, command: Command, words: str, now: float) -> None:
        if words.startswith("UNCERTAIN"):
            for part in command.parts:
                part.key.uncertain(part)
        slot = key_slot(command.parts[0].key.name)
        _note(self.report.errors, now, slot, f"{words} [{command.name}]", command.sent)

    def _verdict(self, command: Command, reply: object, now: float, *, stale: bool) -> tuple[Verdict, Key]:
        """The worst of the parts', and the key that it is about."""
        first = command.parts[0].key
        match command.name, reply:
            case "MGET", list() if len(reply) == len(command.parts):
                pairs = zip(command.parts, reply, strict=True)
                verdicts = [(part.key.check(part, said, now, stale=stale), part.key) for part, said in pairs]
                return max(verdicts, key=lambda pair: _GRAVITY.index(pair[0]))
            case "MSET", b"OK":
                verdicts = [(part.key.check(part, b"OK", now), part.key) for part in command.parts]
                return max(verdicts, key=lambda pair: _GRAVITY.index(pair[0]))
            case (("DEL" | "UNLINK" | "EXISTS"), int()):
                verdict = Verdict.RIGHT if stale and command.name == "EXISTS" else _sum(command, reply)
                first.undone_from = now  # which of them it was, and since when, a sum does not say
                for part in command.parts:
                    part.key.carried_out(part, now)
                return verdict, first
            case (("MGET" | "MSET" | "DEL" | "UNLINK" | "EXISTS"), _):
                return Verdict.WRONG, first
            case "HGETALL", list() if len(reply) % 2 == 0:
                pairs_read = sorted(zip(reply[::2], reply[1::2], strict=True))
                return first.check(command.parts[0], pairs_read, now, stale=stale), first
        return first.check(command.parts[0], reply, now, stale=stale), first

    def _tell(self, verdict: Verdict, command: Command, key: Key, reply: object, now: float) -> None:
        words = f"{key.name.decode()}: {command.name} was answered {str(reply)[:200]}"
        if verdict is Verdict.WRONG:
            _note(self.report.wrong, now, key_slot(key.name), words)
        elif verdict is Verdict.LOST:
            seen = f"{words}, {now - key.undone_from:.3f} s after the first lost write was acknowledged"
            _note(self.report.lost, key.undone_from, key_slot(key.name), seen)
        elif verdict is Verdict.OLD:
            self.report.old += 1

    def _second(self, now: float) -> Second:
        seconds = self.report.seconds
        while not seconds or seconds[-1].start + 1 <= now:
            seconds.append(Second(seconds[-1].start + 1 if seconds else now))
        return seconds[-1]


def _sum(command: Command, reply: int) -> Verdict:
    """What the reply of a DEL or EXISTS is, which is one number for all its keys."""
    for verdict, past in ((Verdict.RIGHT, False), (Verdict.LOST, True)):
        bounds = [part.key.sums(part, past=past) for part in command.parts]
        if sum(least for least, _ in bounds) <= reply <= sum(most for _, most in bounds):
            return verdict
    return Verdict.WRONG


_GRAVITY: Final = [Verdict.RIGHT, Verdict.OLD, Verdict.EARLY, Verdict.LOST, Verdict.WRONG]


def _note(notes: list[Note], when: float, slot: int, words: str, sent: float = 0.0) -> None:
    if len(notes) < _KEPT:
        notes.append(Note(when, slot, words, sent))
