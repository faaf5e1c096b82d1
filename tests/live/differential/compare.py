"""Two servers' answers to the same commands, side by side."""

from collections.abc import Sequence

from proxy.commands.table import CommandTable, UnknownSubcommand
from tests.live.differential.normalise import normaliser

TABLE = CommandTable.builtin()


def name_of(args: Sequence[bytes]) -> str:
    """The command's name as facts give it; "" if it is unknown."""
    try:
        fact = TABLE.resolve(args)
    except UnknownSubcommand:
        return ""
    return fact.name if fact is not None else ""


def differences(
    kind: str, commands: Sequence[list[bytes]], expected: Sequence[bytes], found: Sequence[bytes]
) -> list[str]:
    """One text for each command that the proxy answered otherwise than a server of this kind.

    Subcommands of newer servers (CLIENT SETINFO) the proxy answers by itself, however old the servers are.
    """
    different = []
    for args, left, right in zip(commands, expected, found, strict=True):
        name = name_of(args)
        if "|" in name and left.startswith(b"-ERR unknown subcommand"):
            continue
        compared = normaliser(name, kind)
        if compared(left) != compared(right):
            line = b" ".join(args)
            different.append(f"{line!r}\n     server: {left[:300]!r}\n     proxy:  {right[:300]!r}")
    return different
