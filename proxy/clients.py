"""The worker's clients: who is connected, how many may be, and CLIENT PAUSE for all of them."""

import asyncio
from collections.abc import Iterator

from proxy.client import ClientConnection
from proxy.commands.facts import Fact
from proxy.metrics import Counters
from proxy.session import Session


class Clients:
    """All client connections; the ``Directory`` that sessions look into."""

    def __init__(self, loop: asyncio.AbstractEventLoop, counters: Counters, maximum: int) -> None:
        self._loop = loop
        self._counters = counters
        self._maximum = maximum
        self._clients: dict[int, ClientConnection] = {}
        self._numbered = 0
        self._pause_until = 0.0
        self._pause_timer: asyncio.TimerHandle | None = None
        self._writes_only = False
        self.paused = False

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(list(self._clients.values()))

    def admit(self) -> bool:
        """Whether one more client may come."""
        if len(self._clients) >= self._maximum:
            self._counters.reject("max clients")
            return False
        self._counters.accepted += 1
        return True

    def next_number(self) -> int:
        """The id of the next client: from 1, never given twice."""
        self._numbered += 1
        return self._numbered

    def add(self, client: ClientConnection) -> None:
        """A client is connected."""
        self._clients[client.number] = client

    def remove(self, client: ClientConnection) -> None:
        """A client is gone."""
        self._clients.pop(client.number, None)

    # ---- what sessions may see and do

    def sessions(self) -> Iterator[Session]:
        """The sessions of all clients."""
        for client in self:
            client.note_latest()
            yield client.session

    def kill(self, session: Session) -> None:
        """Close a client's connection at once."""
        client = self._clients.get(session.id)
        if client is not None:
            client.close()

    def pause(self, seconds: float, writes_only: bool) -> None:
        """Hold commands for ``seconds``; of two pauses the longer and the stricter hold, as in Redis."""
        until = self._loop.time() + seconds
        self._writes_only = writes_only and (self._writes_only or not self.paused)
        self.paused = True
        self._tell()
        if self._pause_timer is None or until > self._pause_until:
            if self._pause_timer is not None:
                self._pause_timer.cancel()
            self._pause_until = until
            self._pause_timer = self._loop.call_at(until, self.unpause)

    def unpause(self) -> None:
        """End the pause."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        self.paused = False
        self._tell()

    def _tell(self) -> None:
        for client in self:
            client.pause_changed()

    def holds(self, fact: Fact) -> bool:
        """Whether the pause holds this command. CLIENT goes through, so that a pause can be ended."""
        if fact.name.startswith("client|"):
            return False
        return not self._writes_only or not (fact.readonly or _harmless(fact))


def _harmless(fact: Fact) -> bool:
    """Neither data nor scripts: nothing that CLIENT PAUSE WRITE is there to hold."""
    return not fact.write and "may_replicate" not in fact.flags and not fact.keyed
