"""Parsing of a server's reply to ROLE.

Source: https://redis.io/docs/latest/commands/role/
"""

from dataclasses import dataclass

_PRIMARY = b"master"
_REPLICA = frozenset({b"slave", b"replica"})
"""The names that servers give a replica's role; Dragonfly says ``replica``."""
_SENTINEL = b"sentinel"
_COPYING = frozenset({b"connect", b"connecting", b"handshake", b"sync"})
_UNLINKED = _COPYING | {b"none"}


def is_replica(word: object) -> bool:
    """Whether ``word`` is the role of a replica, in ROLE, INFO or HELLO."""
    return isinstance(word, bytes) and word in _REPLICA


@dataclass(frozen=True, slots=True)
class RoleReply:
    """The reply to ROLE of a primary (``word`` is "master"), a replica ("slave", "replica") or a sentinel.

    A primary reports its replication ``offset`` in bytes and the ``replicas`` that follow it; Dragonfly leaves the
    offset out. A replica reports its ``source`` (the host and port of its primary), the state of its ``link`` to the
    primary, and the ``offset`` up to which it has copied. A field that a server leaves out is None, or missing in
    ``source``. The entries of ``replicas`` and ``source`` are as hiredis decodes them, and not checked.
    """

    word: bytes
    offset: int | None = None
    replicas: tuple[object, ...] | None = None
    source: tuple[object, ...] = ()
    link: bytes | None = None
    """The state of the link in words; empty if the server puts something else in its place."""

    @classmethod
    def read(cls, reply: object) -> "RoleReply | None":
        """Parse ``reply``, as hiredis decodes it; None if it is not an answer to ROLE."""
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
        """Whether a replica follows its primary now; a link state that the proxy does not know counts as following."""
        return self.link not in _UNLINKED

    @property
    def copying(self) -> bool:
        """Whether a replica does not have its primary's data yet."""
        return self.link in _COPYING
