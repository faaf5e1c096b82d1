"""The errors of requests that a server did not carry out, but that it will later, or another server will. No I/O.

Sources: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ (MOVED, ASK, TRYAGAIN, CLUSTERDOWN),
and the errors of Redis 7 and Valkey 9 for a server that loads its data, lost its primary, or is a replica.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.resp import encode
from proxy.sharding.topology import Node

ASKING = encode.request(("ASKING",))
"""The request that is sent in front of a request or a block that an ASK redirects."""
_OF_CLUSTER = frozenset({b"-MOVED", b"-ASK", b"-TRYAGAIN", b"-CLUSTERDOWN"})
_OF_ANY = frozenset({b"-LOADING", b"-MASTERDOWN", b"-READONLY"})
_REDIRECTION = re.compile(rb"-(?:MOVED|ASK) \d{1,5} (\S*):(\d{1,5})\r\n")
_IN_SCRIPT = b"script: "
"""The words that Redis 7 adds to the error of a command inside a script, whose other commands may have run."""

READONLY = "READONLY"
"""The kind of a refusal by a server that was used as a primary and is a replica."""
NOSCRIPT = "NOSCRIPT"
"""The kind of a refusal because a script is missing (``proxy.session.script_cache``): the script is loaded in front of
the request when it is sent again."""
TRYAGAIN = "TRYAGAIN"
"""The kind of a refusal because a slot is being migrated, and only some of the request's keys are at the server."""
UNSENT = "UNSENT"
"""The kind of a refusal without a server's error: the request was taken back before a server could read it."""

_FREE_HOPS = 3
"""So many redirections in a row are followed without a pause: one is usual, a failover can add two."""
HOPS = 64
"""A request is given up after so many refusals, even before ``retry_deadline``."""
_SHORTEST = 0.01
_LONGEST = 0.25


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refusal of a request that was not carried out. ``kind`` is the error's first word, ``error`` its frame.

    ``node`` is the server that the request should go to (MOVED, ASK); None if the error names no server, or none that
    is known: then ``witness`` is the server that sent the error, and is asked for the topology. ``pause`` is the number
    of seconds to wait for other workers' answers, if they are asked for a missing script.
    """

    kind: str
    error: bytes
    node: Node | None = None
    pause: float = 0.0
    witness: Node | None = None

    @property
    def hint(self) -> Node | None:
        """The node to ask first for the present topology."""
        return self.node or self.witness

    @property
    def asks(self) -> bool:
        """Whether the request goes to ``node`` with ASKING in front of it."""
        return self.kind == "ASK" and self.node is not None

    def wait(self, hops: int) -> float:
        """Seconds until the request is sent again after ``hops`` refusals."""
        if self.kind == NOSCRIPT:
            return self.pause
        if self.node is not None:
            hops -= _FREE_HOPS
            if hops <= 0:
                return 0.0
        return pause(hops)


def pause(hops: int) -> float:
    """Seconds until the next attempt after ``hops`` failures."""
    return min(_SHORTEST * 2.0 ** min(hops, 10), _LONGEST)


def refusal(error: bytes, asked: Node, cluster: bool, remap: Mapping[str, str]) -> Refusal | None:
    """The refusal in the error frame that ``asked`` sent; None for an error that is meant for the client.

    ``cluster`` says that the server belongs to a Redis Cluster. For ``remap`` see ``remapped``.
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
    """The address at which a server is reached that announces itself as ``node``.

    ``remap`` maps ``host:port`` to ``host:port``, and a host to a host.
    """
    if not remap:
        return node
    reached = remap.get(node.address)
    if reached is not None:
        host, _, port = reached.rpartition(":")
        return Node(host.strip("[]"), int(port))
    return Node(remap.get(node.host, node.host), node.port)
