"""Odd parts of what servers say of themselves and of others: they are passed over, and said once in the log."""

import logging

from proxy.sharding.topology import Node

_MOST_NOTES = 20
_MOST_TOLD = 100


class Odd:
    """What was passed over in one server's replies, in words: each once, and of many the first ones."""

    def __init__(self) -> None:
        self._words: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._words)

    def note(self, where: str, what: str) -> None:
        """``where``: the reply and the part of it; ``what`` is wrong with it, which must be the same at each look."""
        if len(self._words) < _MOST_NOTES:
            self._words[f"{where}: {what}"] = None

    @property
    def words(self) -> tuple[str, ...]:
        """All of it."""
        return tuple(self._words)


class Told:
    """What was said of the oddities of each server in ``log``: each wording once, of many the first ones."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: dict[Node, set[str]] = {}

    def tell(self, node: Node, odd: tuple[str, ...]) -> None:
        """Say what is new of it."""
        if not odd:
            return
        told = self._told.setdefault(node, set())
        for words in odd:
            if words not in told and len(told) < _MOST_TOLD:
                told.add(words)
                self._log.warning("passed over what a server says address=%s part=%r", node, words)

    def keep(self, nodes: set[Node]) -> None:
        """Forget the others."""
        self._told = {node: told for node, told in self._told.items() if node in nodes}
