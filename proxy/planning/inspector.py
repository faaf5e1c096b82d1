"""Finds the command, the slots and the flags of a request from its bytes. No I/O."""

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
    """Inspects forwarded requests, which were not parsed, when they are refused, lost or answered with an error.

    ``table`` has the known commands; it is replaced by a table that the servers have completed. ``absent`` has the
    names of commands that the table knows and no server has: clients are told that they are unknown.
    """

    def __init__(self, table: CommandTable, slot_of: Callable[[bytes], int], counters: Counters) -> None:
        self.table = table
        self.absent: frozenset[str] = frozenset()
        self.slot_of = slot_of
        self._counters = counters

    def look(self, frame: bytes) -> Look:
        """The flags and slots of the request in ``frame``. An unknown command is assumed to write to any slot."""
        if exec_block.is_block(frame):
            return together([self.look(request) for request in exec_block.queued(frame)])
        fact, args = self.resolve(frame)
        if fact is None:
            return Look(False, None)
        try:
            slots = frozenset(self.slot_of(args[index]) for index in key_indexes(fact, args))
        except KeysError:
            slots = frozenset()
        # A read without keys reads no slot; a write without keys may write to any slot.
        return Look(fact.readonly, slots if fact.readonly else slots or None, fact.replica_ok)

    def resolve(self, frame: bytes) -> tuple[Fact | None, list[bytes]]:
        """The fact and the arguments of the request in ``frame``, for a block those of EXEC; the fact is None if the
        command is unknown or the frame can not be parsed."""
        if exec_block.is_block(frame):
            frame = exec_block.EXEC
        try:
            args = split_request(frame)
            return self.table.resolve(args), args
        except (ProtocolError, UnknownSubcommand):
            return None, []

    def count_error(self, sink: Sink, frame: bytes) -> None:
        """Count an error that answered the request in ``frame``, if ``sink`` belongs to a client."""
        if not sink.counted:
            return
        fact, _ = self.resolve(frame)
        if fact is not None:
            self._counters.command(fact.name).failed += 1
