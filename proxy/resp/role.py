"""What a server replies to ROLE.

Source: https://redis.io/docs/latest/commands/role/
"""

from dataclasses import dataclass

_PRIMARY = b"master"
_REPLICA = frozenset({b"slave", b"replica"})
"""Dragonfly says replica."""
_SENTINEL = b"sentinel"
_COPYING = frozenset({b"connect", b"connecting", b"handshake", b"sync"})
_UNLINKED = _COPYING | {b"none"}


def is_replica(word: object) -> bool:
    """Whether a server that calls its role ``word``, here or elsewhere, is a replica."""
    return isinstance(word, bytes) and word in _REPLICA


@dataclass(frozen=True, slots=True)
class RoleReply:
    """The reply to ROLE of a primary (``word`` is "master"), a replica ("slave", "replica") or a sentinel.

    A primary says how much it has written (``offset``) and which ``replicas`` follow it; Dragonfly leaves the offset
    out. A replica names its ``source``, a host and a port, then the state of its ``link`` to it, then the ``offset`` up
    to which it has copied. What a server leaves out is None, or missing in ``source``. Entries of ``replicas`` and of
    ``source`` are as hiredis decodes them: they may be anything.
    """

    word: bytes
    offset: int | None = None
    replicas: tuple[object, ...] | None = None
    source: tuple[object, ...] = ()
    link: bytes | None = None
    """The state in words; empty where the server says none in its place."""

    @classmethod
    def read(cls, reply: object) -> "RoleReply | None":
        """The meaning of ``reply``, as hiredis decodes it; None if it is no answer to ROLE."""
        if not isinstance(reply, list) or not reply:
            return None
        word, *rest = reply
        if word == _PRIMARY:
            listed = next((each for each in rest if isinstance(each, list)), None)
            written = next((each for each in rest if isinstance(each, int)), None)
            return cls(word, written, None if listed is None else tuple(listed))
        if is_replica(word):
            state = rest[2] if len(rest) > 2 else None
            link = None if len(rest) < 3 else state if isinstance(state, bytes) else b""
            copied = rest[3] if len(rest) > 3 and isinstance(rest[3], int) else None
            return cls(word, copied, source=tuple(rest[:2]), link=link)
        return cls(word) if word == _SENTINEL else None

    @property
    def primary(self) -> bool:
        """Whether the server is a primary."""
        return self.word == _PRIMARY

    @property
    def replica(self) -> bool:
        """Whether the server is a replica."""
        return self.word in _REPLICA

    @property
    def sentinel(self) -> bool:
        """Whether the server is a sentinel, which holds no keys."""
        return self.word == _SENTINEL

    @property
    def linked(self) -> bool:
        """Whether a replica follows its primary now. A state that is not known counts as one that does."""
        return self.link not in _UNLINKED

    @property
    def copying(self) -> bool:
        """Whether a replica does not have its primary's data yet."""
        return self.link in _COPYING
