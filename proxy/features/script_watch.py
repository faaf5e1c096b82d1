"""SLOTGATE SCRIPTS: what the scripts that clients call use beyond the keys that they declare.

For some seconds the primaries are asked by MONITOR for all commands that they carry out. A server shows the call of a
script first, and then the commands of that script, marked with ``lua``, without any other between them::

    +1700000000.123456 [0 10.0.0.9:50310] "EVALSHA" "6b1bf486..." "1" "user:7"
    +1700000000.123460 [0 lua] "get" "user:7"
    +1700000000.123464 [0 lua] "get" "names"              a key that is not declared

So nothing is guessed from a script's text, and no script is called a second time. What is not called meanwhile is not
seen. If a server ends its connection meanwhile, the answer is an error.
"""

import asyncio
import re
from collections.abc import Sequence
from hashlib import sha1

from proxy import errors
from proxy.backends.monitored import MonitorFeed
from proxy.backends.settings import Place
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import UnknownSubcommand
from proxy.features.host import Services
from proxy.features.request import PendingReply, Request
from proxy.features.state import Modes
from proxy.planning.inspector import Inspector
from proxy.planning.proof import RUNS_CODE
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.sharding.topology import Topology
from proxy.transport.flow_control import Stop

_LONGEST = 60
"""The most seconds for which the servers are watched."""
_BODIES = frozenset(("eval", "eval_ro"))
_MOST_SCRIPTS = 1000
_MOST_KEYS = 10
_KEY_MOST = 128
"""The bytes that are shown of a key."""
_ABOUT_NO_KEYS = frozenset(("ping", "echo", "time", "publish", "select"))
"""Commands whose use in a script depends on no shard."""
_LINE_MOST = 128 * 1024
"""The bytes of the longest line that is taken apart; calls with longer arguments are not counted."""
_STEP = 0.1
_LINE = re.compile(rb"\+[0-9.]+ \[\d+ ([^\]]*)\] (.*)", re.DOTALL)
_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)


class ScriptUse:
    """What was seen of one script or function."""

    __slots__ = ("calls", "commands", "elsewhere", "keyless", "keys", "undeclared")

    def __init__(self) -> None:
        self.calls = 0
        self.keyless = 0
        """The number of calls that declare no key."""
        self.undeclared = 0
        """The number of uses of keys that the call does not declare."""
        self.elsewhere = 0
        """The number of those whose key belongs to another shard."""
        self.keys: dict[bytes, None] = {}
        """Some of these keys."""
        self.commands: dict[str, None] = {}
        """Commands without keys that are about the data or the state of one shard."""

    def reply(self, name: bytes, protocol: int) -> bytes:
        """Return what was seen as a map."""
        fields = {
            "script": encode.bulk(name),
            "calls": encode.integer(self.calls),
            "calls-without-keys": encode.integer(self.keyless),
            "undeclared": encode.integer(self.undeclared),
            "elsewhere": encode.integer(self.elsewhere),
            "keys": encode.array(map(encode.bulk, self.keys)),
            "commands": encode.array(map(encode.bulk, self.commands)),
        }
        return encode.mapping({encode.bulk(field): value for field, value in fields.items()}, protocol)


class ScriptWatch:
    """Collects what scripts use from the lines of MONITOR. ``topology`` has the shards of the watched servers."""

    def __init__(self, inspector: Inspector, topology: Topology) -> None:
        self.seen: dict[bytes, ScriptUse] = {}
        """The scripts by their digest, the functions by their name."""
        self._inspector = inspector
        self._topology = topology
        self._running: dict[int, tuple[ScriptUse, frozenset[bytes]] | None] = {}
        """The script that each shard's server carries out, with its declared keys."""

    def take(self, shard: int, line: bytes) -> None:
        """Take a line of the server of ``shard``."""
        found = _LINE.fullmatch(line) if len(line) <= _LINE_MOST else None
        if found is None:
            self._running[shard] = None
            return
        if found[1] == b"lua":
            running = self._running.get(shard)
            if running is not None:
                self._used(shard, running[0], running[1], _arguments(found[2]))
        elif found[2][1:5].lower() in (b"eval", b"fcal"):
            self._running[shard] = self._called(_arguments(found[2]))
        else:
            self._running[shard] = None

    def _called(self, args: Sequence[bytes]) -> tuple[ScriptUse, frozenset[bytes]] | None:
        fact = self._inspector.table.get(args[0]) if args else None
        if fact is None or fact.name not in RUNS_CODE or not fact.accepts(len(args)):
            return None
        try:
            declared = frozenset(args[at] for at in key_indexes(fact, args))
        except KeysError:
            return None
        name = args[1]
        if fact.name in _BODIES:
            name = sha1(name).hexdigest().encode()
        elif not fact.name.startswith("fcall"):
            name = name.lower()
        use = self.seen.get(name)
        if use is None:
            if len(self.seen) >= _MOST_SCRIPTS:
                return None
            use = self.seen[name] = ScriptUse()
        use.calls += 1
        use.keyless += not declared
        return use, declared

    def _used(self, shard: int, use: ScriptUse, declared: frozenset[bytes], args: Sequence[bytes]) -> None:
        try:
            fact = self._inspector.table.resolve(args) if args else None
            keys = [] if fact is None else [args[at] for at in key_indexes(fact, args)]
        except (UnknownSubcommand, KeysError):
            return
        if fact is not None and not keys and fact.name not in _ABOUT_NO_KEYS and len(use.commands) < _MOST_KEYS:
            use.commands[fact.name] = None
        for key in keys:
            if key not in declared:
                use.undeclared += 1
                use.elsewhere += self._topology.slot_shard[self._inspector.slot_of(key)] != shard
                if len(use.keys) < _MOST_KEYS:
                    use.keys[key[:_KEY_MOST]] = None


def _arguments(text: bytes) -> list[bytes]:
    """The arguments of a command as MONITOR writes them: quoted, with escapes."""
    return [
        found.decode("unicode_escape").encode("latin-1") if b"\\" in found else found
        for found in _ARGUMENT.findall(text)
    ]


def scripts(modes: Modes, request: Request) -> bool:
    """Carry out SLOTGATE SCRIPTS [seconds], after all earlier requests are answered; the next ones wait."""
    client, args = modes.client, request.args
    seconds = 1 if len(args) == 2 else parse_integer(args[2]) if len(args) == 3 else None
    if seconds is None or not 1 <= seconds <= _LONGEST:
        client.refuse(request.fact, errors.watch_seconds(_LONGEST))
        return True
    if not client.alone():
        return False
    pending = client.hold(request.fact)
    client.flow.stop(Stop.BLOCKED)  # unlike other reasons, it lets a reset of the connection be seen
    client.service.loop.create_task(_answering(modes, pending, seconds))
    return True


async def _answering(modes: Modes, pending: PendingReply, seconds: int) -> None:
    """Watch the primaries while the client waits, and answer it."""
    client = modes.client
    service: Services = client.service
    watch = ScriptWatch(service.inspector, service.topology)
    feeds = [
        MonitorFeed(
            Place(shard.name, shard.primary, True, 2, 0, 0),
            service.upstream.settings,
            lambda line, index=index: watch.take(index, line),  # type: ignore[misc]
        )
        for index, shard in enumerate(service.topology.shards)
    ]
    try:
        for feed in feeds:
            await feed.begin()
        left = seconds / _STEP
        while left > 0 and not client.gone and not any(feed.problem for feed in feeds):
            await asyncio.sleep(_STEP)
            left -= 1
        problem = next((feed.problem for feed in feeds if feed.problem), None)
        if problem is not None:
            # What was seen is not all, and an empty answer would say that nothing was called.
            raise errors.BackendError(problem)
        protocol = client.session.protocol
        reply = encode.array(use.reply(name, protocol) for name, use in sorted(watch.seen.items()))
    except errors.BackendError as error:
        reply = encode.error(errors.not_watched(str(error)))
    finally:
        for feed in feeds:
            feed.abort()
    pending.answer(reply)
