"""Decides whether an error that looks like a refusal comes from the server or from code that a request runs. No I/O.

A script, a function or a module may answer ``MOVED``, ``LOADING`` or ``NOSCRIPT`` with any words, after it has run. So
such an error is followed only if the same server, over the same connection, also refuses a harmless *twin* of the
request: one with the same keys, which the server checks in the same way before it executes anything. The reply to the
twin then names the server for the request. An error that is not proven is passed on unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from proxy.commands.facts import Fact
from proxy.engine.sink import WholeReplySink
from proxy.planning.refusals import Refusal
from proxy.resp import encode
from proxy.sharding.topology import Node

RUNS_CODE = frozenset(("eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"))
"""Commands that run code of clients. Source: https://redis.io/docs/latest/develop/programmability/"""
SHEBANG = b"#!"
"""The beginning of a script whose first line declares what it may do; the server checks that before the script runs."""
ROLE = encode.request(("ROLE",))
_ONE = b"return 1"
_WRITING_ONE = b"#!lua\nreturn 1"
_REPLICA = (b"*5\r\n$5\r\nslave\r\n", b"*5\r\n$7\r\nreplica\r\n")
_ABSENT = b"*1\r\n:0\r\n"
_NOTHING = b"-"
"""A digest or a function's name that no server can have."""
_DENIED = b"-NOPERM"
_BY_KEYS = frozenset(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"))
_NAMES_SLOT = frozenset(("MOVED", "ASK"))


@dataclass(frozen=True, slots=True)
class Doubt:
    """An ``error`` that may be a refusal of the kind ``kind``, and its ``twin``, the request that decides it.

    ``judge`` takes the twin's reply and the server that gave it, and returns the refusal; None if it is not one.
    ``slots`` are those of the request's keys. ``writing`` says that the server checks in advance whether the request
    may write. ``allowed`` is another twin, which the connection's user may send if it may send the request; empty if
    there is none.
    """

    kind: str
    error: bytes
    twin: bytes
    judge: Callable[[bytes, Node], Refusal | None]
    slots: tuple[int, ...] = ()
    writing: bool = False
    allowed: bytes = b""

    def denied(self, reply: bytes) -> "Doubt | None":
        """The doubt with the other twin, if ``reply`` says that the connection's user may not send this one."""
        return replace(self, twin=self.allowed, allowed=b"") if self.allowed and reply.startswith(_DENIED) else None

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
    """The sink of a twin's reply; ``then`` is called with the reply, or with b"" if none will come."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[bytes], None]) -> None:
        self._then = then

    @property
    def counted(self) -> bool:
        """Whether an error counts as a failed command: it does not, since no client sent the twin."""
        return False

    def take(self, token: int, reply: bytes) -> None:
        """Pass the reply on."""
        self._then(reply)

    def lost(self) -> None:
        """Give up the reply, because the connection is lost or the server takes too long."""
        self._then(b"")


def runs_code(fact: Fact | None) -> bool:
    """Whether a request runs code that may make its own errors; an unknown command is assumed to."""
    return fact is None or fact.name in RUNS_CODE or "module" in fact.flags or fact.name.startswith("debug")


def checked_for_writes(fact: Fact | None, args: Sequence[bytes], body: Callable[[bytes], bytes | None]) -> bool:
    """Whether a server checks in advance if the request may write. ``body`` returns the script of a digest.

    A script without a shebang is not checked: its writes are refused while it runs.
    """
    name = "" if fact is None else fact.name
    if name == "eval":
        return args[1].startswith(SHEBANG)
    if name == "evalsha":
        script = body(args[1].lower())
        return script is None or script.startswith(SHEBANG)
    return name == "fcall" or (fact is not None and fact.write and name not in RUNS_CODE)


def twin(kind: str, fact: Fact | None, keys: Sequence[bytes], writing: bool) -> bytes:
    """The request that a server refuses with ``kind`` before execution if and only if it refuses one of ``fact`` so.

    ``writing`` says that the server checks in advance whether the request may write.
    """
    scripted = fact is not None and fact.name in RUNS_CODE
    if kind == "READONLY" and not scripted:
        return ROLE
    name = b"EVAL_RO" if scripted and fact is not None and fact.name.endswith("_ro") else b"EVAL"
    return encode.request((name, _WRITING_ONE if writing and scripted else _ONE, len(keys), *keys))


def allowed_twin(fact: Fact | None, keys: Sequence[bytes]) -> bytes:
    """The twin for a user of the server that may send requests of ``fact``, and perhaps not EVAL: the same command
    without code to run. A module's command is like EXISTS. Empty without keys, or if EVAL itself is allowed.

    Such a twin is refused by its keys, and by a server that loads its data. It does not show whether a server takes
    writes, because no code is found that could write.
    """
    if fact is None or not keys or fact.name in ("eval", "eval_ro"):
        return b""
    if fact.name in RUNS_CODE:
        return encode.request((fact.name.upper(), _NOTHING, len(keys), *keys))
    return encode.request((b"EXISTS", *keys))


def replicates(reply: bytes) -> bool:
    """Whether ``reply`` is the reply of a replica to ROLE."""
    return reply.startswith(_REPLICA)


def missing(reply: bytes) -> bool:
    """Whether ``reply``, the reply to SCRIPT EXISTS, says that the script does not exist."""
    return reply == _ABSENT


def exists(digest: bytes) -> bytes:
    """The twin of a call by ``digest`` that was answered with NOSCRIPT."""
    return encode.request((b"SCRIPT", b"EXISTS", digest))
