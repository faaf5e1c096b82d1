"""A command that is sent in parts: which parts, and how their replies become one."""

from collections.abc import Sequence

IN_PART = frozenset({"info", "config_get"})
"""The merges that answer though a part fails or some slots are nobody's: clients ask for these before they do anything.
So they do not wait long for a server that is not there either."""


class Part:
    """A request for one shard; ``positions``: where its keys stood among the keys of the whole, for a merge by key."""

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
    """A part to a shard whose keys another node of the presented cluster counts."""


class Way:
    """How a command is sent in parts; the same for every call of it. ``name`` is the command's.

    ``merge`` names a function of proxy.planning.merge. ``read``: replicas may answer. ``changes``: it may change data,
    so a failed part among others makes the outcome uncertain. ``replicas``: the replicas of the shards get it too,
    their replies are not waited for. ``shards``: how many there are. ``tail``: how many arguments behind the keys every
    part has (the path of JSON.MGET).
    """

    __slots__ = ("changes", "merge", "name", "read", "replicas", "shards", "tail")

    def __init__(
        self,
        name: str,
        merge: str,
        shards: int,
        read: bool = False,
        changes: bool = False,
        replicas: bool = False,
        tail: int = 0,
    ) -> None:
        self.name = name
        self.merge = merge
        self.shards = shards
        self.read = read
        self.changes = changes
        self.replicas = replicas
        self.tail = tail

    def __repr__(self) -> str:
        words = [word for word in ("read", "changes", "replicas", "tail") if getattr(self, word)]
        return f"Way({', '.join([self.name, self.merge, str(self.shards), *words])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Way) and repr(self) == repr(other)


class Scatter:
    """The plan to send ``parts`` in a ``way``, then merge the replies.

    ``options``: the arguments behind the name, for merges that must know what was asked for. A plan is not changed once
    it is made; it is no frozen dataclass because one is made for every split command, which must be cheap.
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
