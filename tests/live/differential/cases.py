"""The commands that are compared, in groups; each group is one conversation, on keys of one slot unless it says not.

Lines are written as in redis-cli. An argument ``%name`` stands for the key ``{tag}name``: a group is run with a tag of
each shard in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.resp.requests import split_inline
from tests.live.differential.generic import GENERIC, SCRIPTS
from tests.live.differential.lists import HASHES, LISTS
from tests.live.differential.serverwide import KEYLESS, SESSION
from tests.live.differential.sets import SETS, SORTED_SETS
from tests.live.differential.streams import GEO, STREAMS
from tests.live.differential.strings import BITS, HYPERLOGLOG, STRINGS
from tests.live.differential.transactions import TRANSACTIONS


@dataclass(frozen=True, slots=True)
class Conversation:
    """A named group of commands."""

    name: str
    lines: tuple[str, ...]

    def commands(self, tag: str) -> list[list[bytes]]:
        """The commands' arguments, with keys of the slot of ``tag``."""
        return [[with_tag(argument, tag) for argument in split_inline(line.encode())] for line in self.lines]


def with_tag(argument: bytes, tag: str) -> bytes:
    """``%name`` as the key of that name in the slot of ``tag``, anything else as it is."""
    if len(argument) > 1 and argument[:1] == b"%" and argument[1:2].isalpha():
        return b"{%b}%b" % (tag.encode(), argument[1:])
    return argument


def conversations(groups: Sequence[Mapping[str, str]]) -> list[Conversation]:
    """One conversation for each entry, name to lines, of ``groups``."""
    return [
        Conversation(name, tuple(line.strip() for line in text.splitlines() if line.strip()))
        for group in groups
        for name, text in group.items()
    ]


CONVERSATIONS = conversations(
    [
        STRINGS,
        BITS,
        HYPERLOGLOG,
        LISTS,
        HASHES,
        SETS,
        SORTED_SETS,
        STREAMS,
        GEO,
        SCRIPTS,
        GENERIC,
        KEYLESS,
        SESSION,
        TRANSACTIONS,
    ]
)
