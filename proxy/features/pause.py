"""The commands of a worker's clients that a CLIENT PAUSE holds: all of them, or those that may write.

No pause holds the commands about the connection alone, nor CLIENT, by which the pause can be ended: a client can log in
and find out that the proxy is alive. (A server holds them in a PAUSE ALL.) Requests behind one that is held wait in
their order.

A PAUSE WRITE does not hold a script whose first line says that it does not write, nor a function registered so. When a
function is called in such a pause, the servers are asked for the list (FUNCTION LIST), and the call is held until they
answer. Meanwhile every FUNCTION LOAD is held.

Sources: https://redis.io/docs/latest/commands/client-pause/ and
https://redis.io/docs/latest/develop/programmability/lua-api/ (script flags).
"""

import sys
from collections.abc import Iterator, Sequence

from proxy.commands.facts import Fact
from proxy.engine.sink import WholeReplySink
from proxy.features.host import Services
from proxy.planning.exec_block import Queue
from proxy.planning.proof import RUNS_CODE, SHEBANG
from proxy.resp import encode
from proxy.resp.replies import BadReply, elements, string_of

_LIST = encode.request(("FUNCTION", "LIST"))
_ENGINE = SHEBANG + b"lua"
_LONGEST_LIST = 256 * 1024
"""The most bytes of the list of functions that are read; all functions of a longer list count as writing."""
_NO_WRITES = b"no-writes"
_FLAGS = frozenset((_NO_WRITES, b"allow-oom", b"allow-stale", b"no-cluster", b"allow-cross-slot-keys"))
"""The flags of a script; a server takes a script with any other one for one that writes."""
_MAY_REPLICATE = frozenset(("publish", "spublish", "pfcount"))
"""Commands that are replicated although they are no writes, which servers do not say in COMMAND."""
_READS = "_ro"
_NEVER_HELD = frozenset(("auth", "hello", "ping", "quit", "reset"))
"""The commands about the connection alone."""


class Pausing(WholeReplySink):
    """Decides which commands of the clients of ``service`` are held. It is also the sink of the replies to FUNCTION
    LIST."""

    def __init__(self, service: Services) -> None:
        self._service = service
        self._reading: frozenset[bytes] | None = None
        """The functions that do not write; None if they are not known in this pause."""
        self._asked = False

    @property
    def counted(self) -> bool:
        """No client sent the request."""
        return False

    def begin(self) -> None:
        """Forget the functions that were known in an earlier pause."""
        self._reading = None

    def holds(self, fact: Fact, args: Sequence[bytes]) -> bool:
        """Whether a command has to wait."""
        clients = self._service.clients
        if not clients.paused or _never_held(fact):
            return False
        return not clients.pauses_writes_only or self._may_write(fact, args)

    def holds_any(self, queue: Queue) -> bool:
        """Whether one of the queued commands has to wait."""
        if not self._service.clients.pauses_writes_only:
            return any(not _never_held(fact) for fact in queue.facts)
        if any(fact.name not in RUNS_CODE and _writes(fact) for fact in queue.facts):
            return True
        return any(self._may_write_code(name, args) for name, args in queue.calls)

    def _may_write(self, fact: Fact, args: Sequence[bytes]) -> bool:
        return _writes(fact) and (fact.name not in RUNS_CODE or self._may_write_code(fact.name, args))

    def _may_write_code(self, name: str, args: Sequence[bytes]) -> bool:
        """Whether a command that runs a script or a function may write."""
        if name not in RUNS_CODE or name.endswith(_READS):
            return False
        if name == "eval":
            return not _says_no_writes(args[1])
        if name == "evalsha":
            body = self._service.scripts.body(args[1].lower())
            return body is None or not _says_no_writes(body)
        if self._reading is None:
            self._ask()
        return self._reading is None or args[1] not in self._reading

    def _ask(self) -> None:
        place = self._service.upstream.primary(0, 2, 0)
        if place is not None and not self._asked:
            backend = self._service.upstream.shared(place)
            if backend.usable:
                self._asked = True
                backend.send(self, 0, _LIST, self._service.turn.now(), None)

    def kept(self, token: int, size: int) -> int:
        """Have a list that is too long dropped."""
        return size if size <= _LONGEST_LIST else sys.maxsize

    def take(self, token: int, reply: bytes) -> None:
        """Take the list of functions, and check the held commands again."""
        self._asked = False
        if not self._service.clients.paused:
            return
        self._reading = _reading(reply)
        self._service.clients.look_again()


def _never_held(fact: Fact) -> bool:
    """Whether a command goes through any pause."""
    return fact.name in _NEVER_HELD or fact.name.startswith("client|")


def _writes(fact: Fact) -> bool:
    """Whether the command may write or be replicated, as far as its name tells."""
    if fact.name in RUNS_CODE:
        return not fact.readonly
    unsaid = "module" in fact.flags and fact.keyed and not fact.readonly
    return fact.write or unsaid or fact.name in _MAY_REPLICATE


def _says_no_writes(script: bytes) -> bool:
    """Whether a script's first line is right, and says that it does not write."""
    if not script.startswith(SHEBANG):
        return False
    engine, *options = script.partition(b"\n")[0].split()
    flags = [option.removeprefix(b"flags=").split(b",") for option in options if option.startswith(b"flags=")]
    right = engine == _ENGINE and len(flags) == len(options) == 1 and _FLAGS.issuperset(flags[0])
    return right and _NO_WRITES in flags[0]


def _reading(reply: bytes) -> frozenset[bytes]:
    """The names of the functions that do not write, from a reply to FUNCTION LIST in RESP2. Parts of the reply that can
    not be read are passed over, so that their functions count as writing."""
    try:
        return frozenset(_names_of_reading(reply))
    except BadReply:
        return frozenset()


def _names_of_reading(reply: bytes) -> Iterator[bytes]:
    for library in _rows(reply):
        for function in _rows(_field(library, b"functions")):
            flags, name = _field(function, b"flags"), _field(function, b"name")
            if _NO_WRITES in map(_text, _rows(flags)) and name:
                yield string_of(name)


def _rows(frame: bytes) -> list[bytes]:
    """The elements of an array or a set; none for any other reply."""
    return elements(frame) if frame[:1] in (b"*", b"~") else []


def _text(frame: bytes) -> bytes:
    """The content of a string; empty for any other reply."""
    return string_of(frame) if frame[:1] in (b"$", b"+") else b""


def _field(row: bytes, name: bytes) -> bytes:
    """The frame of a field of a row of FUNCTION LIST, in which names and values alternate; empty if it is missing."""
    words = _rows(row)
    return next((value for key, value in zip(words[::2], words[1::2], strict=False) if _text(key) == name), b"")
