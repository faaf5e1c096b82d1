"""XREAD's ``$``, the end of a stream at the moment of the call, for calls that may have to be made twice. Pure.

Asked again, ``$`` would be a later end, and what was added in between be missed. So the ends are asked for along with
the first call (XINFO STREAM), and stand for ``$`` in those that follow.
Source: https://redis.io/docs/latest/commands/xread/
"""

from collections.abc import Mapping, Sequence

from proxy.commands.getkeys import KeysError, xread_keys
from proxy.resp import encode
from proxy.resp.replies import BadReply, elements

_END = encode.bulk("last-generated-id")
_NO_STREAM = b"-ERR no such key"
_MOST = 1000
"""Of more streams the ends are not asked for: that would take the loop longer than others should wait, and the server
as well. Should such a call have to be made twice, ``$`` is the end that is found then."""


def open_ends(args: Sequence[bytes]) -> dict[int, bytes]:
    """Where a XREAD says ``$``, and the key that it says it of; nothing of one that reads very many streams."""
    try:
        keys = xread_keys(args)
    except KeysError:
        return {}
    if len(keys) > _MOST:
        return {}
    return {at + len(keys): args[at] for at in keys if args[at + len(keys)] == b"$"}


def question(key: bytes) -> bytes:
    """The request for the end of a stream."""
    return encode.request(("XINFO", "STREAM", key))


def end_said(reply: bytes) -> bytes | None:
    """The id that the reply to a ``question`` says; None if it says none."""
    if reply.startswith(_NO_STREAM):
        return b"0-0"
    if reply[:1] not in (b"*", b"%"):
        return None
    try:
        items = elements(reply)
        said = items[items.index(_END) + 1]
    except (BadReply, ValueError, IndexError):
        return None
    return said.split(b"\r\n")[1] if said[:1] == b"$" else None


def closed(args: Sequence[bytes], ends: Mapping[int, bytes]) -> list[bytes]:
    """The call with these ids in place of ``$``."""
    return [ends.get(at, arg) for at, arg in enumerate(args)]
