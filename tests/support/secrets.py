"""Finds secrets in what a proxy shows: its log, its command line, and the answers of its admin port.

Nothing has to be planted for this: each password and token in the configuration of any proxy of the run, in the files
and variables that it names, and each one that a ``Wire`` sends by AUTH, HELLO or ACL SETUSER, must never be shown, nor
may its SHA-256 or base64 form.
"""

import base64
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import proxy

_SHORTEST = 6
"""Shorter secrets, as "a" or "wrong", are words of logs too. So is what has only small letters or only digits: another
test may have a user or a key of that name."""
_KEYS = frozenset(("password", "password_sha256", "password_hash", "token", "token_sha256"))
_MOST = 4096
"""Bytes: longer requests are not searched for AUTH."""
_IN_RULES = re.compile(r"[>#]([^\s\"']+)")
_SENT = re.compile(rb"\r\n\$[47]\r\n(AUTH|SETUSER)\r\n((?:\$\d+\r\n[^\r\n]*\r\n)+)", re.IGNORECASE)
_SETS = (">", "<", "#", "!")
_WORD = re.compile(rb"\$\d+\r\n([^\r\n]*)\r\n")


@cache
def _words() -> frozenset[str]:
    """The words of the proxy's own sources, which its log may have although some test sends one as a password."""
    sources = (path.read_text("utf-8") for path in Path(proxy.__file__).parent.rglob("*.py"))
    return frozenset(word for source in sources for word in re.findall(r"[a-z]+", source.lower()))


class Secrets:
    """The secrets of this run."""

    known: ClassVar[set[str]] = set()
    leaked: ClassVar[list[str]] = []
    """What was found where no test would fail of it: where a proxy was killed."""

    @classmethod
    def add(cls, secret: str) -> None:
        """Have ``secret``, and what is made of it, never be shown."""
        word = secret.isdigit() or (secret.isalpha() and secret.islower()) or secret.lower() in _words()
        if len(secret) >= _SHORTEST and not word:
            raw = secret.encode()
            cls.known |= {secret, hashlib.sha256(raw).hexdigest(), base64.b64encode(raw).decode()}

    @classmethod
    def add_of_config(cls, text: str, environment: Mapping[str, str], folder: Path) -> None:
        """Add the secrets of a configuration, and of the variables and files that it names."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return
        for key, value in _values(table):
            if key in _KEYS:
                cls.add(value)
            elif key == "rules":
                for word in _IN_RULES.findall(value):
                    cls.add(word)
            elif key == "password_env" and value in environment:
                cls.add(environment[value])
            elif key in ("password_file", "token_file") and (folder / value).is_file():
                cls.add((folder / value).read_text().strip())

    @classmethod
    def add_sent(cls, data: bytes) -> None:
        """Add the password behind AUTH in a request, or the words of ACL SETUSER that set one."""
        if len(data) > _MOST:
            return
        for command, words in _SENT.findall(data):
            found = [word.decode("latin-1") for word in _WORD.findall(words)]
            if command.upper() == b"AUTH":
                cls.add(found[min(len(found), 2) - 1])
                continue
            for word in found:
                if word[:1] in _SETS:
                    cls.add(word[1:])

    @classmethod
    def shown_in(cls, text: str, where: str) -> list[str]:
        """The secrets in ``text``, each with the line that shows it."""
        found = []
        for secret in cls.known:
            if secret in text and (match := re.search(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", text)):
                at = match.start()
                line = text[text.rfind("\n", 0, at) + 1 : text.find("\n", at) % (len(text) + 1)]
                found.append(f"{where} shows {secret!r}: {line}")
        return found


def _values(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _values(each)
            elif isinstance(each, str):
                yield key, each


def command_lines(pid: int) -> str:
    """The command lines of the process ``pid`` and its children, as ``ps`` shows them to everybody."""
    found = []
    for each in (str(pid), *_children(pid)):
        try:
            found.append(Path(f"/proc/{each}/cmdline").read_text(errors="replace").replace("\0", " "))
        except OSError:
            continue
    return "\n".join(found)


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
