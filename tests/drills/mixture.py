"""What the clients of a load ask: mixed commands on keys of their own, and on some that all only read."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.sharding.slots import key_slot
from tests.drills.model import Key, Part

SHORTEST: Final = 5
LONGEST: Final = 20
"""Commands of a pipeline."""
_TEXTS, _COUNTERS, _LISTS, _HASHES, _FAMILIES = 24, 8, 6, 6, 4
_MEMBERS: Final = 3
_LONG_LIST: Final = 12
_LONG_TEXT: Final = 400
_SCRIPTED: Final = 0.5
"""Of the commands that a script can do as well."""
SCRIPTS: Final = {
    "APPEND": b"#!lua\nreturn redis.call('append', KEYS[1], ARGV[1])",
    "MSET": b"#!lua\nfor at, key in ipairs(KEYS) do redis.call('set', key, ARGV[at]) end return {ok = 'OK'}",
}
"""Scripts that do what a command does (INCR's numbers would be too large for Lua). A first line has the server refuse
them before they run, if it is no primary."""


@dataclass(slots=True)
class Command:
    """A request, and what it does to each of its keys. ``scripted``: it is sent as a script that does what ``name``
    does."""

    parts: Sequence[Part]
    name: str
    sent: float = 0.0
    scripted: bool = False

    def words(self) -> tuple[bytes, ...]:
        """The request."""
        if self.scripted:
            keys = [part.key.name for part in self.parts]
            arguments = [argument for part in self.parts for argument in part.arguments]
            return (b"EVAL", SCRIPTS[self.name], b"%d" % len(keys), *keys, *arguments)
        if self.name == "LRANGE":
            return (b"LRANGE", self.parts[0].key.name, b"0", b"-1")
        words = [self.name.encode()]
        for part in self.parts:
            words += [part.key.name, *part.arguments]
        return tuple(words)


class Keys:
    """The keys of one client, named after it, all of them in ``slots``."""

    def __init__(self, prefix: str, slots: range) -> None:
        self._serial = 0
        self._prefix = f"drill:{prefix}"
        self._slots = slots
        self.texts = [self.key("text") for _ in range(_TEXTS)]
        self.counters = [self.key("counter") for _ in range(_COUNTERS)]
        self.lists = [self.key("list") for _ in range(_LISTS)]
        self.hashes = [self.key("hash") for _ in range(_HASHES)]
        self.families = [self._family() for _ in range(_FAMILIES)]
        """Texts with a common hash tag."""

    def whole(self) -> list[tuple[str, Key]]:
        """Each key, with the command that reads it whole."""
        texts = [*self.texts, *self.counters, *(key for family in self.families for key in family)]
        return [
            *(("GET", key) for key in texts),
            *(("LRANGE", key) for key in self.lists),
            *(("HGETALL", key) for key in self.hashes),
        ]

    def key(self, kind: str) -> Key:
        """A new one."""
        while True:
            self._serial += 1
            name = f"{self._prefix}:{kind}:{self._serial}".encode()
            if key_slot(name) in self._slots:
                return Key(name)

    def _family(self) -> list[Key]:
        tag = self.key("family").name
        return [Key(b"{%s}:%d" % (tag, number)) for number in range(_MEMBERS)]


class Mixture:
    """Makes up a client's commands. No value comes twice, so that a reply that is not one's own is seen."""

    def __init__(self, keys: Keys, shared: Sequence[Key], rng: random.Random) -> None:
        self._keys = keys
        self._shared = shared
        self._rng = rng
        self._serial = 0
        self._makers: list[tuple[Callable[[], Command], int]] = [
            (self._set, 20),
            (self._get, 20),
            (self._shared_get, 10),
            (self._incr, 12),
            (self._append, 8),
            (self._delete, 4),
            (self._mget, 5),
            (self._mset, 5),
            (self._family, 6),
            (self._exists, 3),
            (self._push, 5),
            (self._range, 3),
            (self._hset, 4),
            (self._hget, 4),
        ]
        self._choices = [maker for maker, weight in self._makers for _ in range(weight)]

    def pipeline(self) -> list[Command]:
        return [self._rng.choice(self._choices)() for _ in range(self._rng.randint(SHORTEST, LONGEST))]

    def _value(self) -> bytes:
        self._serial += 1
        # Of many lengths, as the reply to an APPEND is no more than a length.
        return b"%s=%d;%s" % (self._keys.texts[0].name, self._serial, b"." * self._rng.randrange(64))

    def _one(self, name: str, keys: Sequence[Key], *arguments: bytes) -> Command:
        return Command([Part(name, self._rng.choice(keys), arguments)], name)

    def _set(self) -> Command:
        return self._one("SET", self._keys.texts, self._value())

    def _get(self) -> Command:
        return self._one("GET", self._keys.texts)

    def _shared_get(self) -> Command:
        return self._one("GET", self._shared)

    def _incr(self) -> Command:
        key = self._rng.choice(self._keys.counters)
        if key.last is None:
            # Far apart, so that no counter answers what another does.
            base = b"%d" % (self._rng.getrandbits(40) << 16)
            return Command([Part("SET", key, (base,))], "SET")
        return Command([Part("INCR", key)], "INCR")

    def _append(self) -> Command:
        key = self._rng.choice(self._keys.texts)
        if isinstance(key.last, bytes) and len(key.last) > _LONG_TEXT:
            return Command([Part("DEL", key)], "DEL")
        return Command([Part("APPEND", key, (self._value(),))], "APPEND", scripted=self._rng.random() < _SCRIPTED)

    def _delete(self) -> Command:
        name = self._rng.choice(("DEL", "UNLINK"))
        return Command([Part(name, key) for key in self._some(self._keys.texts)], name)

    def _exists(self) -> Command:
        return Command([Part("EXISTS", key) for key in self._some(self._keys.texts)], "EXISTS")

    def _mget(self) -> Command:
        return Command([Part("GET", key) for key in self._some([*self._keys.texts, *self._shared[:20]])], "MGET")

    def _mset(self) -> Command:
        return Command([Part("SET", key, (self._value(),)) for key in self._some(self._keys.texts)], "MSET")

    def _family(self) -> Command:
        """Several keys of one slot: while that is on the move, servers answer TRYAGAIN."""
        family = self._rng.choice(self._keys.families)
        match self._rng.randrange(4):
            case 0:
                parts = [Part("SET", key, (self._value(),)) for key in family]
                return Command(parts, "MSET", scripted=self._rng.random() < _SCRIPTED)
            case 1:
                return Command([Part("GET", key) for key in family], "MGET")
            case 2:
                return self._one("SET", family, self._value())
            case _:
                return Command([Part("DEL", key) for key in family[:2]], "DEL")

    def _push(self) -> Command:
        key = self._rng.choice(self._keys.lists)
        if isinstance(key.last, tuple) and len(key.last) > _LONG_LIST:
            return Command([Part("DEL", key)], "DEL")
        return Command([Part("LPUSH", key, (self._value(),))], "LPUSH")

    def _range(self) -> Command:
        return self._one("LRANGE", self._keys.lists)

    def _hset(self) -> Command:
        return self._one("HSET", self._keys.hashes, self._field(), self._value())

    def _hget(self) -> Command:
        return self._one("HGET", self._keys.hashes, self._field())

    def _field(self) -> bytes:
        return b"field-%d" % self._rng.randrange(5)

    def _some(self, keys: Sequence[Key]) -> list[Key]:
        return self._rng.sample(keys, self._rng.randint(2, 4))
