"""Asks servers for their facts: the commands of primaries, their version, databases and limits, and whether static
shards are nodes of a Redis Cluster."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import hiredis

from proxy.backends.handshake import IDENTITY, Credentials, refused_identity
from proxy.backends.query import Reply, TooManyReplies, ask
from proxy.commands.facts import Fact, Handling
from proxy.commands.own import OWN
from proxy.commands.table import CommandTable
from proxy.errors import BackendError
from proxy.planning.server_facts import Module
from proxy.resp.info import fields
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node

log = logging.getLogger(__name__)

_OWN = frozenset(own.name for own in OWN)
QUESTIONS = (
    ("COMMAND",),
    ("INFO", "server"),
    ("CONFIG", "GET", "databases"),
    ("CONFIG", "GET", "proto-max-bulk-len"),
    ("CONFIG", "GET", "cluster-databases"),
    ("CONFIG", "GET", "client-query-buffer-limit"),
    ("CONFIG", "GET", "client-output-buffer-limit"),
    ("MODULE", "LIST"),
    ("CLIENT", "INFO"),
)
_MARK = "raised by slotgate"
_RAISES = (
    r"local errors = {ARGV[2]..'\r\n+1', {err=ARGV[2]..'\r\n+1'}, ARGV[2]..'\0\r\n+1', {err=ARGV[2]..'\0\r\n+1'}} "
    "error(errors[tonumber(ARGV[1])])"
)
"""One script for all errors, since servers count the scripts that they keep."""
_ERRORS = 4
_NO_SCRIPTS = ("NOPERM", "ERR")
"""The beginnings of the errors of servers that run no scripts for the proxy."""
_LATER = ("LOADING", "BUSY", "MASTERDOWN")
"""The beginnings of the errors of servers that run no scripts now."""
_LIMITS = QUESTIONS[3], QUESTIONS[5]
_TIMEOUT = 5.0
MANY_ARGUMENTS = 2**31 - 1
FEWER_ARGUMENTS = 1024 * 1024
_MANY_FROM = 7
_MODES = (b"redis_mode", b"server_mode")
_COLUMNS = 8
"""The number of fields in a line of CLUSTER NODES in front of the slots."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The facts of one server: its COMMAND reply, version ("7.0.15"), number of databases, the most bytes of one
    argument, and the most bytes of requests that it keeps for one connection; None for a fact that it does not tell.
    ``selects`` says that it knows SELECT, which the nodes of a cluster do from Valkey 9 on."""

    commands: Sequence[object] | None
    version: str | None
    databases: int | None
    max_bulk: int | None
    max_query: int | None
    selects: bool = True
    clustered: bool = False
    """Whether the server is in cluster mode."""
    raises: bool = False
    """Whether the server passes on the errors of scripts with line breaks."""
    max_output: int | None = None
    """The bytes of unread output beyond which the server closes a client's connection; None without a limit."""
    modules: Sequence[Module] | None = None
    """The modules that the server has loaded; None if it does not tell."""
    client_fields: Sequence[str] = ()
    """The names of the fields in the server's CLIENT INFO."""
    valkey: bool = False
    """Whether the server is a Valkey. Its ``version`` is that of the Redis with which it is compatible."""


async def learn(node: Node, credentials: Credentials, stranger: Callable[[Node, str], str] | None) -> Learned | None:
    """The facts of ``node``; None, with a log line, if it can not be asked now or is a stranger."""
    try:
        if stranger is None:
            replies = await ask(node, credentials, QUESTIONS, _TIMEOUT)
        else:
            identity, *replies = await ask(node, credentials, (IDENTITY, *QUESTIONS), _TIMEOUT)
            if words := refused_identity(identity, partial(stranger, node)):
                raise BackendError(words)
        raises = await _raises(node, credentials)
    except (OSError, TimeoutError, BackendError) as error:
        log.info("server not asked yet address=%s reason=%r", node.address, str(error) or type(error).__name__)
        return None
    commands, info, databases, max_bulk, of_cluster, max_query, outputs, modules, client = replies
    several = _setting(of_cluster)
    clustered = _is_clustered(info)
    return Learned(
        commands if isinstance(commands, list) else None,
        _version(info),
        (several or 1) if clustered else _setting(databases),
        _setting(max_bulk),
        _setting(max_query),
        not clustered or several is not None,
        clustered,
        raises,
        output_limit(outputs),
        _modules(modules),
        _client_fields(client),
        isinstance(info, bytes) and any(name == b"valkey_version" for name, _ in fields(info)),
    )


async def _raises(node: Node, credentials: Credentials) -> bool:
    """Whether ``node`` turns an error that a script raises into more than one reply, or does not tell. Raises as
    ``ask`` does, and BackendError while the server runs no scripts."""
    scripts = [("EVAL", _RAISES, "0", str(number), _MARK) for number in range(1, _ERRORS + 1)]
    try:
        commands = [each for script in scripts for each in (script, ("ECHO", _MARK))]
        answers = await ask(node, credentials, commands, _TIMEOUT)
    except TooManyReplies:
        return True
    for error, echo in zip(answers[::2], answers[1::2], strict=True):
        if not isinstance(error, hiredis.ReplyError) or echo != _MARK.encode():
            return True
        if str(error).startswith(_LATER):
            raise BackendError(str(error))
        if _MARK not in str(error) and not str(error).startswith(_NO_SCRIPTS):
            return True
    return False


async def learn_limits(node: Node, credentials: Credentials) -> Learned | None:
    """The limits of a replica that is read from, and its handling of errors; None if it can not be asked now."""
    try:
        max_bulk, max_query = await ask(node, credentials, _LIMITS, _TIMEOUT)
        raises = await _raises(node, credentials)
    except (OSError, TimeoutError, BackendError):
        return None
    return Learned(None, None, None, _setting(max_bulk), _setting(max_query), raises=raises)


async def slots_served(node: Node, credentials: Credentials) -> int | None:
    """How many slots ``node``, which is in cluster mode, serves; None if it can not be asked."""
    try:
        (reply,) = await ask(node, credentials, (("CLUSTER", "NODES"),), _TIMEOUT)
    except (OSError, TimeoutError, BackendError):
        return None
    return count_slots(reply)


async def cluster_nodes(nodes: Sequence[Node], credentials: Credentials, timeout: float) -> dict[Node, int]:
    """The numbers of slots served by those of ``nodes`` that are in cluster mode and do not serve all slots alone.
    Nodes that do not answer within ``timeout`` seconds are left out."""

    async def served(node: Node) -> int | None:
        try:
            info, reply = await ask(node, credentials, (("INFO", "server"), ("CLUSTER", "NODES")), timeout)
        except (OSError, TimeoutError, BackendError):
            return None
        return count_slots(reply) if _is_clustered(info) else None

    counts = zip(nodes, await asyncio.gather(*map(served, nodes)), strict=True)
    return {node: count for node, count in counts if count not in (None, SLOTS)}


def node_of_cluster(slots: int) -> str:
    """The reason why a node of a Redis Cluster that serves only ``slots`` slots can not be a static shard."""
    return (
        f"it is a node of a Redis Cluster and serves {slots} of the 16384 slots, but a static shard has to take "
        'every key that it is sent: set topology.kind = "cluster" and name it in cluster.seeds'
    )


def cluster_at_static_shards(found: Mapping[str, int]) -> str:
    """The error with which the proxy does not start because static primaries are nodes of a Redis Cluster. ``found``
    has the number of slots that each address serves."""
    served = ", ".join(f"{address} serves {slots}" for address, slots in found.items())
    seeds = ",".join(found)
    written = ", ".join(f'"{address}"' for address in found)
    return (
        f"static shards are nodes of a Redis Cluster ({served} of the 16384 slots): they would refuse keys of other "
        f'nodes. Start with --cluster {seeds} in place of --static, or write topology.kind = "cluster" and '
        f"cluster.seeds = [{written}] in place of the shards"
    )


def count_slots(reply: Reply) -> int | None:
    """How many slots a node has according to its own line in CLUSTER NODES; None without such a line.

    Source: https://redis.io/docs/latest/commands/cluster-nodes/
    """
    if not isinstance(reply, bytes):
        return None
    rows = (line.split() for line in reply.decode("utf-8", "replace").splitlines())
    own = next((row for row in rows if len(row) >= _COLUMNS and "myself" in row[2].split(",")), None)
    if own is None:
        return None
    spans = (re.fullmatch("([0-9]+)(?:-([0-9]+))?", word) for word in own[_COLUMNS:])
    return sum(int(span[2] or span[1]) - int(span[1]) + 1 for span in spans if span is not None)


async def learn_all(
    nodes: Sequence[Node], credentials: Credentials, stranger: Callable[[Node, str], str] | None = None
) -> dict[Node, Learned]:
    """The facts of those of ``nodes`` that could be asked. ``stranger`` is called with a node and its id, see
    ``proxy.backends.handshake.Stranger``; None if servers have no ids."""
    answers = await asyncio.gather(*(learn(node, credentials, stranger) for node in nodes))
    return {node: answer for node, answer in zip(nodes, answers, strict=True) if answer is not None}


def complete(table: CommandTable, answers: Sequence[Learned]) -> CommandTable:
    """``table`` completed by the servers' COMMAND replies; equal replies of several servers are read once."""
    seen: list[Sequence[object]] = []
    for answer in answers:
        if answer.commands is not None and answer.commands not in seen:
            seen.append(answer.commands)
            table = table.learn(answer.commands)
    return table


def absent(table: CommandTable, answers: Sequence[Learned]) -> frozenset[str]:
    """The names of commands and subcommands that no server has; empty if one of the servers does not tell."""
    listed: set[str] = set()
    for answer in answers:
        if answer.commands is None:
            return frozenset()
        names = (entry[0] for entry in answer.commands if isinstance(entry, list) and entry)
        listed.update(name.decode("utf-8", "replace").lower() for name in names if isinstance(name, bytes))
    missing = [fact for fact in table if fact.name not in listed and not _own(fact)]
    return frozenset(fact.name for top in missing for fact in (top, *top.subcommands.values()))


def _own(fact: Fact) -> bool:
    """Whether the proxy carries out the command itself, whatever the servers know."""
    return fact.handling is Handling.SESSION or fact.name in _OWN


def lowest(answers: Sequence[Learned]) -> Learned | None:
    """The facts of a server with the lowest version."""
    known = [answer for answer in answers if answer.version]
    return min(known, key=lambda answer: list(map(int, str(answer.version).split("."))), default=None)


def fewest_databases(answers: Sequence[Learned]) -> int | None:
    """The lowest number of databases of all servers."""
    return min((answer.databases for answer in answers if answer.databases), default=None)


def all_select(answers: Sequence[Learned]) -> bool:
    """Whether all servers know SELECT."""
    return all(answer.selects for answer in answers)


def smallest_bulk(answers: Sequence[Learned]) -> int | None:
    """The lowest limit of an argument's bytes. Beyond its limit a server closes the connection, which clients share."""
    return min((answer.max_bulk for answer in answers if answer.max_bulk), default=None)


def most_arguments(answers: Sequence[Learned]) -> int:
    """How many arguments all servers accept in a request. Beyond its limit a server closes the connection, which
    clients share.

    Redis before 7.0 accepts 1,048,576 arguments (networking.c, processMultibulkBuffer).
    """
    oldest = lowest(answers)
    version = "" if oldest is None else oldest.version
    return MANY_ARGUMENTS if version and int(version.partition(".")[0]) >= _MANY_FROM else FEWER_ARGUMENTS


def some_raise(answers: Sequence[Learned]) -> bool:
    """Whether any server passes on the errors of scripts with line breaks."""
    return any(answer.raises for answer in answers)


def smallest_query(answers: Sequence[Learned]) -> int | None:
    """The lowest limit of the bytes of requests that a server keeps for one connection."""
    return min((answer.max_query for answer in answers if answer.max_query), default=None)


def output_limit(reply: Reply) -> int | None:
    """The hard limit of normal clients in a CONFIG GET reply of ``client-output-buffer-limit``; None without a limit.

    The value lists classes of clients, each with its hard limit, its soft limit and the seconds of the soft limit.
    Source: https://redis.io/docs/latest/develop/reference/clients/ (output buffer limits)
    """
    if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], bytes):
        return None
    words = reply[1].split()
    hard = dict(zip(words[::4], words[1::4], strict=False)).get(b"normal", b"")
    return int(hard) or None if hard.isdigit() else None


def _version(info: Reply) -> str | None:
    if not isinstance(info, bytes):
        return None
    for name, value in fields(info.decode("utf-8", "replace")):
        if name == "redis_version" and value.isascii() and all(part.isdigit() for part in value.split(".")):
            return value
    return None


def _modules(reply: Reply) -> tuple[Module, ...] | None:
    """The modules in a MODULE LIST reply; None for any other reply."""
    if not isinstance(reply, list):
        return None
    rows = [row for row in reply if isinstance(row, list)]
    return tuple(tuple(zip(row[::2], map(_value, row[1::2]), strict=False)) for row in rows)


def _client_fields(reply: Reply) -> tuple[str, ...]:
    """The names of the fields in a CLIENT INFO reply; empty for any other reply."""
    words = reply.decode("utf-8", "replace").split() if isinstance(reply, bytes) else []
    names = tuple(word.partition("=")[0] for word in words)
    return names if {"id", "addr", "cmd"} <= set(names) else ()


def _value(value: object) -> bytes | int | tuple[bytes, ...]:
    if isinstance(value, bytes | int):
        return value
    return tuple(item for item in value if isinstance(item, bytes)) if isinstance(value, list) else b""


def _is_clustered(info: Reply) -> bool:
    """Whether a server is in cluster mode. Valkey calls the field server_mode, unless it presents itself as Redis."""
    said = fields(info) if isinstance(info, bytes) else ()
    return any(name in _MODES and value.startswith(b"cluster") for name, value in said)


def _setting(reply: Reply) -> int | None:
    """The number in a CONFIG GET reply with one setting."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes) and reply[1].isdigit():
        return int(reply[1])
    return None
