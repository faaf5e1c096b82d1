"""A command that is sent in parts, and the way in which the replies to its parts are merged."""

from collections.abc import Sequence

IN_PART = frozenset({"info", "config_get"})
"""The merges that answer even if a part fails or a slot has no shard, since clients send these commands first. For the
same reason they do not wait long for a server that is down."""


class Part:
    """A request for one shard. ``positions`` are those of its keys among the keys of the whole request, for a merge by
    key."""

    __slots__ = ("frame", "positions", "shard")

    def __init__(self, shard: int, frame: bytes, positions: list[int] | None = None) -> None:
        self.shard = shard
        self.frame = frame
        self.positions = [] if positions is None else positions

    def __repr__(self) -> str:
        return f"Part({self.shard}, {self.frame!r}, {self.positions})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and repr(self) == repr(other)


class Uncounted(Part):
    """A part for a shard whose keys are counted by another node of the cluster that the proxy presents."""


class Way:
    """The way in which a command is sent in parts, the same for every call. ``name`` is the command's.

    ``merge`` names a function of proxy.planning.merge. ``read`` says that replicas may answer. ``changes`` says that
    the command may change data, so that a failed part among others makes the outcome uncertain. ``replicas`` says that
    replicas get the command too; their replies are not waited for. ``shards`` is the number of shards. ``tail`` is the
    number of arguments behind the keys that every part has (the path of JSON.MGET). ``cluster`` says that the proxy
    presents itself to the client as a cluster.
    """

    __slots__ = ("changes", "cluster", "merge", "name", "read", "replicas", "shards", "tail")

    def __init__(
        self,
        name: str,
        merge: str,
        shards: int,
        read: bool = False,
        changes: bool = False,
        replicas: bool = False,
        tail: int = 0,
        cluster: bool = False,
    ) -> None:
        self.name = name
        self.merge = merge
        self.shards = shards
        self.read = read
        self.changes = changes
        self.replicas = replicas
        self.tail = tail
        self.cluster = cluster

    def __repr__(self) -> str:
        words = [word for word in ("read", "changes", "replicas", "tail", "cluster") if getattr(self, word)]
        return f"Way({', '.join([self.name, self.merge, str(self.shards), *words])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Way) and repr(self) == repr(other)


class Scatter:
    """The plan to send ``parts`` in a ``way``, and to merge the replies.

    ``options`` are the arguments behind the name, for merges that need them. A plan is never changed; it is not a
    frozen dataclass because one is made for every split command, which must be cheap.
    """

    __slots__ = ("options", "parts", "way")

    def __init__(self, way: Way, parts: Sequence[Part], options: Sequence[bytes] = ()) -> None:
        self.way = way
        self.parts = parts
        self.options = options

    def __repr__(self) -> str:
        return f"Scatter({self.way!r}, {list(self.parts)}, {list(self.options)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scatter) and repr(self) == repr(other)
