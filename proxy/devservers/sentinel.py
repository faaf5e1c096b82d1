"""Real sentinels that monitor real servers, all as child processes, for ``slotgate demo`` and for the tests."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import hiredis

from proxy.devservers.servers import (
    LOOPBACK,
    START_TIMEOUT,
    LocalServer,
    ServerBinary,
    find_server,
    kept_directory,
    quote,
    stop_all,
)
from proxy.errors import SlotgateError
from proxy.resp.role import RoleReply

DOWN_AFTER: Final = 2.0
FAILOVER_TIMEOUT: Final = 10.0
# Sentinels send INFO to a server every 10 s, and accept a new role at the second reply.
NOTICED: Final = 40.0
_POLL: Final = 0.02


class WatchedServer(LocalServer):
    """A server that sentinels may reconfigure: a restart keeps the configuration that they had it rewrite."""

    keeps_configuration = True


class LocalSentinel(LocalServer):
    """One sentinel. ``password`` is the one that sentinels ask of clients and of each other."""

    arguments = ("--sentinel",)
    keeps_configuration = True

    def __init__(
        self, binary: ServerBinary, directory: Path, *, password: str = "", options: Sequence[str] = ()
    ) -> None:
        super().__init__(binary, directory, password=password, options=options)

    def __repr__(self) -> str:
        return f"<LocalSentinel {self.address} {self.binary.kind} {self.binary.version} running={self.running}>"

    def primary_of(self, name: str) -> str | None:
        """The address ``host:port`` of the master ``name``; None if it is unknown. Raises as ``ask``."""
        reply = self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        return b":".join(reply).decode() if isinstance(reply, list) else None

    def master(self, name: str) -> dict[str, str]:
        """The fields of SENTINEL MASTER. Raises as ``ask``."""
        return _fields(self.ask("SENTINEL", "MASTER", name))

    def replicas(self, name: str) -> list[dict[str, str]]:
        """The fields of each replica in SENTINEL REPLICAS. Raises as ``ask``."""
        reply = self.ask("SENTINEL", "REPLICAS", name)
        assert isinstance(reply, list)
        return [_fields(entry) for entry in reply]

    def _configuration(self) -> Iterator[str]:
        yield f"port {self.port}"
        yield f"bind {self.host}"
        yield "protected-mode no"
        if self.password:
            yield f"requirepass {quote(self.password)}"
            yield f"sentinel sentinel-pass {quote(self.password)}"
        yield from self.options


@dataclass(slots=True)
class WatchedShards:
    """Servers and the sentinels that monitor them. ``names[i]`` is the master's name of the shard ``groups[i]``."""

    binary: ServerBinary
    directory: Path
    names: tuple[str, ...]
    groups: list[list[WatchedServer]] = field(default_factory=list)
    """The servers of each shard, its first primary in front."""
    sentinels: list[LocalSentinel] = field(default_factory=list)

    @property
    def servers(self) -> list[WatchedServer]:
        return [server for group in self.groups for server in group]

    @property
    def sentinel_addresses(self) -> str:
        """The addresses of all sentinels, for ``slotgate serve --sentinel``."""
        return ",".join(sentinel.address for sentinel in self.sentinels)

    @property
    def masters(self) -> str:
        """The names of all masters, for ``slotgate serve --masters``."""
        return ",".join(self.names)

    def sentinel(self) -> LocalSentinel:
        """A sentinel that runs. Raises SlotgateError if none does."""
        for sentinel in self.sentinels:
            if sentinel.running:
                return sentinel
        raise SlotgateError("no sentinel runs")

    def primary(self, name: str) -> WatchedServer:
        """The shard's primary that a sentinel names. Raises as ``ask``."""
        address = self.sentinel().primary_of(name)
        (found,) = [server for server in self.servers if server.address == address]
        return found

    def replicas(self, name: str) -> list[WatchedServer]:
        """The shard's servers without its primary, running or not. Raises as ``ask``."""
        primary = self.primary(name)
        return [server for server in self.groups[self.names.index(name)] if server is not primary]

    def failover(self, name: str, timeout: float = START_TIMEOUT) -> WatchedServer:
        """Send SENTINEL FAILOVER; return the new primary when all running sentinels name it.

        Raises SlotgateError if that takes longer than ``timeout`` seconds, hiredis.ReplyError if there is no
        replica to promote.
        """
        before = self.primary(name)
        self.sentinel().ask("SENTINEL", "FAILOVER", name)
        return self.wait_switched(name, before, timeout)

    def wait_switched(self, name: str, before: LocalServer, timeout: float = START_TIMEOUT) -> WatchedServer:
        """Wait until all running sentinels name another primary than ``before``, which reports that role itself."""
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(OSError):
                named = {sentinel.primary_of(name) for sentinel in self.sentinels if sentinel.running}
                if len(named) == 1 and before.address not in named:
                    found = self.primary(name)
                    role = RoleReply.read(found.ask("ROLE"))
                    if role is not None and role.primary:
                        return found
            if time.monotonic() > deadline:
                raise SlotgateError(f"{before.address} is still the primary of {name} after {timeout:g} s")
            time.sleep(_POLL)

    def wait_ok(self, timeout: float = NOTICED) -> None:
        """Wait until the running sentinels agree, have a majority, and see every running replica synchronised.

        After a failover that takes 10 to 20 s, since sentinels send INFO every 10 s. Raises SlotgateError with what is
        missing.
        """
        deadline = time.monotonic() + timeout
        while problem := self._problem():
            if time.monotonic() > deadline:
                raise SlotgateError(f"the sentinels do not see all servers after {timeout:g} s: {problem}")
            time.sleep(_POLL)

    def _problem(self) -> str:
        """The missing part in words; "" if nothing is missing."""
        sentinels = [sentinel for sentinel in self.sentinels if sentinel.running]
        try:
            for name, group in zip(self.names, self.groups, strict=True):
                running = {server.address for server in group if server.running}
                for sentinel in sentinels:
                    if problem := _missing(sentinel, name, running, len(sentinels)):
                        return f"{sentinel.address} {problem}"
        except (OSError, hiredis.ReplyError) as error:
            return str(error)
        return ""


def _missing(sentinel: LocalSentinel, name: str, running: set[str], sentinels: int) -> str:
    """The part of a shard with the servers ``running`` that ``sentinel`` does not see yet. Raises as ``ask``."""
    sentinel.ask("SENTINEL", "CKQUORUM", name)
    master = sentinel.master(name)
    primary = f"{master['ip']}:{master['port']}"
    if master["flags"] != "master" or primary not in running:
        return f"has no living primary of {name}: {primary} is {master['flags']}"
    if int(master["num-other-sentinels"]) + 1 < sentinels:
        return "does not know all other sentinels"
    linked = {
        f"{replica['ip']}:{replica['port']}"
        for replica in sentinel.replicas(name)
        if replica["flags"] == "slave" and replica["master-link-status"] == "ok"
    }
    if not running - {primary} <= linked:
        return f"does not see all replicas of {name}"
    return ""


@contextlib.contextmanager
def start_watched(
    shards: int = 2,
    replicas: int = 1,
    sentinels: int = 3,
    *,
    binary: ServerBinary | None = None,
    names: Sequence[str] = (),
    down_after: float = DOWN_AFTER,
    failover_timeout: float = FAILOVER_TIMEOUT,
    password: str = "",
    sentinel_password: str = "",
    options: Sequence[str] = (),
    sentinel_options: Sequence[str] = (),
    timeout: float = START_TIMEOUT,
) -> Iterator[WatchedShards]:
    """Primaries with synchronised replicas under ``sentinels`` sentinels, which decide by majority. All are removed
    after the block.

    ``names`` are the shards' ("shard-1" ... by default). ``down_after`` and ``failover_timeout`` are seconds;
    ``options`` and ``sentinel_options`` are lines of redis.conf and sentinel.conf. Raises SlotgateError if that takes
    longer than ``timeout`` seconds.
    """
    binary = binary or find_server()
    with kept_directory() as directory, contextlib.ExitStack() as stack:
        watched = WatchedShards(
            binary, directory, tuple(names) or tuple(f"shard-{number + 1}" for number in range(shards))
        )
        started: list[LocalServer] = []
        stack.callback(stop_all, started)

        def start(primary: WatchedServer | None) -> WatchedServer:
            server = WatchedServer(binary, directory, replica_of=primary, password=password, options=options)
            started.append(server)
            server.start()
            return server

        for _ in watched.names:
            primary = start(None)
            watched.groups.append([primary, *(start(primary) for _ in range(replicas))])
        watch: list[str] = []
        for name, (primary, *_) in zip(watched.names, watched.groups, strict=True):
            watch += [
                f"sentinel monitor {name} {LOOPBACK} {primary.port} {sentinels // 2 + 1}",
                f"sentinel down-after-milliseconds {name} {round(down_after * 1000)}",
                f"sentinel failover-timeout {name} {round(failover_timeout * 1000)}",
            ]
            if password:
                watch.append(f"sentinel auth-pass {name} {quote(password)}")
        for server in watched.servers:
            if server.replica_of is not None:
                server.wait_link_up(timeout)
        for _ in range(sentinels):
            sentinel = LocalSentinel(binary, directory, password=sentinel_password, options=(*watch, *sentinel_options))
            started.append(sentinel)
            watched.sentinels.append(sentinel)
            sentinel.start()
        watched.wait_ok(timeout)
        yield watched


def _fields(reply: object) -> dict[str, str]:
    """A flat list of names and values as a dict."""
    assert isinstance(reply, list)
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
