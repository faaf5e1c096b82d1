"""Reads the configuration again (SIGHUP, SLOTGATE RELOAD), and has what can change without a restart applied.

A file that is not right changes nothing: its problems are logged, and the old values stay in use.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine

from proxy import metrics
from proxy.config import Config
from proxy.config.reload import Change, changes, effect_of, in_use
from proxy.errors import ConfigError, SlotgateError
from proxy.session.acl_users import Users
from proxy.transport.watched_files import WatchedFiles
from proxy.worker.audit_log import audit_rules_of
from proxy.worker.configured_users import users_file_of, users_of
from proxy.worker.metric_snapshot import Tally
from proxy.worker.systemd import ServiceManager

log = logging.getLogger(__name__)

_LOOK_EVERY = 2.0
"""The seconds between two looks at a file that is watched."""
Load = Callable[[], Config]
"""Reads the file, the environment and the flags again. Raises ConfigError."""
Apply = Callable[[Config, Users | None], None]
"""Uses a configuration from now on, and its users unless they are the same as before: then those that ACL SETUSER has
changed stay as they are."""


class Reloading:
    """Reloads the configuration of this process and its workers. ``config`` is the one in use."""

    def __init__(self, config: Config, load: Load, apply: Apply, file: str = "") -> None:
        self.config = config
        self._load = load
        self._apply = apply
        self._acl = _acl_text(config)
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._good = True
        self._when = time.time()
        if file and config.watch_config:
            self._begin(self.watch(file))

    def __repr__(self) -> str:
        return f"Reloading(good={self._good})"

    async def watch(self, file: str) -> None:
        """Reload whenever the configuration's ``file`` has changed."""
        watched = WatchedFiles([file])
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if watched.changed():
                log.info("the configuration file has changed path=%s", file)
                await self._try()

    def hung_up(self) -> None:
        """Act on SIGHUP: reload now. The outcome is logged."""
        log.info("SIGHUP: the configuration is read again")
        if self.config.audit.path is not None:
            log.info("SIGHUP: the audit log is opened again")
        self._begin(self._try())

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try(self) -> None:
        manager = ServiceManager()
        manager.reloading()
        with contextlib.suppress(SlotgateError):
            await self.reload()
        manager.ready(
            "the configuration was read again" if self._good else "the configuration is not right: see the log"
        )

    async def said(self, dry: bool) -> list[str]:
        """Reload as ``reload`` does, and return the changes as lines."""
        return [f"{change.key}: {change.effect}" for change in await self.reload(dry)]

    async def reload(self, dry: bool = False) -> list[Change]:
        """Reload, and return the keys that have changed; ``dry``: apply nothing. Raises SlotgateError if the new
        configuration is not right, and then changes nothing."""
        try:
            async with self._lock:
                new, users, acl = await asyncio.to_thread(self._read)
        except SlotgateError as error:
            problems = error.problems if isinstance(error, ConfigError) else [("", str(error))]
            if not dry:
                self._good = False
                for key, words in problems:
                    log.error("configuration not reloaded, nothing is changed key=%s problem=%r", key, words)
            raise
        found = changes(self.config, new)
        if acl != self._acl and new.aclfile == self.config.aclfile:
            found.append(Change("users", effect_of("users")))
        if dry:
            return found
        self.config, self._acl = in_use(self.config, new), acl
        self._apply(self.config, users if any(change.key == "users" for change in found) else None)
        self._good, self._when = True, time.time()
        log.info("configuration reloaded changed=%d", len(found))
        for change in found:
            say = log.warning if change.effect == "after a restart" else log.info
            say("configuration changed key=%s holds=%r", change.key, change.effect)
        return found

    def _read(self) -> tuple[Config, Users, bytes]:
        """Read the configuration, its users, and the text of the aclfile, in a thread. Raises ConfigError."""
        config = self._load()
        audit_rules_of(config)
        return config, users_of(config), _acl_text(config)

    def count(self, tally: Tally) -> None:
        """Add what metrics show of this."""
        tally.add(metrics.RELOADED_WELL, float(self._good))
        tally.add(metrics.RELOADED_WHEN, self._when)


def _acl_text(config: Config) -> bytes:
    """The text of the aclfile; empty if there is none."""
    file = users_file_of(config)
    return b"" if file is None else file.read()
