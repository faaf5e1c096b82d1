"""Channels, patterns and shard channels: their encoding, and the servers to subscribe at. No I/O.

Sources: https://redis.io/docs/latest/develop/interact/pubsub/, .../develop/use/keyspace-notifications/, and the
replies of Redis 7.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

from proxy.resp import encode
from proxy.resp.glob import literal_prefix
from proxy.resp.replies import BadReply

_EVENTS = (b"__keyspace@", b"__keyevent@")
"""The prefixes of the channels of keyspace notifications, which a server sends to its own subscribers only."""


class Kind(Enum):
    """The kinds of subscriptions; the value is the prefix of the kind's commands."""

    CHANNEL = b""
    PATTERN = b"p"
    SHARD = b"s"
    """A shard channel, which belongs to the shard of its slot (Redis 7)."""

    __hash__ = object.__hash__  # the hash of an Enum is written in Python, and hashes the name each time

    @property
    def subscribe(self) -> bytes:
        """The name of the command that subscribes, which is also the word of the confirmation."""
        return self.value + b"subscribe"

    @property
    def unsubscribe(self) -> bytes:
        """The name of the command that unsubscribes, which is also the word of the confirmation."""
        return self.value + b"unsubscribe"


_ENDED: Mapping[tuple[Kind, bool], bytes] = {
    (kind, resp3): b"%b3\r\n$%d\r\n%b\r\n" % (b">" if resp3 else b"*", len(kind.unsubscribe), kind.unsubscribe)
    for kind in Kind
    for resp3 in (False, True)
}
"""The beginnings of the confirmations of an unsubscribe, in RESP2 and RESP3."""
BEGIN: Mapping[str, Kind] = {kind.subscribe.decode(): kind for kind in Kind}
END: Mapping[str, Kind] = {kind.unsubscribe.decode(): kind for kind in Kind}
"""The kind by the name of the command that unsubscribes; ``BEGIN`` has it by the command that subscribes."""


class Reach(Enum):
    """The primaries at which a subscription has to exist."""

    EVERY = "every"
    """All primaries: each has messages that no other sends."""
    HOME = "home"
    """One primary: every node of a cluster sends every message."""
    MIXED = "mixed"
    """All primaries, but messages that all of them send are taken from one only."""
    SLOT = "slot"
    """The primary that serves the slot of the channel."""


def reach(kind: Kind, name: bytes, cluster: bool) -> Reach:
    """The primaries at which to subscribe, so that every message arrives exactly once."""
    if not cluster:
        return Reach.EVERY
    if kind is Kind.SHARD:
        return Reach.SLOT
    if kind is Kind.CHANNEL:
        return Reach.EVERY if is_event(name) else Reach.HOME
    prefix, whole = literal_prefix(name)
    if is_event(prefix):
        return Reach.EVERY
    may_be = not whole and any(event.startswith(prefix) for event in _EVENTS)
    return Reach.MIXED if may_be else Reach.HOME


def is_event(channel: bytes) -> bool:
    """Whether ``channel`` is one of keyspace notifications."""
    return channel.startswith(_EVENTS)


def confirmation(word: bytes, name: bytes | None, count: int, protocol: int) -> bytes:
    """The confirmation that a client gets when a subscription begins or ends; ``name`` is None if none existed."""
    named = encode.null(protocol) if name is None else encode.bulk(name)
    return b"%b3\r\n$%d\r\n%b\r\n%b:%d\r\n" % (b">" if protocol >= 3 else b"*", len(word), word, named, count)


def nothing_ended(kind: Kind, names: Sequence[bytes], count: int, protocol: int) -> bytes:
    """The reply to a command that ends subscriptions that do not exist; ``count`` is the number of those that do."""
    begin = _ENDED[kind, protocol >= 3]
    if not names:
        return b"%b%b:%d\r\n" % (begin, encode.null(protocol), count)
    if len(names) == 1:
        name = names[0]
        return b"%b$%d\r\n%b\r\n:%d\r\n" % (begin, len(name), name, count)
    return b"".join([b"%b$%d\r\n%b\r\n:%d\r\n" % (begin, len(name), name, count) for name in names])


def as_resp2(push: bytes) -> bytes:
    """A RESP3 push message, encoded for a client that speaks RESP2."""
    return b"*" + push[1:]


def told(push: bytes) -> tuple[bytes, bytes, int]:
    """The first word of a push message, the name behind it (empty for null), and the offset of the rest.

    Raises ``BadReply`` for a frame of another structure.
    """
    word, at = _bulk(push, push.find(b"\r\n") + 2)
    name, at = _bulk(push, at)
    return word, name, at


def _bulk(frame: bytes, at: int) -> tuple[bytes, int]:
    end = frame.find(b"\r\n", at)
    if frame[at : at + 1] == b"_":
        return b"", end + 2
    if end < 0 or frame[at : at + 1] not in b"$+":
        raise BadReply(f"not a string: {frame[at : at + 32]!r}")
    if frame[at : at + 1] == b"+":
        return frame[at + 1 : end], end + 2
    size = int(frame[at + 1 : end])
    return frame[end + 2 : end + 2 + size], end + 4 + size
