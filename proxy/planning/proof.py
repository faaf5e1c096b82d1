"""Errors that look like a refusal, of requests that run code which words its errors itself: proven, or data. Pure.

A script, a function or a module may answer ``MOVED``, ``LOADING`` or ``NOSCRIPT`` in whatever words, after it has run.
So such an error is believed only when the same server, over the same connection, refuses a harmless *twin* of the
request as well: one with the same keys that the server checks in the same way before it executes anything. Where the
request belongs then is what the twin was told. An error that is not proven is passed on as it came.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.commands.facts import Fact
from proxy.engine.sink import WholeReplySink
from proxy.planning.refusals import Refusal
from proxy.resp import encode
from proxy.sharding.topology import Node

RUNS_CODE = frozenset(("eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"))
"""Commands that run what clients have written. https://redis.io/docs/latest/develop/programmability/"""
SHEBANG = b"#!"
"""What a script begins with whose first line says what it may do: the server checks that before it runs the script."""
ROLE = encode.request(("ROLE",))
_ONE = b"return 1"
_WRITING_ONE = b"#!lua\nreturn 1"
_REPLICA = (b"*5\r\n$5\r\nslave\r\n", b"*5\r\n$7\r\nreplica\r\n")
_ABSENT = b"*1\r\n:0\r\n"
_BY_KEYS = frozenset(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"))
_NAMES_SLOT = frozenset(("MOVED", "ASK"))


@dataclass(frozen=True, slots=True)
class Doubt:
    """An ``error`` that may be a refusal of the kind ``kind``, and the ``twin``: the request that shows whether it is.

    ``judge`` makes of the twin's reply, and of the server that gave it, what was refused; None if nothing was.
    ``slots`` are those of the request's keys; ``writing``: the server checks beforehand whether it may write.
    """

    kind: str
    error: bytes
    twin: bytes
    judge: Callable[[bytes, Node], Refusal | None]
    slots: tuple[int, ...] = ()
    writing: bool = False

    def plausible(self, found: Refusal) -> bool:
        """Whether a server could have refused the request with these words before executing it."""
        if found.kind in _NAMES_SLOT:
            slot = int(found.error.split(b" ", 2)[1])
            return bool(self.slots) and all(each == slot for each in self.slots)
        if found.kind == "TRYAGAIN":
            return len(self.slots) > 1
        if found.kind == "READONLY":
            return self.writing
        return bool(self.slots) or found.kind not in _BY_KEYS


class Proof(WholeReplySink):
    """Takes the reply to a twin; ``then`` gets it, or b"" if none will come."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[bytes], None]) -> None:
        self._then = then

    @property
    def counted(self) -> bool:
        """No client asked for it."""
        return False

    def take(self, token: int, reply: bytes) -> None:
        """Hand on the reply."""
        self._then(reply)

    def lost(self) -> None:
        """The connection is lost, or the server takes too long."""
        self._then(b"")


def runs_code(fact: Fact | None) -> bool:
    """Whether a request's errors are worded by others than the server; of what is not known it is supposed."""
    return fact is None or fact.name in RUNS_CODE or "module" in fact.flags or fact.name.startswith("debug")


def checked_for_writes(fact: Fact | None, args: Sequence[bytes], body: Callable[[bytes], bytes | None]) -> bool:
    """Whether a server checks before it runs the request whether it may write. ``body``: the script of a digest.

    A script without a shebang is not checked: what it is refused it has met while it ran.
    """
    name = "" if fact is None else fact.name
    if name == "eval":
        return args[1].startswith(SHEBANG)
    if name == "evalsha":
        script = body(args[1].lower())
        return script is None or script.startswith(SHEBANG)
    return name == "fcall" or (fact is not None and fact.write and name not in RUNS_CODE)


def twin(kind: str, fact: Fact | None, keys: Sequence[bytes], writing: bool) -> bytes:
    """The request that a server refuses before execution if, and only if, it refuses one of ``fact`` with ``kind``.

    ``writing``: the server checks beforehand whether the request may write.
    """
    scripted = fact is not None and fact.name in RUNS_CODE
    if kind == "READONLY" and not scripted:
        return ROLE
    name = b"EVAL_RO" if scripted and fact is not None and fact.name.endswith("_ro") else b"EVAL"
    return encode.request((name, _WRITING_ONE if writing and scripted else _ONE, len(keys), *keys))


def replicates(reply: bytes) -> bool:
    """Whether the reply to ROLE is a replica's."""
    return reply.startswith(_REPLICA)


def missing(reply: bytes) -> bool:
    """Whether the reply to SCRIPT EXISTS says that the script is not there."""
    return reply == _ABSENT


def exists(digest: bytes) -> bytes:
    """The twin of a call by ``digest`` that is answered NOSCRIPT."""
    return encode.request((b"SCRIPT", b"EXISTS", digest))
