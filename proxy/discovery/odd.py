"""Unreadable parts of servers' replies: they are skipped, and logged once."""

import logging

from proxy.sharding.topology import Node

_MOST_NOTES = 20
_MOST_TOLD = 100


class Odd:
    """The skipped parts of one server's replies, in words: each once, and only the first of many."""

    def __init__(self) -> None:
        self._words: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._words)

    def note(self, where: str, what: str) -> None:
        """Note a skipped part: ``where`` names the reply and the part, ``what`` the problem, in constant words."""
        if len(self._words) < _MOST_NOTES:
            self._words[f"{where}: {what}"] = None

    @property
    def words(self) -> tuple[str, ...]:
        """All notes."""
        return tuple(self._words)


class Told:
    """Logs the notes about each server to ``log``: each wording once, and only the first of many."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: dict[Node, set[str]] = {}

    def tell(self, node: Node, odd: tuple[str, ...]) -> None:
        """Log the new notes about ``node``."""
        if not odd:
            return
        told = self._told.setdefault(node, set())
        for words in odd:
            if words not in told and len(told) < _MOST_TOLD:
                told.add(words)
                self._log.warning("skipped part of a server's reply address=%s part=%r", node, words)

    def keep(self, nodes: set[Node]) -> None:
        """Forget the servers that are not in ``nodes``."""
        self._told = {node: told for node, told in self._told.items() if node in nodes}
