"""The reviewed table of requests that a server may answer with more than one frame, or with less. No I/O.

Replies are matched to requests by their order alone. So a request that could make a server put a line break from a
client into an error line goes over a connection that no other client uses at that time (``proxy.features.unshared``).
So does one to which a module may send two errors, or an array that ends before its last element: the next reply, which
may be another client's, would be the missing element.

The sources are Redis 6.2, 7.0, 7.2, 7.4, 8.0 and Valkey 8, 9 (``addReplyErrorSds``, ``addReplyErrorSdsEx``,
``addReplyStatusFormat`` and ``addReplyProto`` with a client's bytes; ``addReplyErrorFormat`` removes line breaks).
``tests/live/test_frames.py`` checks the available servers. Requests that change the protocol of their connection, or
that get no reply, never reach a shared connection: ``NEVER_SENT`` lists them.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from proxy.planning.proof import RUNS_CODE

_CODE = b"#!"
_PLAIN = (string.ascii_letters + string.digits + "_=,.:@/+- \t").encode()


@dataclass(frozen=True, slots=True)
class ReplyCountRule:
    """A case in which servers may answer with other than one frame: ``applies`` checks the arguments, ``versions``
    names the servers, and ``reason`` says why."""

    applies: Callable[[Sequence[bytes]], bool]
    versions: str
    reason: str


def odd_code(body: bytes) -> bool:
    """Whether a script's first line has more than plain words: servers parse quotes and escapes in it."""
    if not body.startswith(_CODE):
        return False
    end = body.find(b"\n")
    line = body[2:end].removesuffix(b"\r") if end >= 0 else body[2:]
    return bool(line.translate(None, _PLAIN))


def _code_at(index: int) -> Callable[[Sequence[bytes]], bool]:
    return lambda args: len(args) > index and odd_code(args[index])


def _always(args: Sequence[bytes]) -> bool:
    return True


def _breaks(args: Sequence[bytes]) -> bool:
    every = b"".join(args)
    return b"\r" in every or b"\n" in every


def _provokes(args: Sequence[bytes]) -> bool:
    return len(args) < 2 or args[1].lower() not in _DEBUG_ANSWERS_ONCE or _breaks(args)


def _refused_increment(args: Sequence[bytes]) -> bool:
    """Whether a module may refuse one of the increments behind the items."""
    return not all(text.isdigit() and len(text) <= _MOST_DIGITS for text in args[3::2])


_MOST_DIGITS = 5
"""An increment of TOPK.INCRBY with more digits may be more than the 100,000 that are allowed."""
_DEBUG_ANSWERS_ONCE = frozenset(
    b"change-repl-id config-rewrite-force-all digest digest-value htstats htstats-key jmap listpack object pause-cron "
    b"quicklist quicklist-packed-threshold reload replybuffer sdslen set-active-expire set-disable-deny-scripts "
    b"set-skip-checksum-validation sleep structsize".split()
)
"""The subcommands of DEBUG that answer with one frame, which quotes nothing of the request."""
_FIRST_LINE = "the error quotes an unknown word of the script's first line, with its escapes resolved"
_LIBRARY = "the error quotes words of the first line, and Lua's message for code that does not compile, unchanged"
_AT_RUN_TIME = "the error that a script raises is passed on with its line breaks"

UNSHARED: Mapping[str, ReplyCountRule] = MappingProxyType(
    {
        "eval": ReplyCountRule(_code_at(1), "Redis 7.0 and later, Valkey", _FIRST_LINE),
        "eval_ro": ReplyCountRule(_code_at(1), "Redis 7.0 and later, Valkey", _FIRST_LINE),
        "script|load": ReplyCountRule(_code_at(2), "Redis 7.0 and later, Valkey", _FIRST_LINE),
        "function|load": ReplyCountRule(_always, "Redis 7.0 and later, Valkey", _LIBRARY),
        "function|restore": ReplyCountRule(_always, "Redis 7.0 and later, Valkey", _LIBRARY),
        "function|list": ReplyCountRule(
            _breaks, "Redis 7.2 and later, Valkey", "the error quotes an unknown argument unchanged"
        ),
        "debug": ReplyCountRule(
            _provokes, "all", "DEBUG PROTOCOL and DEBUG ERROR answer with any frame that a client asks for"
        ),
        "topk.incrby": ReplyCountRule(
            _refused_increment, "RedisBloom 2", "the array ends with the error of an increment that is refused"
        ),
        "graph.copy": ReplyCountRule(
            _always, "FalkorDB 4", "two errors, if the source is no graph and the destination exists"
        ),
    }
)
"""The rules by the name of the fact."""

NEVER_SENT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("subscribe", "psubscribe", "ssubscribe"), "one frame for each channel: the proxy subscribes"),
        **dict.fromkeys(("unsubscribe", "punsubscribe", "sunsubscribe"), "one frame for each channel, or one for none"),
        "monitor": "one frame for each command of any client",
        "client": "REPLY OFF and SKIP get no reply, TRACKING gets push messages: the proxy answers all of it itself",
        **dict.fromkeys(("hello", "reset", "quit", "auth", "select"), "it changes or ends the connection's state"),
        **dict.fromkeys(("sync", "psync"), "the bytes that follow are not RESP"),
        "replconf": "GETACK and ACK get no reply",
        "shutdown": "it gets no reply",
        "failover": "the server may close the connection",
        "script|debug": "the debugger's own protocol follows",
        "migrate": "the server passes on another server's reply",
        **dict.fromkeys(("multi", "exec", "discard", "watch"), "sent only as a block, or over a dedicated connection"),
        **dict.fromkeys(("post", "host:"), "the server closes the connection"),
        "cluster": "refused, or answered by the proxy",
        "acl": "refused, except WHOAMI, CAT, GENPASS and HELP",
        "module": "refused, except LIST and HELP",
    }
)
"""The commands with other than one reply frame that are never sent for a client, because the table of overrides refuses
them or the proxy answers them itself; each with the reason why it must stay so."""


NAMES = RUNS_CODE.union(UNSHARED)
"""The names of the facts whose requests have to be checked."""


def of_its_own(name: str, args: Sequence[bytes], raises: bool) -> str | None:
    """The reason why a request must not be sent over a shared connection; None if it may. ``name`` is that of its fact;
    ``raises`` says that servers pass on the errors of scripts with line breaks. Redis 7.0 and later and Valkey before
    8.1.6 do so, but distributions may have fixed theirs, so each server is asked."""
    rule = UNSHARED.get(name)
    if rule is not None and rule.applies(args):
        return rule.reason
    return _AT_RUN_TIME if raises and name in RUNS_CODE else None
