"""Writes ``data/commands.json`` from the COMMAND replies of running servers: a developer's tool.

    python -m proxy.commands.generate HOST:PORT HOST:PORT ...
    python -m proxy.commands.generate --modules HOST:PORT HOST:PORT ...
    python -m proxy.commands.generate --categories HOST:PORT

The servers are given older first: if two know a command, the later one's policies win, and nothing is lost. With
``--modules`` only the commands of modules are written, to ``data/modules.json``, from servers that have loaded them.
With ``--categories`` the categories of a Redis 7.0 are written, to ``data/categories.json``.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import hiredis

from proxy.commands import datafile, reply
from proxy.commands.categories import OLDER
from proxy.commands.facts import Fact
from proxy.commands.table import DATA, MODULES
from proxy.resp.info import fields

_MODULES = "--modules"
_CATEGORIES = "--categories"
TIMEOUT = 10.0
"""Seconds that a server's answer may take."""


def main(addresses: list[str]) -> int:
    """Write a data file from the servers at ``addresses``, and return the exit code: 2 if there are no addresses."""
    if addresses[:1] == [_CATEGORIES] and len(addresses) == 2:
        path = Path(__file__).parent / OLDER
        path.write_text(categories(addresses[1]), "utf-8")
        print(f"{path.name} is written")
        return 0
    modules = addresses[:1] == [_MODULES]
    if not addresses[modules:]:
        print(__doc__, file=sys.stderr)
        return 2
    path = Path(__file__).parent / (MODULES if modules else DATA)
    path.write_text(document(addresses[modules:], modules=modules), "utf-8")
    print(f"{path.name} is written")
    return 0


def document(addresses: list[str], modules: bool = False) -> str:
    """Return the text of a data file with the commands of the servers at ``addresses`` ("host:port"): the commands of
    modules, or all others. Raises OSError, hiredis.ReplyError."""
    facts: dict[str, Fact] = {}
    servers = []
    for address in addresses:
        servers.append(_version(ask(address, b"INFO")))
        for fact in reply.parse(_list(ask(address, b"COMMAND"))):
            if ("module" in fact.flags) is not modules:
                continue
            facts[fact.name] = reply.combine(facts[fact.name], fact) if fact.name in facts else fact
    return datafile.dump(facts.values(), servers)


def categories(address: str) -> str:
    """Return the text of the file of categories, from the server at "host:port". Raises OSError, hiredis.ReplyError."""
    facts = [fact for top in reply.parse(_list(ask(address, b"COMMAND"))) for fact in (top, *top.subcommands.values())]
    rows = {fact.name: " ".join(sorted(fact.categories)) for fact in facts}
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(rows[name])}" for name in sorted(rows))
    server = json.dumps(_version(ask(address, b"INFO")))
    return f'{{"format": 1, "servers": [{server}], "commands": {{\n{lines}\n}}}}\n'


def ask(address: str, command: bytes) -> object:
    """Return the reply of the server at ``address`` to ``command``, which has no arguments, as hiredis decodes the
    reply. Raises OSError, hiredis.ReplyError."""
    host, _, port = address.rpartition(":")
    reader = hiredis.Reader()
    with socket.create_connection((host, int(port)), TIMEOUT) as connection:
        connection.sendall(hiredis.pack_command((command,)))
        while (answer := reader.gets()) is False:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError(f"{address} closed the connection")
            reader.feed(data)
    if isinstance(answer, hiredis.ReplyError):
        raise answer
    return answer


def _version(info: object) -> str:
    """Return the server's name and version, such as "Redis 7.0.15". Valkey's INFO also has redis_version, for old
    clients."""
    text = info.decode() if isinstance(info, bytes) else ""
    said = dict(fields(text))
    if "valkey_version" in said:
        return f"Valkey {said['valkey_version']}"
    return f"Redis {said['redis_version']}"


def _list(answer: object) -> list[object]:
    if not isinstance(answer, list):
        raise TypeError(f"COMMAND answered {answer!r}")
    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
