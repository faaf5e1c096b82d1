"""Keeps the scripts that clients send, so that they can be loaded at a server when they are called by their digest.

::

    EVAL body, SCRIPT LOAD body   the body is kept (bounded)
    EVALSHA digest                over a connection without the script: SCRIPT LOAD body goes ahead (no reply)
    -NOSCRIPT all the same        the server lost the script (SCRIPT FLUSH there): it is loaded, and the call sent again

So ``NOSCRIPT`` means that no client has loaded the script through this proxy. What was loaded over a connection is
forgotten when the connection is lost: the next one may lead to another server or a new process. No I/O: requests are
handed to the connection.

Source: https://redis.io/docs/latest/develop/programmability/eval-intro/ (script cache), and the replies of Redis 7.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import sha1
from typing import Protocol

from proxy import errors
from proxy.engine.jobs import MORE, Job, at_once
from proxy.engine.sink import DISCARD, Sink
from proxy.planning import exec_block
from proxy.planning.refusals import NOSCRIPT, Refusal
from proxy.planning.reply_counts import odd_code
from proxy.planning.script_calls import touches_data
from proxy.resp import encode
from proxy.resp.requests import ProtocolError, split_request

NOT_FOUND = frozenset(map(encode.error, (errors.NOSCRIPT, errors.NOSCRIPT_OF_VALKEY)))
"""The replies of servers that do not have the script of a digest. A script may make the same error
itself, so the server is asked whether the script exists (``proxy.planning.proof``)."""
_BODY = {"eval": 1, "eval_ro": 1, "script|load": 2}
"""The index of the argument that is a script, by command."""
_DIGESTS = {"evalsha": slice(1, 2), "evalsha_ro": slice(1, 2), "script|exists": slice(2, None)}
"""The arguments that are digests of scripts, by command. Kept scripts are loaded ahead of such a command, so that the
server's reply counts them as loaded."""
_CALLS = frozenset((b"evalsha", b"evalsha_ro"))
_RUNS = frozenset(("eval", "eval_ro", "evalsha", "evalsha_ro"))
"""The commands that call the script in their first argument."""
_FLUSHES = (b"sync", b"async")
_MOST_KNOWN = 10_000
"""The number of digests for which it is remembered whether the script touches data."""
_STEP = 64
"""The number of calls or digests after which a job may be interrupted."""
_NAMED = 32
"""The number of bytes of a request in which its name is looked for."""


Call = tuple[str, Sequence[bytes]]
"""A call of a command: the fact's name, and the arguments, whose number is right."""


class Connection(Hashable, Protocol):
    """The part of a backend connection that is needed here."""

    def send(self, sink: Sink, token: int, frame: bytes, since: float, holder: None) -> None:
        """Send a request."""


class Scripts:
    """The scripts of a worker: at most ``most``, with at most ``memory`` bytes together. The least recently used one is
    dropped first."""

    def __init__(self, most: int, memory: int) -> None:
        self._most = most
        self._memory = memory
        self._bodies: dict[bytes, bytes] = {}
        """The scripts by digest; the one used last is last."""
        self._digests: dict[bytes, bytes] = {}
        """The digests by script, so that a known script is not hashed again."""
        self._size = 0
        self._had: dict[Hashable, set[bytes]] = {}
        """The digests of the scripts that were loaded over each connection."""
        self.missing = errors.NOSCRIPT
        """The error for a call of a script that is not known, in the words of the servers. Learned."""
        self.on_call: Callable[[], object] | None = None
        """Called when a client sends a command that calls or manages scripts."""
        self.on_flush: Callable[[], object] | None = None
        """Called when a client empties the cache."""
        self.look_elsewhere: Callable[[bytes, Callable[[], None]], bool] | None = None
        """Asks the other workers for the script of a digest, and calls a function when they have answered. Returns
        False, and does not call the function, if nobody has the script."""
        self.loads = 0
        """The number of scripts that were loaded ahead of calls."""
        self._touching: dict[bytes, bool] = {}
        """For each digest, whether its script may read or write data."""

    def __len__(self) -> int:
        return len(self._bodies)

    def __repr__(self) -> str:
        return f"Scripts({len(self._bodies)} of {self._size} bytes, {self.loads} loaded)"

    def worded(self, error: str) -> str:
        """Return an error of the proxy's own in the words of the servers, if it is about a script."""
        return self.missing if error is errors.NOSCRIPT else error

    def keep(self, body: bytes) -> None:
        """Keep a script that a client has sent, unless it must not be sent over a connection that others share."""
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

    def touches(self, name: str, args: Sequence[bytes]) -> bool | None:
        """Whether the code that a call of the command ``name`` runs may read or write data. None if the call names a
        script that is not known here."""
        body: bytes | None
        if name in _BODY:
            body = args[_BODY[name]]
            digest = self._digests.get(body) or sha1(body).hexdigest().encode()
        elif name in _DIGESTS:
            digest = args[1].lower()
            body = self._bodies.get(digest)
        else:
            return True  # a function, of which the proxy does not know the code
        known = self._touching.get(digest)
        if known is None and body is not None:
            known = self._touching[digest] = touches_data(body)
            if len(self._touching) > _MOST_KNOWN:
                del self._touching[next(iter(self._touching))]
        return known

    def ahead(self, connection: Hashable | None, calls: Iterable[Call]) -> list[bytes]:
        """The requests to send over ``connection`` ahead of ``calls``; they count as sent from then on. None stands for
        a connection for which nothing is remembered."""
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
                    continue  # a transaction may call one script very often
                seen.add(call)
            self.note(name, args)
            frames += self._loads(had, args[_DIGESTS[name]] if name in _DIGESTS else ())
        return frames

    def prepare(self, name: str, args: Sequence[bytes], connections: Iterable[Connection | None], now: float) -> None:
        """Prepare a call that is about to be sent over ``connections``: keep its script, or load the one that it
        needs."""
        self.note(name, args)
        if name in _DIGESTS:
            for connection in connections:
                if connection is not None:
                    self.prepare_all(((name, args),), connection, now)

    def kept_among(self, args: Sequence[bytes]) -> Job[list[bytes]]:
        """SCRIPT EXISTS with very many digests, reduced for ``prepare`` to the digests of kept scripts."""
        kept = list(args[:2])
        for at in range(2, len(args), _STEP):
            kept += [digest for digest in args[at : at + _STEP] if digest.lower() in self._bodies]
            yield MORE
        return kept

    def prepare_all(self, calls: Iterable[Call], connection: Connection, now: float) -> None:
        """Load the scripts that ``calls`` need, which are about to be sent together over ``connection``."""
        at_once(self.preparing(calls, connection, now))

    def preparing(self, calls: Iterable[Call], connection: Connection, now: float) -> Job[None]:
        """The job of ``prepare_all``; the requests are sent at its end."""
        for frame in (yield from self._finding(connection, calls)):
            connection.send(DISCARD, 0, frame, now, None)

    def refusal(self, error: bytes, frame: bytes, connections: Iterable[Connection]) -> Refusal | None:
        """The refusal of the request ``frame`` with ``error``, as the server does not have its script; None if the
        script is not kept here either. ``connections``: those to that server."""
        if not any(args[1].lower() in self._bodies for _, args in calls_by_digest(frame)):
            return None
        for connection in connections:
            self.forget(connection)
        return Refusal(NOSCRIPT, error)

    def body(self, digest: bytes) -> bytes | None:
        """The script with this digest, or None."""
        return self._bodies.get(digest)

    def forget(self, connection: Hashable) -> None:
        """Forget what was loaded over a lost connection."""
        self._had.pop(connection, None)

    def flush(self) -> None:
        """Forget all scripts (SCRIPT FLUSH)."""
        self._bodies.clear()
        self._digests.clear()
        self._had.clear()
        self._size = 0

    def limit(self, most: int) -> None:
        """Drop scripts whose SCRIPT LOAD has more than ``most`` bytes, as no server takes a longer request."""
        for digest in [digest for digest, body in self._bodies.items() if len(_load(body)) > most]:
            self._drop(digest)

    def note(self, name: str, args: Sequence[bytes]) -> None:
        """Take notice of a call that is about to be sent: keep its script, if it has one."""
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
    """The calls of scripts by digest in a request, or in a transaction's block."""
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
