"""What can be subscribed to, how that is said on the wire, and on which servers it has to stand. Pure.

Sources: https://redis.io/docs/latest/develop/interact/pubsub/, .../develop/use/keyspace-notifications/, and what
Redis 7 answers.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

from proxy.resp import encode
from proxy.resp.glob import literal_prefix
from proxy.resp.replies import BadReply

_EVENTS = (b"__keyspace@", b"__keyevent@")
"""What the channels begin with on which a server tells of its own keys. Such messages stay on that server."""


class Kind(Enum):
    """What a subscription names; the value is what its commands begin with."""

    CHANNEL = b""
    PATTERN = b"p"
    SHARD = b"s"
    """A channel that belongs to its slot's shard (Redis 7)."""

    __hash__ = object.__hash__  # an Enum's own is Python, and hashes the name each time

    @property
    def subscribe(self) -> bytes:
        """The command that begins it, also the word that confirms it."""
        return self.value + b"subscribe"

    @property
    def unsubscribe(self) -> bytes:
        """The command that ends it, also the word that confirms that."""
        return self.value + b"unsubscribe"


_ENDED: Mapping[tuple[Kind, bool], bytes] = {
    (kind, resp3): b"%b3\r\n$%d\r\n%b\r\n" % (b">" if resp3 else b"*", len(kind.unsubscribe), kind.unsubscribe)
    for kind in Kind
    for resp3 in (False, True)
}
"""What is said of an end begins so, in RESP2 and RESP3."""
BEGIN: Mapping[str, Kind] = {kind.subscribe.decode(): kind for kind in Kind}
END: Mapping[str, Kind] = {kind.unsubscribe.decode(): kind for kind in Kind}
"""By the command that begins or ends it."""


class Reach(Enum):
    """On which primaries a subscription stands."""

    EVERY = "every"
    """On all: each has messages that only it tells."""
    HOME = "home"
    """On one: every node of a cluster tells every message."""
    MIXED = "mixed"
    """On all, but only one is listened to for what all of them tell."""
    SLOT = "slot"
    """On the one that serves its slot."""


def reach(kind: Kind, name: bytes, cluster: bool) -> Reach:
    """Where a subscription has to stand, so that every message comes, and comes once."""
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
    """Whether a server tells of its own keys on ``channel``."""
    return channel.startswith(_EVENTS)


def confirmation(word: bytes, name: bytes | None, count: int, protocol: int) -> bytes:
    """What a client is told when a subscription begins or ends; ``name`` is None if there was none to end."""
    named = encode.null(protocol) if name is None else encode.bulk(name)
    return b"%b3\r\n$%d\r\n%b\r\n%b:%d\r\n" % (b">" if protocol >= 3 else b"*", len(word), word, named, count)


def nothing_ended(kind: Kind, names: Sequence[bytes], count: int, protocol: int) -> bytes:
    """The reply to a command that ends subscriptions of which there are none; ``count`` is what stands."""
    begin = _ENDED[kind, protocol >= 3]
    if not names:
        return b"%b%b:%d\r\n" % (begin, encode.null(protocol), count)
    if len(names) == 1:
        name = names[0]
        return b"%b$%d\r\n%b\r\n:%d\r\n" % (begin, len(name), name, count)
    return b"".join([b"%b$%d\r\n%b\r\n:%d\r\n" % (begin, len(name), name, count) for name in names])


def as_resp2(push: bytes) -> bytes:
    """A message as RESP3 pushes it, for a client that speaks RESP2."""
    return b"*" + push[1:]


def told(push: bytes) -> tuple[bytes, bytes, int]:
    """Of a push: its word, what it names, and where the rest begins. A name that is null is empty.

    Raises ``BadReply`` for what is shaped otherwise.
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
