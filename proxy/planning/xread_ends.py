"""The ``$`` of XREAD, the end of a stream at the moment of the call, for calls that may be sent twice. No I/O.

In a second call ``$`` would be a later end, and entries added in between would be missed. So the ends are requested
together with the first call (XINFO STREAM), and replace ``$`` in later calls.
Source: https://redis.io/docs/latest/commands/xread/
"""

from collections.abc import Mapping, Sequence

from proxy.commands.getkeys import KeysError, xread_keys
from proxy.resp import encode
from proxy.resp.replies import BadReply, elements

_END = encode.bulk("last-generated-id")
_NO_STREAM = b"-ERR no such key"
_MOST = 1000
"""The most streams whose ends are requested: more would keep the loop and the server busy for too long. If a call with
more streams is sent twice, ``$`` is the end at the time of the second call."""


def open_ends(args: Sequence[bytes]) -> dict[int, bytes]:
    """The positions of ``$`` in a XREAD, each with its key; empty if the call reads very many streams."""
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
    """The ID in the reply to a ``question``; None if there is none."""
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
    """The arguments of the call with the IDs of ``ends`` in place of ``$``."""
    return [ends.get(at, arg) for at, arg in enumerate(args)]
