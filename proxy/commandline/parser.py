"""argparse with one-line errors, without abbreviated options, and with suggestions for what is misspelt; and what
shells and ``man`` know of the command, made from the parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from proxy.config.words import suggestion
from proxy.errors import SlotgateError

SHELLS = ("bash", "zsh", "tcsh")
_EXTRA = "{} is not installed, which makes it: pip install 'slotgate[shell]'"

_CHOICE = re.compile(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)", re.DOTALL)
_UNKNOWN = "unrecognized arguments: "
_LONG = "--"


class CommandParser(argparse.ArgumentParser):
    """The parser of the command or of one of its subcommands. Options that no subcommand knows are reported by the
    subcommand that they were given to."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and a line on stderr; a misspelt choice gets the one that may be meant."""
        choice = _CHOICE.search(message)
        if choice is not None:
            known = re.findall(r"[^\s,']+", choice[2])
            message = f"{message}{suggestion(choice[1], known)}"
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options. A misspelt option ends the process, with the one that may be meant."""
        options, unknown = self.parse_known_args(args, namespace)
        if not unknown:
            return options
        used = self.used_by(options)
        words = f"{_UNKNOWN}{' '.join(unknown)}"
        misspelt = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
        return used.error(f"{words}{suggestion(misspelt, used.option_names(), _LONG)}" if misspelt else words)

    def used_by(self, options: argparse.Namespace) -> CommandParser:
        """Return the parser of the subcommand that ``options`` are of."""
        found = self
        for parser in self.subcommands():
            if getattr(options, "run", None) is not None and parser.get_default("run") is options.run:
                found = parser
        return found

    def subcommands(self) -> Iterable[CommandParser]:
        """Yield the parsers of all subcommands, the innermost last."""
        for action in self._actions:
            choices: object = action.choices
            for parser in choices.values() if isinstance(choices, dict) else ():
                yield parser
                yield from parser.subcommands()

    def option_names(self) -> Sequence[str]:
        """Return the long options."""
        return [name for action in self._actions for name in action.option_strings if name.startswith(_LONG)]


def completion(parser: CommandParser, shell: str) -> str:
    """Return the script with which ``shell`` completes the command. Raises SlotgateError without shtab."""
    try:
        import shtab
    except ImportError:
        raise SlotgateError(_EXTRA.format("shtab")) from None
    for each in (parser, *parser.subcommands()):
        for action in each._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it, argparse has no such name
    return shtab.complete(parser, shell)


def manual(parser: CommandParser) -> str:
    """Return the manual page of the command, as ``man`` reads it. Raises SlotgateError without argparse-manpage."""
    try:
        from argparse_manpage.manpage import Manpage
    except ImportError:
        raise SlotgateError(_EXTRA.format("argparse-manpage")) from None
    page = Manpage(parser)
    page.manual = "Slotgate"
    return str(page)
