"""Requests that a server may answer with more frames than one: the one reviewed table of them. Pure.

Replies belong to requests by their order alone. So what could make a server put a line break of its client's into an
error line goes over a connection that nobody else uses at that time (``proxy.features.unshared``), and is sent ahead
for nobody.

Read in the sources of Redis 6.2, 7.0, 7.2, 7.4, 8.0 and Valkey 8, 9 (``addReplyErrorSds``, ``addReplyErrorSdsEx``,
``addReplyStatusFormat`` and ``addReplyProto`` with what a client sent; ``addReplyErrorFormat`` removes line breaks),
and asked of all of them that are at hand by ``tests/live/test_frames.py``. What begins another conversation on its
connection, or is answered by nothing, never reaches a shared connection at all; that is ``NEVER_SENT``.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_CODE = b"#!"
_PLAIN = (string.ascii_letters + string.digits + "_=,.:@/+- \t").encode()


@dataclass(frozen=True, slots=True)
class ReplyCountRule:
    """A case in which servers may answer with more frames than one: ``applies`` says to which arguments it does,
    ``versions`` names the servers, ``reason`` says why they do."""

    applies: Callable[[Sequence[bytes]], bool]
    versions: str
    reason: str


def odd_code(body: bytes) -> bool:
    """Whether a script's first line holds more than plain words: it is parsed with quotes and escapes."""
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


_DEBUG_ANSWERS_ONCE = frozenset(
    b"change-repl-id config-rewrite-force-all digest digest-value htstats htstats-key jmap listpack object pause-cron "
    b"quicklist quicklist-packed-threshold reload replybuffer sdslen set-active-expire set-disable-deny-scripts "
    b"set-skip-checksum-validation sleep structsize".split()
)
"""The subcommands of DEBUG that answer one frame in which nothing of the client's words stands."""
_FIRST_LINE = "an unknown word of the script's first line is named in the error, its escapes resolved"
_LIBRARY = "names words of the first line, and what Lua says of code that does not compile, as they are"
_AT_RUN_TIME = "an error that a script raises is passed on with its line breaks"

UNSHARED: Mapping[str, ReplyCountRule] = MappingProxyType(
    {
        "eval": ReplyCountRule(_code_at(1), "Redis 7.0 and later, Valkey", _FIRST_LINE),
        "eval_ro": ReplyCountRule(_code_at(1), "Redis 7.0 and later, Valkey", _FIRST_LINE),
        "script|load": ReplyCountRule(_code_at(2), "Redis 7.0 and later, Valkey", _FIRST_LINE),
        "function|load": ReplyCountRule(_always, "Redis 7.0 and later, Valkey", _LIBRARY),
        "function|restore": ReplyCountRule(_always, "Redis 7.0 and later, Valkey", _LIBRARY),
        "function|list": ReplyCountRule(_breaks, "Redis 7.2 and later, Valkey", "names an unknown argument as it is"),
        "debug": ReplyCountRule(
            _provokes, "all", "made to provoke: DEBUG PROTOCOL and DEBUG ERROR answer what they are told"
        ),
    }
)
"""By the fact's name."""

RAISES = frozenset(("eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"))
"""What runs scripts: unshared where a server is known to pass on what a script raises with its line breaks (Redis 7.0
and later as they were released, Valkey before 8.1.6; distributions may have mended theirs, so each server is asked)."""

NEVER_SENT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("subscribe", "psubscribe", "ssubscribe"), "a frame for each channel: the proxy subscribes"),
        **dict.fromkeys(("unsubscribe", "punsubscribe", "sunsubscribe"), "a frame for each channel, or one"),
        "monitor": "a frame for each command from then on",
        "client": "REPLY OFF and SKIP are answered by nothing, TRACKING by more: all of it is the proxy's own",
        **dict.fromkeys(("hello", "reset", "quit", "auth", "select"), "another state of the connection, or its end"),
        **dict.fromkeys(("sync", "psync"), "what follows is no RESP"),
        "replconf": "GETACK and ACK are answered by nothing",
        "shutdown": "answered by nothing",
        "failover": "the server may close the connection",
        "script|debug": "what follows is the debugger's own protocol",
        "migrate": "passes on what another server said",
        **dict.fromkeys(("multi", "exec", "discard", "watch"), "only as a block, or over a connection of its own"),
        **dict.fromkeys(("post", "host:"), "the server closes the connection"),
        "cluster": "refused, or the proxy's own",
        "acl": "refused, but for WHOAMI, CAT, GENPASS and HELP",
        "module": "refused, but for LIST and HELP",
    }
)
"""What is answered by other than one frame and is never sent for a client: the table of overrides refuses it, or the
proxy answers it itself; with the reason why it must stay so."""


NAMES = RAISES.union(UNSHARED)
"""The names of facts that are worth a look."""


def of_its_own(name: str, args: Sequence[bytes], raises: bool) -> str | None:
    """Why a request must not be sent over a connection that others share; None if it may. ``name``: its fact's;
    ``raises``: servers pass on what scripts raise as it is."""
    rule = UNSHARED.get(name)
    if rule is not None and rule.applies(args):
        return rule.reason
    return _AT_RUN_TIME if raises and name in RAISES else None
