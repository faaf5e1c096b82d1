"""What a server says when it did not carry out a request and another one, or it itself a little later, will. Pure.

Sources: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ (MOVED, ASK, TRYAGAIN, CLUSTERDOWN),
and the errors that Redis 7 and Valkey 9 have for a server that loads, lost its primary, or is a replica.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.resp import encode
from proxy.sharding.topology import Node

ASKING = encode.request(("ASKING",))
"""What goes ahead of a request that an ASK sends elsewhere, or of a transaction's block."""
_OF_CLUSTER = frozenset({b"-MOVED", b"-ASK", b"-TRYAGAIN", b"-CLUSTERDOWN"})
_OF_ANY = frozenset({b"-LOADING", b"-MASTERDOWN", b"-READONLY"})
_REDIRECTION = re.compile(rb"-(?:MOVED|ASK) \d{1,5} (\S*):(\d{1,5})\r\n")
_IN_SCRIPT = b"script: "
"""What Redis 7 adds to an error that a command inside a script met: other commands of it may have run."""

READONLY = "READONLY"
"""The kind of a refusal by a server that is a replica, and so is not the primary that it was used as."""
NOSCRIPT = "NOSCRIPT"
"""The kind of a refusal for want of a script (``proxy.session.script_cache``): it is loaded ahead when the request is
sent again."""
TRYAGAIN = "TRYAGAIN"
"""The kind of a refusal because a slot is on its way, and some of the request's keys are there and some are not."""
UNSENT = "UNSENT"
"""The kind of a refusal that no server says: the request was taken back before one could read it."""

_FREE_HOPS = 3
"""So many redirections in a row are followed at once: one is usual, a failover can bring a second and third."""
HOPS = 64
"""So many refusals of one request end it, should ``retry_deadline`` not."""
_SHORTEST = 0.01
_LONGEST = 0.25


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request was not carried out. ``kind`` is the error's first word, ``error`` its frame.

    ``node``: where the request should go instead (MOVED, ASK); None where nobody says, or where that is nobody who is
    known: then ``witness`` is who says it, and should be asked who that is. ``pause``: for want of a script that others
    are asked for, seconds until they may have answered.
    """

    kind: str
    error: bytes
    node: Node | None = None
    pause: float = 0.0
    witness: Node | None = None

    @property
    def hint(self) -> Node | None:
        """The node that may know best how the topology is now."""
        return self.node or self.witness

    @property
    def asks(self) -> bool:
        """Whether the request goes to ``node`` with ASKING ahead of it."""
        return self.kind == "ASK" and self.node is not None

    def wait(self, hops: int) -> float:
        """Seconds until it should be sent again when it has been refused ``hops`` times."""
        if self.kind == NOSCRIPT:
            return self.pause
        if self.node is not None:
            hops -= _FREE_HOPS
            if hops <= 0:
                return 0.0
        return pause(hops)


def pause(hops: int) -> float:
    """Seconds until something is tried again that has failed ``hops`` times."""
    return min(_SHORTEST * 2.0 ** min(hops, 10), _LONGEST)


def refusal(error: bytes, asked: Node, cluster: bool, remap: Mapping[str, str]) -> Refusal | None:
    """What the error frame that ``asked`` sent refuses; None for an error that is the client's business.

    ``cluster``: the server is a Redis Cluster's. ``remap``: see ``remapped``.
    """
    code = error[:16].partition(b" ")[0]
    if code in _OF_ANY:
        return None if _IN_SCRIPT in error else Refusal(code[1:].decode(), error)
    if not cluster or code not in _OF_CLUSTER:
        return None
    kind = code[1:].decode()
    if kind not in ("MOVED", "ASK"):
        return Refusal(kind, error)
    words = _REDIRECTION.fullmatch(error)
    if words is None:
        return None
    host, port = words[1].decode("latin-1"), int(words[2])
    if host == "?":
        return Refusal(kind, error)
    return Refusal(kind, error, remapped(Node(host.strip("[]") or asked.host, port), remap))


def remapped(node: Node, remap: Mapping[str, str]) -> Node:
    """Where a server is reached that calls itself ``node``.

    ``remap`` has ``host:port`` for ``host:port``, and a host for a host.
    """
    if not remap:
        return node
    reached = remap.get(node.address)
    if reached is not None:
        host, _, port = reached.rpartition(":")
        return Node(host.strip("[]"), int(port))
    return Node(remap.get(node.host, node.host), node.port)
