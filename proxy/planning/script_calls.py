"""Decides from its text whether a script may read or write data. No I/O.

A Lua script reaches the server through one of a few global names: ``redis`` (with other names in other servers), or a
name that gives it all globals (``_G``, ``getfenv``) or runs a text (``loadstring``). A script that has none of these
names outside of comments and strings can not reach data. The members of ``redis`` that touch no data are allowed, and
so is a call of a command without keys if the name of the command is written out in the script. Any other use of such a
name counts as access to data, and so does a text that is not clear: the answer errs on the side of yes.

Sources: https://redis.io/docs/latest/develop/programmability/lua-api/ and the lexer of Lua 5.1 (llex.c).
"""

import re

_SERVER = "redis|server|keydb|dragonfly"
"""The names of the server's API: Redis, Valkey, KeyDB, Dragonfly."""
_REACHES_ALL = "_G|_ENV|getfenv|load|loadstring|loadfile|dofile|debug|require"
"""The names by which a script may reach the API without its name."""
_WITHOUT_DATA = (
    "(?:log|sha1hex|status_reply|error_reply|setresp|set_repl|replicate_commands|breakpoint|debug|acl_check_cmd"
    r"|(?:LOG|REPL|REDIS|VALKEY|SERVER)_\w+)\b"
)
"""The members of the API that touch no data."""
_WITHOUT_KEYS = "(?:[pP][iI][nN][gG]|[eE][cC][hH][oO]|[tT][iI][mM][eE]|[pP][uU][bB][lL][iI][sS][hH])"
"""The commands that may run on any shard: their answers are the same everywhere, and what is published on one shard is
heard by all subscribers of the proxy."""
_CALL = rf"""p?call\s*(?:\(\s*)?(?:"{_WITHOUT_KEYS}"|'{_WITHOUT_KEYS}')\s*[,)]"""

_LONGEST = 16 * 1024
"""The bytes of the longest script that is examined; a longer one counts as access to data."""
_NO_OBJECT = tuple(bytes((each,)) for each in b".:0123456789")
"""The bytes before a point or colon that is not that of a field."""
_NAMES = re.compile(rf"\b(?:{_SERVER}|{_REACHES_ALL})\b".encode())
_NEXT = re.compile(
    rf"""(?P<skipped>--(?!\[=*\[)[^\r\n]*|"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')"""
    # A name that is only given a value: of a local variable, of a field in a table.
    rf"""|(?P<given>(?<![\w.:\x80-\xff])local\s+(?:{_SERVER}|{_REACHES_ALL})\b|\b(?:{_SERVER}|{_REACHES_ALL})\b\s*=(?!=))"""
    rf"""|(?P<long>(?:--)?\[(?P<level>=*)\[)|\b(?P<server>{_SERVER})\b|\b(?P<all>{_REACHES_ALL})\b|(?P<unclosed>["'])""".encode(),
    re.DOTALL,
)
_HARMLESS = re.compile(rf"\s*\.\s*(?:{_WITHOUT_DATA}|{_CALL})".encode())
_SHEBANG = re.compile(rb"#!lua(?:[ \t][^\n]*)?(?:\n|\Z)")


def touches_data(body: bytes) -> bool:
    """Whether the script ``body`` may read or write data; True if that is unclear."""
    if len(body) > _LONGEST:
        return True
    at = 0
    if body.startswith(b"#"):
        first = _SHEBANG.match(body)
        if first is None:
            return True  # another language than Lua
        at = first.end()
    if body.startswith(b"\x1b", at):
        return True  # compiled code
    return _NAMES.search(body, at) is not None and _reaches(body, at)


def _reaches(body: bytes, at: int) -> bool:
    """Whether ``body[at:]`` has one of the names outside of comments and strings, unless its use is harmless."""
    while (found := _NEXT.search(body, at)) is not None:
        before, at = at, found.end()
        kind = found.lastgroup
        if kind in ("skipped", "given"):
            continue
        if kind == "long":
            closed = b"]" + found["level"] + b"]"
            end = body.find(closed, at)
            if end < 0:
                return True
            at = end + len(closed)
        elif kind == "unclosed":
            return True
        elif not _is_field(body, found.start(), before):
            harmless = _HARMLESS.match(body, at) if kind == "server" else None
            if harmless is None:
                return True
            at = harmless.end()
    return False


def _is_field(body: bytes, start: int, first: int) -> bool:
    """Whether the name at ``start`` is that of a field or method, and not a global one.

    The point or colon stands directly before such a name, and not before ``first``, where the last token ended. One
    behind a blank may belong to a comment or a number, and a doubled one joins strings or ends a label.
    """
    mark = start - 1
    if mark < first or body[mark : mark + 1] not in (b".", b":"):
        return False
    return mark == 0 or body[mark - 1 : mark] not in _NO_OBJECT
