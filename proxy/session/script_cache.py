"""Scripts, kept by their body as clients send them, so that they can be loaded where they are called by their digest.

::

    EVAL body, SCRIPT LOAD body   the body is kept (bounded)
    EVALSHA digest                over a connection that has not had it: SCRIPT LOAD body goes ahead, answering nobody
    -NOSCRIPT all the same        the server lost it (SCRIPT FLUSH on the server itself): loaded, and sent again

So ``NOSCRIPT`` means that nobody has loaded the script through this proxy. A connection forgets what it has had when it
is lost: the server behind it may be another then, or a new process. Pure: what is sent is handed to the connection.

Source: https://redis.io/docs/latest/develop/programmability/eval-intro/ (script cache), and what Redis 7 answers.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import sha1
from typing import Protocol

from proxy.engine.jobs import MORE, Job, at_once
from proxy.engine.sink import DISCARD, Sink
from proxy.planning import exec_block
from proxy.planning.refusals import NOSCRIPT, Refusal
from proxy.planning.reply_counts import odd_code
from proxy.resp import encode
from proxy.resp.requests import ProtocolError, split_request

NOT_FOUND = frozenset((b"-NOSCRIPT No matching script. Please use EVAL.\r\n", b"-NOSCRIPT No matching script.\r\n"))
"""What servers answer to the digest of a script that they have not: Redis, Valkey 9. A script may word an error of its
own just so: the server is asked whether it is there (``proxy.planning.proof``)."""
_BODY = {"eval": 1, "eval_ro": 1, "script|load": 2}
"""Which argument is a script."""
_DIGESTS = {"evalsha": slice(1, 2), "evalsha_ro": slice(1, 2), "script|exists": slice(2, None)}
"""Which arguments are digests of scripts that the server should have: what it says of one then, it says to all."""
_CALLS = frozenset((b"evalsha", b"evalsha_ro"))
_RUNS = frozenset(("eval", "eval_ro", "evalsha", "evalsha_ro"))
"""What calls a script that its first argument names."""
_FLUSHES = (b"sync", b"async")
_STEP = 64
"""Calls, and digests, until that may be interrupted."""
_NAMED = 32
"""Bytes of a request in which its name stands."""


Call = tuple[str, Sequence[bytes]]
"""A command that is called: the fact's name, and the arguments, which are right in number."""


class Connection(Hashable, Protocol):
    """What is needed of a backend connection."""

    def send(self, sink: Sink, token: int, frame: bytes, since: float, holder: None) -> None:
        """Send a request."""


class Scripts:
    """The scripts of a worker: at most ``most``, and of at most ``memory`` bytes together. The one that was not used
    for the longest time goes first."""

    def __init__(self, most: int, memory: int) -> None:
        self._most = most
        self._memory = memory
        self._bodies: dict[bytes, bytes] = {}
        """By digest, the one used last at the end."""
        self._digests: dict[bytes, bytes] = {}
        """By body: a script that comes again need not be digested."""
        self._size = 0
        self._had: dict[Hashable, set[bytes]] = {}
        """The digests that were loaded over a connection."""
        self.on_call: Callable[[], object] | None = None
        """Called when a client calls a script, or what is about scripts."""
        self.on_flush: Callable[[], object] | None = None
        """Called when a client empties the store."""
        self.loads = 0
        """How many scripts were loaded ahead."""

    def __len__(self) -> int:
        return len(self._bodies)

    def __repr__(self) -> str:
        return f"Scripts({len(self._bodies)} of {self._size} bytes, {self.loads} loaded)"

    def keep(self, body: bytes) -> None:
        """A client has sent it. Not kept is what must not be sent ahead over a connection that others share."""
        digest = self._digests.get(body)
        if digest is not None:
            self._use(digest)
            return
        if len(body) > self._memory or odd_code(body):
            return
        digest = sha1(body).hexdigest().encode()
        self._digests[body] = digest
        self._bodies[digest] = body
        self._size += len(body)
        while len(self._bodies) > self._most or self._size > self._memory:
            self._drop(next(iter(self._bodies)))

    def ahead(self, connection: Hashable | None, calls: Iterable[Call]) -> list[bytes]:
        """The requests to send over ``connection`` before ``calls``; from then on it has had them. None: a connection
        of which nothing is remembered."""
        return at_once(self._finding(connection, calls))

    def _finding(self, connection: Hashable | None, calls: Iterable[Call]) -> Job[list[bytes]]:
        frames: list[bytes] = []
        had = set[bytes]() if connection is None else self._had.setdefault(connection, set())
        if len(had) > 2 * self._most:
            had.clear()
        seen = set[tuple[str, bytes]]()
        for at, (name, args) in enumerate(calls):
            if not at % _STEP:
                yield MORE
            if name in _RUNS:
                call = name, args[1]
                if call in seen:
                    continue  # a transaction may call one script very many times
                seen.add(call)
            self.note(name, args)
            frames += self._loads(had, args[_DIGESTS[name]] if name in _DIGESTS else ())
        return frames

    def prepare(self, name: str, args: Sequence[bytes], connections: Iterable[Connection | None], now: float) -> None:
        """A call is about to be sent over these connections: keep its script, or send ahead what it needs."""
        self.note(name, args)
        if name in _DIGESTS:
            for connection in connections:
                if connection is not None:
                    self.prepare_all(((name, args),), connection, now)

    def kept_among(self, args: Sequence[bytes]) -> Job[list[bytes]]:
        """SCRIPT EXISTS of very many digests as far as ``prepare`` has to know it: with those of kept scripts only."""
        kept = list(args[:2])
        for at in range(2, len(args), _STEP):
            kept += [digest for digest in args[at : at + _STEP] if digest.lower() in self._bodies]
            yield MORE
        return kept

    def prepare_all(self, calls: Iterable[Call], connection: Connection, now: float) -> None:
        """These calls are about to be sent together over ``connection``."""
        at_once(self.preparing(calls, connection, now))

    def preparing(self, calls: Iterable[Call], connection: Connection, now: float) -> Job[None]:
        """As ``prepare_all``, some at a time; sent is what they need at the end."""
        for frame in (yield from self._finding(connection, calls)):
            connection.send(DISCARD, 0, frame, now, None)

    def refusal(self, error: bytes, frame: bytes, connections: Iterable[Connection]) -> Refusal | None:
        """What a server refused by ``error``, as it has not got the script that ``frame`` calls; None if it is not kept
        here either. ``connections``: those to that server."""
        if not any(args[1].lower() in self._bodies for _, args in calls_by_digest(frame)):
            return None
        for connection in connections:
            self.forget(connection)
        return Refusal(NOSCRIPT, error)

    def body(self, digest: bytes) -> bytes | None:
        """The script of this digest, if it is kept."""
        return self._bodies.get(digest)

    def forget(self, connection: Hashable) -> None:
        """The connection is lost."""
        self._had.pop(connection, None)

    def flush(self) -> None:
        """Keep none (SCRIPT FLUSH)."""
        self._bodies.clear()
        self._digests.clear()
        self._had.clear()
        self._size = 0

    def limit(self, most: int) -> None:
        """No server takes a request of more than ``most`` bytes: keep no script that makes one."""
        for digest in [digest for digest, body in self._bodies.items() if len(_load(body)) > most]:
            self._drop(digest)

    def note(self, name: str, args: Sequence[bytes]) -> None:
        """A call is about to be sent: keep its script, if it brings one."""
        if self.on_call is not None:
            self.on_call()
        if name in _BODY:
            self.keep(args[_BODY[name]])
        elif name == "script|flush" and (len(args) == 2 or (len(args) == 3 and args[2].lower() in _FLUSHES)):
            self.flush()
            if self.on_flush is not None:
                self.on_flush()

    def _loads(self, had: set[bytes], digests: Iterable[bytes]) -> list[bytes]:
        frames = []
        for digest in map(bytes.lower, digests):
            body = self._bodies.get(digest)
            if body is not None:
                self._use(digest)
                if digest not in had:
                    had.add(digest)
                    frames.append(_load(body))
                    self.loads += 1
        return frames

    def _use(self, digest: bytes) -> None:
        self._bodies[digest] = self._bodies.pop(digest)

    def _drop(self, digest: bytes) -> None:
        body = self._bodies.pop(digest)
        del self._digests[body]
        self._size -= len(body)


def _load(body: bytes) -> bytes:
    return encode.request((b"SCRIPT", b"LOAD", body))


def calls_by_digest(frame: bytes) -> list[Call]:
    """The calls of scripts by their digests in a request, or in a transaction's block."""
    if exec_block.is_block(frame):
        frames = exec_block.queued(frame) if b"evalsha" in frame.lower() else []
    else:
        frames = [frame]
    return [call for each in frames if (call := _call_by_digest(each)) is not None]


def _call_by_digest(frame: bytes) -> Call | None:
    if b"evalsha" not in frame[:_NAMED].lower():
        return None
    try:
        args = split_request(frame)
    except ProtocolError:
        return None
    return ("evalsha", args) if len(args) > 1 and args[0].lower() in _CALLS else None
