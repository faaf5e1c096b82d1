"""The audit log of one worker: lines of JSON, written to one file by all workers.

Lines are made in the event loop and written by a thread, many at a time, so that a slow disk holds nobody up. They wait
in a queue of bounded size. The file is opened for appending: the system writes the lines of several workers one after
the other. It is opened again on ``reopen`` (SIGHUP), after it was moved away.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from proxy.commands.categories import CommandSet
from proxy.commands.facts import Fact
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import CommandTable
from proxy.config import Config
from proxy.config.audit import AuditSection
from proxy.errors import ConfigError, text
from proxy.session.acl_check import bit_of
from proxy.session.acl_users import Users
from proxy.session.audit_rules import ALLOWED, DENIED, AuditRule, AuditRules
from proxy.session.session import Session, World
from proxy.sharding.topology import NOBODY, Topology

log = logging.getLogger(__name__)

_DELAY = 0.02
"""The seconds for which lines are collected before they are written."""
_RETRY = 1.0
"""The seconds until lines are written again that could not be written."""
_TOLD_EVERY = 10.0
"""The seconds between two lines in the log about a file that can not be written."""
_LAST_WRITE = 2.0
"""The most seconds that the last lines may take at the end of the process."""
_MOST_KEYS = 16
_MOST_KNOWN = 10_000
_PRIVATE = frozenset(("admin", "dangerous", "connection"))
"""The categories of commands whose arguments are never shown: AUTH, HELLO, ACL SETUSER, CONFIG SET, MIGRATE AUTH and
others of their kind take passwords."""
_MODE = 0o600


class AuditLog:
    """Implements ``proxy.session.audit.Audit``. ``shard_of`` returns the name of a key's shard."""

    def __init__(
        self,
        section: AuditSection,
        rules: AuditRules,
        users: Users,
        shard_of: Callable[[bytes], str],
        worker: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        assert section.path is not None
        self._path = section.path
        self._section = section
        self._rules = rules
        self._users = users
        self._shard_of = shard_of
        self._worker = worker
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "audit")
        self._known: dict[tuple[str, str, str], tuple[AuditRule, ...]] = {}
        """The rules that may record a command, by the user, the outcome and the command."""
        self._lines: list[bytes] = []
        self._waiting = 0
        """The bytes of the lines that are not written yet."""
        self._writing: asyncio.Future[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._file = -1
        self._stale = False
        """Whether ``reopen`` was called since the last batch was given to the thread."""
        self._broken = False
        """Whether the last write has failed, so that the thread opens the file again."""
        self._closed = False
        """Whether ``close`` was called: it alone writes from then on."""
        self._told = -_TOLD_EVERY
        self._failing = False
        self.written = 0
        """The number of lines that were recorded."""
        self.dropped = 0
        """The number of lines for which the queue had no room."""
        self._schedule(0)

    def __repr__(self) -> str:
        return f"AuditLog({self._path}, {self._waiting} bytes waiting, {self.dropped} dropped)"

    @property
    def waiting(self) -> int:
        """The number of bytes that are not written yet."""
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether commands that have to be recorded are refused."""
        return self._section.on_full == "refuse" and self._waiting >= self._section.queue

    # ---- what is recorded

    def record(self, session: Session, fact: Fact, args: Sequence[bytes]) -> bytes | None:
        """Return the line for a command that is about to be carried out; None if no rule records the command."""
        if fact.name == "auth" or not session.permissions.records(fact):
            return None
        return self._command(session, fact, args, ALLOWED, "")

    def write(self, record: bytes) -> None:
        """Write a line, or count that it is dropped."""
        full = self._waiting + len(record) > self._section.queue and self._section.on_full == "drop"
        if full or self._closed:
            self.dropped += 1
            return
        self.written += 1
        self._lines.append(record)
        self._waiting += len(record)
        if self._timer is None and self._writing is None:
            self._schedule(_DELAY)

    def denied(self, session: Session, fact: Fact, args: Sequence[bytes], why: str) -> None:
        """Record a denied command, if a rule says so."""
        line = self._command(session, fact, args, DENIED, why)
        if line is not None:
            self._write_unless_full(line)

    def logged_in(self, session: Session, command: bytes) -> None:
        """Record that a client has logged in as the session's user, if a rule says so."""
        if self._rules.login(session.user, ALLOWED):
            self._write_unless_full(self._line(session, session.user, text(command).lower(), ALLOWED))

    def login_failed(self, session: Session, command: bytes, user: str, why: str) -> None:
        """Record that a client could not log in as ``user``, if a rule says so."""
        if self._rules.login(user, DENIED):
            name = self._cut(user.encode("utf-8", "surrogateescape"))
            self._write_unless_full(self._line(session, name, text(command).lower(), DENIED, reason=why))

    def _write_unless_full(self, line: bytes) -> None:
        if self.full:
            self.dropped += 1
        else:
            self.write(line)

    def _command(self, session: Session, fact: Fact, args: Sequence[bytes], outcome: str, why: str) -> bytes | None:
        user = session.user if session.authenticated else ""
        rules = self._rules_for(user, outcome, fact)
        if not rules:
            return None
        try:
            keys = [args[at] for at in key_indexes(fact, args)] if args and fact.keyed else []
        except KeysError:
            keys = []
        if not any(rule.has_key(keys) for rule in rules):
            return None
        fields: dict[str, object] = {}
        shown = self._section.arguments
        if keys and shown != "none":
            fields["keys"] = [self._cut(key) for key in keys[:_MOST_KEYS]]
            if len(keys) > _MOST_KEYS:
                fields["more-keys"] = len(keys) - _MOST_KEYS
        if shown == "all" and keys and not fact.categories & _PRIVATE:
            fields["arguments"] = [self._cut(arg) for arg in args[1 : 1 + _MOST_KEYS]]
        fields["count"] = len(args)
        if keys:
            fields["shard"] = self._shard_of(keys[0])
        if session.queued >= 0:
            fields["transaction"] = True
        if why:
            fields["reason"] = why
        return self._line(session, user, fact.name, outcome, **fields)

    def _rules_for(self, user: str, outcome: str, fact: Fact) -> tuple[AuditRule, ...]:
        place = user, outcome, fact.name
        known = self._known.get(place)
        if known is None:
            commands = self._users.commands
            known = tuple(self._rules.about(user, outcome, bit_of(commands.bits, fact), commands))
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[place] = known
        return known

    def forget(self) -> None:
        """Find the rules of each command again, because the commands have changed."""
        self._known.clear()

    def _cut(self, arg: bytes) -> str:
        most = self._section.max_argument
        shown = arg[:most].decode("utf-8", "backslashreplace")
        return shown if len(arg) <= most else shown + "..."

    def _line(self, session: Session, user: str, command: str, outcome: str, **fields: object) -> bytes:
        moment = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        whole = {
            "time": moment,
            "worker": self._worker,
            "user": user,
            "address": session.address,
            "client": session.id,
            "database": session.db,
            "command": command,
            "outcome": outcome,
            **fields,
        }
        return json.dumps(whole, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"

    # ---- the file

    def reopen(self) -> None:
        """Open the file again: the old one may have been moved away."""
        self._stale = True
        if self._writing is None:
            self._schedule(0)

    async def close(self) -> None:
        """Write the lines that wait, and close the file."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            async with asyncio.timeout(_LAST_WRITE):
                if self._writing is not None:
                    await asyncio.wait([self._writing])
                batch = b"".join(self._lines)
                self._lines.clear()
                rest = await self._loop.run_in_executor(self._thread, self._append, batch, self._stale)
            if rest:
                log.error("lines of the audit log are lost path=%s bytes=%d", self._path, len(rest))
        except TimeoutError:
            log.error("lines of the audit log are lost path=%s bytes=%d", self._path, self._waiting)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _schedule(self, seconds: float) -> None:
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        batch = b"".join(self._lines)
        self._lines.clear()
        stale, self._stale = self._stale, False
        self._writing = self._loop.run_in_executor(self._thread, self._append, batch, stale)
        self._writing.add_done_callback(lambda done: self._wrote(len(batch), done.result()))

    def _wrote(self, size: int, rest: bytes) -> None:
        """Take notice that a batch of ``size`` bytes was written, up to ``rest``."""
        self._writing = None
        self._waiting -= size - len(rest)
        if rest:
            self._lines.insert(0, rest)
        if rest or self._failing:
            self._schedule(_RETRY)
        elif self._lines or self._stale:
            self._schedule(0 if self._stale else _DELAY)

    def _append(self, batch: bytes, stale: bool) -> bytes:
        """Append ``batch`` to the file, in the thread, and return what could not be written. ``stale``: the file is
        opened again."""
        try:
            if (stale or self._broken) and self._file >= 0:
                file, self._file = self._file, -1
                os.close(file)
            self._broken = False
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            while batch:
                batch = batch[os.write(self._file, batch) :]
        except OSError as error:
            self._tell(error)
            self._failing = True
            self._broken = True
            return batch
        if self._failing:
            self._failing = False
            self._told = -_TOLD_EVERY
            log.warning("the audit log is written again path=%s dropped=%d", self._path, self.dropped)
        return b""

    def _tell(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._told >= _TOLD_EVERY:
            self._told = now
            log.error(
                "the audit log can not be written path=%s reason=%r waiting=%d dropped=%d on_full=%s",
                self._path,
                os.strerror(error.errno or 0),
                self._waiting,
                self.dropped,
                self._section.on_full,
            )


# ---- from the configuration


def audit_rules_of(config: Config) -> AuditRules:
    """Return the rules of the configuration. Raises ConfigError if they name commands or categories that do not
    exist. (Commands of modules are known only once the servers have been asked, so they can not be named.)"""
    commands = CommandSet(CommandTable.builtin())
    rules, problems = [], []
    for at, rule in enumerate(config.audit.rules):
        names = tuple(name.lower() for name in rule.commands)
        for index, name in enumerate(names):
            known = commands.category if name.startswith("@") else commands.groups
            if name != "@all" and name.removeprefix("@") not in known:
                what = "category" if name.startswith("@") else "command"
                place = f"audit.rules[{at}].commands[{index}]"
                problems.append((place, f'"{name}" is no {what}: write "set", "config|set" or "@write"'))
        names = () if "@all" in names else names
        outcome = "" if rule.outcome == "any" else rule.outcome
        rules.append(AuditRule(rule.users, names, tuple(key.encode() for key in rule.keys), outcome))
    if problems:
        raise ConfigError(tuple(problems))
    return AuditRules(rules)


def audit_of(config: Config, world: World, topology: Callable[[], Topology], worker: int) -> AuditLog | None:
    """Return the audit log of a worker, after having the commands of all users recorded; None if there is none."""
    if config.audit.path is None:
        return None

    def shard_of(key: bytes) -> str:
        known = topology()
        index = known.slot_shard[world.slot_of(key)]
        return "" if index == NOBODY else known.shards[index].name

    rules = audit_rules_of(config)
    world.users.audit_by(rules)
    return AuditLog(config.audit, rules, world.users, shard_of, worker)
