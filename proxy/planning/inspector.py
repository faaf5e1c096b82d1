"""What a request is that was sent, by its bytes: its command, its slots, whether it may be sent twice. Pure."""

from collections.abc import Callable

from proxy.commands.facts import Fact
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import CommandTable, UnknownSubcommand
from proxy.engine.sink import Sink
from proxy.metrics import Counters
from proxy.planning import exec_block
from proxy.planning.retry_rules import Look, together
from proxy.resp.requests import ProtocolError, split_request


class Inspector:
    """Looks at requests that are not taken apart on their way: those that are refused, lost, or answered with an error.

    ``table``: the commands that are known; it is replaced by one that the servers have completed. ``absent``: the names
    of commands that the table knows and no server has, so that clients are told that they are unknown.
    """

    def __init__(self, table: CommandTable, slot_of: Callable[[bytes], int], counters: Counters) -> None:
        self.table = table
        self.absent: frozenset[str] = frozenset()
        self.slot_of = slot_of
        self._counters = counters

    def look(self, frame: bytes) -> Look:
        """What the request in ``frame`` is. Of what is not known it is supposed that it writes, anywhere."""
        if exec_block.is_block(frame):
            return together([self.look(request) for request in exec_block.queued(frame)])
        fact, args = self.resolve(frame)
        if fact is None:
            return Look(False, None)
        try:
            slots = frozenset(self.slot_of(args[index]) for index in key_indexes(fact, args))
        except KeysError:
            slots = frozenset()
        # A read of no key reads no slot; a write without one may write anywhere.
        return Look(fact.readonly, slots if fact.readonly else slots or None, fact.replica_ok)

    def resolve(self, frame: bytes) -> tuple[Fact | None, list[bytes]]:
        """The fact of a request that was sent, of a block EXEC's; None if it is not known or can not be read."""
        if exec_block.is_block(frame):
            frame = exec_block.EXEC
        try:
            args = split_request(frame)
            return self.table.resolve(args), args
        except (ProtocolError, UnknownSubcommand):
            return None, []

    def count_error(self, sink: Sink, frame: bytes) -> None:
        """Count that the request in ``frame`` was answered with an error, if ``sink`` is a client's."""
        if not sink.counted:
            return
        fact, _ = self.resolve(frame)
        if fact is not None:
            self._counters.command(fact.name).failed += 1
