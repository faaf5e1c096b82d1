"""The table of commands, which is searched by name and completed from the backends' COMMAND replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

from proxy.commands import datafile, reply
from proxy.commands.derive import decide
from proxy.commands.facts import Fact
from proxy.commands.modules import coordinate
from proxy.commands.own import OWN
from proxy.errors import SlotgateError

DATA = "data/commands.json"
MODULES = "data/modules.json"


class UnknownSubcommand(SlotgateError):
    """A container command was called with a subcommand that it does not have; ``fact`` is the container's."""

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        super().__init__(f"unknown subcommand of {fact.name!r}")


class CommandTable:
    """The facts by command name; immutable. Iteration yields the top-level facts, ordered by name."""

    __slots__ = ("_by_name", "_facts", "_known", "_longest")

    def __init__(self, facts: Iterable[Fact], known: frozenset[str] | None = None) -> None:
        """``facts`` are decided; ``known`` names the commands that backends can only add to (default: all)."""
        self._facts = {fact.name: fact for fact in sorted(facts, key=lambda fact: fact.name)}
        self._known = frozenset(self._facts) if known is None else known
        lower = {fact.name.encode(): fact for fact in self._facts.values()}
        self._by_name = {name.upper(): fact for name, fact in lower.items()} | lower
        names = (name for fact in self._facts.values() for name in (fact.name.encode(), *fact.subcommands))
        self._longest = max(map(len, names), default=0)
        """Bytes of the longest name: a longer one, of millions perhaps, need not be looked for."""

    @staticmethod
    @cache
    def builtin() -> CommandTable:
        """The table of the package's data file and of the proxy's own commands."""
        return CommandTable(decide(fact) for fact in (*_load(DATA), *OWN))

    @staticmethod
    @cache
    def with_modules() -> CommandTable:
        """The table of ``builtin``, with the reviewed modules' commands as if learned from a server: for listings."""
        return CommandTable.builtin()._with(_load(MODULES))

    def __iter__(self) -> Iterator[Fact]:
        return iter(self._facts.values())

    def __len__(self) -> int:
        return len(self._facts)

    def __repr__(self) -> str:
        return f"<CommandTable of {len(self)} commands, {len(self) - len(self._known)} learned>"

    def get(self, name: bytes) -> Fact | None:
        """The fact of the command called ``name``, in any case; for a container, the container's fact."""
        if len(name) > self._longest:
            return None
        return self._by_name.get(name) or self._by_name.get(name.lower())

    def resolve(self, args: Sequence[bytes]) -> Fact | None:
        """The fact of a whole command; for a container with an argument, the fact of the subcommand.

        None if the command is unknown. Raises UnknownSubcommand.
        """
        fact = self.get(args[0])
        if fact is None or not fact.subcommands or len(args) == 1:
            return fact
        found = fact.subcommands.get(args[1].lower()) if len(args[1]) <= self._longest else None
        if found is None:
            raise UnknownSubcommand(fact)
        return found

    def learn(self, command_reply: Sequence[object]) -> CommandTable:
        """A new table, completed by a backend's COMMAND reply (RESP2, as hiredis decodes it).

        Learned facts add, and never remove. A command that the proxy knows itself keeps its handling: only subcommands,
        a looser arity and the flags "write" and "module" are added to it.
        """
        return self._with(reply.parse(command_reply))

    def _with(self, learned: Iterable[Fact]) -> CommandTable:
        facts = dict(self._facts)
        for fact in learned:
            old = facts.get(fact.name)
            if old is None:
                facts[fact.name] = decide(fact)
            elif fact.name in self._known:
                facts[fact.name] = _complete(old, fact)
            else:
                facts[fact.name] = decide(reply.combine(old, fact))
        return CommandTable(coordinate(facts.values()), self._known)


def _load(name: str) -> Iterator[Fact]:
    return datafile.load(files("proxy.commands").joinpath(name).read_text("utf-8"))


def _complete(known: Fact, learned: Fact) -> Fact:
    subcommands = dict(known.subcommands)
    for name, sub in learned.subcommands.items() if subcommands else ():
        old = subcommands.get(name)
        subcommands[name] = decide(sub) if old is None else _complete(old, sub)
    return replace(
        known,
        arity=reply.looser(known.arity, learned.arity),
        flags=known.flags | (learned.flags & {"write", "module"}),
        subcommands=subcommands,
    )
