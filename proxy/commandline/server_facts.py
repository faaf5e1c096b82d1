"""The facts about one server that ``slotgate check --connect`` judges, from the server's replies. No I/O.

A setting that the proxy's user may not read is None, as on many managed services.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from proxy.resp.info import fields
from proxy.resp.role import RoleReply
from proxy.sharding.topology import Node

Expected = Literal["primary", "replica"]

SETTINGS = ("maxclients", "maxmemory-policy", "timeout", "notify-keyspace-events", "databases")
QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("ROLE",),
    ("INFO", "server"),
    ("INFO", "clients"),
    ("INFO", "replication"),
    ("INFO", "persistence"),
    ("MODULE", "LIST"),
    *(("CONFIG", "GET", name) for name in SETTINGS),
)
_INFOS = slice(1, 5)
_MODULES = 5
_SETTINGS = 6


@dataclass(frozen=True, slots=True)
class NamedServer:
    """A server's place in the topology: its address, its shard, the role that it should have, and the primary that it
    should follow as a replica."""

    node: Node
    shard: str
    expected: Expected
    primary: Node | None = None


@dataclass(frozen=True, slots=True)
class ReportedFacts:
    """The facts of the server at ``place``. ``failure`` says why it could not be asked; then all others are empty.
    ``denied`` are the commands that the proxy's user may not run, and ``expires`` is when its certificate does."""

    place: NamedServer
    failure: str = ""
    role: str = ""
    follows: str = ""
    linked: bool = True
    info: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    modules: frozenset[str] | None = None
    denied: tuple[str, ...] = ()
    expires: float | None = None
    slots: int | None = None
    """The number of slots that the server serves as a node of a cluster, if it was asked for that."""

    @property
    def version(self) -> str:
        """The version, with the name of a server that is not Redis, as in "valkey 8.1.4"."""
        if "valkey_version" in self.info:
            return f"valkey {self.info['valkey_version']}"
        return self.info.get("redis_version", "")

    @property
    def clustered(self) -> bool:
        """Whether the server is in cluster mode."""
        return "cluster" in (self.info.get("redis_mode"), self.info.get("server_mode"))

    @property
    def replicas(self) -> list[tuple[str, int]]:
        """The addresses of the replicas that a primary reports."""
        lines = (value for name, value in self.info.items() if re.fullmatch("slave[0-9]+", name))
        pairs = [dict(each.partition("=")[::2] for each in line.split(",")) for line in lines]
        return [
            (each["ip"], int(each["port"])) for each in pairs if each.get("ip") and each.get("port", "").isdecimal()
        ]

    def number(self, name: str) -> int | None:
        """Return a setting, or a field of INFO, as a number; None if it is not known."""
        text = self.settings.get(name, self.info.get(name, ""))
        return int(text) if text.isdecimal() else None


def read(place: NamedServer, replies: Sequence[object], expires: float | None = None) -> ReportedFacts:
    """Return the facts in the replies to ``QUESTIONS``."""
    words = [str(reply) if isinstance(reply, Exception) else "" for reply in replies]
    facts = ReportedFacts(place, expires=expires)
    if refusal := next((each for each in words if each.startswith("NOAUTH")), ""):
        return replace(facts, failure=_refusal(refusal))
    info: dict[str, str] = {}
    for reply in replies[_INFOS]:
        if isinstance(reply, bytes):
            info.update(fields(reply.decode("utf-8", "replace")))
    if not info.get("redis_version"):
        refusal = next((each for each in words if each), "")
        return replace(facts, failure=_refusal(refusal))
    role = RoleReply.read(replies[0])
    said = "" if role is None else "replica" if role.replica else "primary" if role.primary else "sentinel"
    settings = {
        name: value
        for name, reply in zip(SETTINGS, replies[_SETTINGS:], strict=False)
        if (value := _setting(reply)) is not None
    }
    return replace(
        facts,
        role=said or ("replica" if info.get("role") in ("slave", "replica") else "primary"),
        follows=f"{info['master_host']}:{info.get('master_port', '')}" if "master_host" in info else "",
        linked=info.get("master_link_status", "up") == "up",
        info=info,
        settings=settings,
        modules=_modules(replies[_MODULES]),
        denied=tuple(
            " ".join(command) for command, each in zip(QUESTIONS, words, strict=False) if each.startswith("NOPERM")
        ),
    )


def _refusal(words: str) -> str:
    if words.startswith("NOAUTH"):
        return "asks for a password: set password_env or password_file under [backend]"
    if words.startswith("NOPERM"):
        return "does not allow its user INFO, of which the proxy needs much: grant +info +role +config|get +command"
    if words.startswith("LOADING"):
        return "loads its data, and answers nothing yet: try again"
    if words.startswith("DENIED"):
        return (
            "is in protected mode, and lets in clients of its own machine only: set a password there, or bind it to an "
            "address of your network"
        )
    return f"answers with: {words[:200]}" if words else "does not answer INFO as a Redis server does"


def _setting(reply: object) -> str | None:
    """Return the value in a CONFIG GET reply with one setting; None if it was refused, or if there is no setting."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        return reply[1].decode("utf-8", "replace")
    return None


def _modules(reply: object) -> frozenset[str] | None:
    if not isinstance(reply, list):
        return None
    rows = (row for row in reply if isinstance(row, list))
    pairs = [dict(zip(row[::2], row[1::2], strict=False)) for row in rows]
    return frozenset(name.decode("utf-8", "replace") for pair in pairs if isinstance(name := pair.get(b"name"), bytes))
