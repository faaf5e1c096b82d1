"""The commands that were sent to a server over one connection, and that it has not answered yet."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.backends.dedicated import Lease
from proxy.engine.sink import DISCARD, Sink
from proxy.pubsub.changes import Done
from proxy.pubsub.topic import Topic
from proxy.resp import encode
from proxy.transport.write_batch import Turn

_PING = encode.request(("PING",))
_LOOKS = 3
"""The number of checks of a server within the time that an answer may take."""


@dataclass(eq=False, slots=True)
class PendingCommand:
    """A command that is not confirmed yet: its word, and the topics that are still to be confirmed."""

    word: bytes
    topics: dict[bytes, Topic]


class PendingCommands(Sink):
    """The commands sent over ``lease`` that are not answered, in order.

    The server confirms a command that subscribes or unsubscribes by a push message for each name, or refuses the whole
    command by an error. Only PING has a reply, which comes to this sink. ``names`` is the number of names that are
    still to be confirmed.
    """

    __slots__ = ("_commands", "_turn", "lease", "names")

    def __init__(self, lease: Lease, turn: Turn) -> None:
        self.lease = lease
        self.names = 0
        self._turn = turn
        self._commands: deque[PendingCommand | Done] = deque()

    def __repr__(self) -> str:
        return f"PendingCommands({len(self._commands)}, of {self.names} names)"

    def send(self, word: bytes, topics: Sequence[Topic]) -> None:
        """Send the command ``word`` with the names of ``topics``."""
        names = {topic.name: topic for topic in topics}
        self._commands.append(PendingCommand(word, names))
        self.names += len(names)
        self.lease.send(DISCARD, 0, encode.request((word, *names)), self._turn.now())

    def ping(self, done: Done) -> None:
        """Send PING, and call ``done`` when it is answered."""
        self._commands.append(done)
        self.lease.send(self, 0, _PING, self._turn.now())

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take the reply to a PING: the server has carried out all commands that were sent before."""
        done = self._commands.popleft()
        if not isinstance(done, PendingCommand):
            done()

    def confirmed(self, word: bytes, name: bytes) -> tuple[Topic, bool] | None:
        """The topic that a push message with ``word`` and ``name`` confirms, and whether it is the last one of its
        command. None if no command is to be confirmed so."""
        command = self._commands[0] if self._commands else None
        if not isinstance(command, PendingCommand) or command.word != word or name not in command.topics:
            return None
        topic = command.topics.pop(name)
        self.names -= 1
        if not command.topics:
            self._take()
        return topic, not command.topics

    def refused(self) -> PendingCommand | Done | None:
        """The oldest command, which the server has answered with an error; None if there is none."""
        return self._take() if self._commands else None

    def _take(self) -> PendingCommand | Done:
        """Remove the oldest command, which is answered without a reply."""
        self.lease.inflight.pop()
        command = self._commands.popleft()
        if isinstance(command, PendingCommand):
            self.names -= len(command.topics)
        return command

    def end(self) -> list[Done]:
        """Forget the commands of a closed connection; return the callbacks that waited for an answer."""
        waiting = [command for command in self._commands if not isinstance(command, PendingCommand)]
        self._commands.clear()
        self.names = 0
        return waiting

    async def watch(self, timeout: float, silent: Callable[[str], None]) -> None:
        """Ping the server while nothing else is sent, and call ``silent`` with the reason when the oldest command has
        waited for more than ``timeout`` seconds. Never returns."""
        while True:
            await asyncio.sleep(timeout / _LOOKS)
            first = self.lease.inflight.first()
            if first is None:
                self.ping(_nothing)
            elif first < self._turn.clock.settled - timeout:
                silent(f"nothing came back for {timeout:g} s")


def _nothing() -> None:
    """Do nothing, for a PING that only checks the connection."""
