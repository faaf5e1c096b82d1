"""Warnings about configurations that can be used, but that hardly do what is meant: rules between values, and values
that are written as text. Each rule yields findings without their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from proxy.commandline.findings import PROTECTED_MODE, Finding
from proxy.config import Config
from proxy.config.client_limits import PROTECTED
from proxy.config.section import parsers
from proxy.config.values import ReadFrom, parse_count, parse_workers
from proxy.config.words import LISTS, TABLES, path_of

_FEW_SECONDS = 30.0


def _warning(where: str, words: str) -> Finding:
    return Finding("warning", where, words)


def _note(where: str, words: str) -> Finding:
    return Finding("note", where, words)


def open_listeners(config: Config, default_open: bool = False) -> Iterator[Finding]:
    """Find listeners where clients of other machines need no password. ``default_open``: the user "default" of the
    aclfile needs none."""
    for each in config.protected_listeners:
        yield Finding("warning", "", PROTECTED.format(each.address), kind=PROTECTED_MODE)
    if config.aclfile is None:
        default_open = any(user.name == "default" and user.open for user in config.users)
    for each in config.listening:
        reached = each.has_strangers and each.admits("default") and not each.wants_certificates
        if reached and default_open and not config.protected_mode:
            yield _warning(
                "protected_mode",
                f"is false, and the user default needs no password: whoever reaches {each.address} can read, change "
                "and delete all data. Set a password under [[users]], unless your network lets nobody in",
            )
    admin = config.admin
    if admin.address is not None and not admin.address.loopback and not admin.token_sha256 and admin.username is None:
        yield _warning(
            "admin.address",
            f"is {admin.address}, where everybody who reaches it can read the metrics and the topology: set token_env "
            "or token_file under [admin], or listen on 127.0.0.1",
        )


def replica_reads(config: Config) -> Iterator[Finding]:
    """Find read policies that need replicas where there are none, and settings of replica reads without such reads."""
    if config.topology.kind == "static" and not config.topology.discover_replicas:
        lacking = [shard.name for shard in config.shards if not shard.replicas]
        for path, policy in _policies(config):
            if policy == "replica" and lacking:
                yield _warning(
                    path,
                    f'is "replica", but without replicas every read of {_some(lacking)} is an error: name replicas, '
                    'set topology.discover_replicas = true, or write "prefer_replica"',
                )
            elif policy != "primary" and len(lacking) == len(config.shards):
                yield _warning(
                    path,
                    f'is "{policy}", but no shard has a replica, so that every read goes to the primary: name '
                    "replicas, or set topology.discover_replicas = true",
                )
    if config.read_your_writes and config.read_policies == {"primary"}:
        yield _warning("read_your_writes", "has no effect: all reads go to the primary (read_from)")


def _policies(config: Config) -> Iterator[tuple[str, ReadFrom]]:
    if any(each.read_from is None for each in config.listening):
        yield "read_from", config.read_from
    of_others = [(f"listeners[{index}]", each.read_from) for index, each in enumerate(config.listeners)]
    of_others += [(f"users[{index}]", each.read_from) for index, each in enumerate(config.users)]
    for path, policy in of_others:
        if policy is not None:
            yield f"{path}.read_from", policy


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def times(config: Config) -> Iterator[Finding]:
    """Find times that contradict each other."""
    backend, limits, drain = config.backend, config.limits, config.drain_timeout
    request = f"backend.request_timeout ({backend.request_timeout:g}s)"
    if backend.retry_deadline > backend.request_timeout:
        yield _warning(
            "backend.retry_deadline",
            f"({backend.retry_deadline:g}s) is longer than {request}, which ends a request before: make it shorter, or "
            "request_timeout longer",
        )
    if backend.connect_timeout > backend.request_timeout:
        yield _warning(
            "backend.connect_timeout",
            f"({backend.connect_timeout:g}s) is longer than {request}: requests end before a connection is given up",
        )
    elif 0 < backend.retry_deadline < backend.connect_timeout:
        yield _warning(
            "backend.connect_timeout",
            f"({backend.connect_timeout:g}s) is longer than backend.retry_deadline ({backend.retry_deadline:g}s): a "
            "server is tried once only while requests wait for it",
        )
    if not backend.retry_deadline:
        yield _warning(
            "backend.retry_deadline", 'is "0s": every failover is an error for clients. Write a time, as in "10s"'
        )
    if not drain:
        yield _warning(
            "drain_timeout",
            'is "0s": on SIGTERM, requests that are in flight are cut off. Write a time above request_timeout, as in '
            '"20s"',
        )
    elif drain < backend.request_timeout:
        yield _warning(
            "drain_timeout",
            f"({drain:g}s) is shorter than {request}: the slowest requests are cut off on SIGTERM. Make it longer",
        )
    if not limits.tcp_keepalive:
        yield _warning(
            "limits.tcp_keepalive", 'is "0s": a client that vanishes without a word is never noticed. Write "300s"'
        )
    if 0 < limits.idle_timeout < _FEW_SECONDS:
        yield _warning(
            "limits.idle_timeout",
            f"({limits.idle_timeout:g}s) is short: connection pools find their idle connections closed. Write more "
            "than a pool keeps them idle, or 0s",
        )


def servers_named(config: Config) -> Iterator[Finding]:
    """Find topologies that hang on one server, and rules that have no effect on them."""
    if config.topology.kind == "cluster" and len(config.cluster.seeds) == 1:
        yield _note(
            "cluster.seeds", "names one node: if it is down when the proxy starts, nothing is found. Name three"
        )
    if config.topology.kind == "sentinel" and len(config.sentinel.sentinels) == 1:
        yield _note(
            "sentinel.sentinels",
            "names one sentinel: if it is down when the proxy starts, nothing is found. Name three",
        )
    single = len(config.shards) == 1 if config.topology.kind == "static" else len(config.sentinel.masters) == 1
    if single and config.colocate:
        yield _note("colocate", "has no effect as long as there is one shard: all keys are together")
    if (config.backend.tls or config.sentinel.tls) and not config.backend.tls_verify:
        yield _warning(
            "backend.tls_verify",
            "is false: whoever is on the way to the servers can pose as one. Set tls_ca_file, and leave tls_verify out",
        )
    if config.log.level == "debug":
        yield _note("log.level", 'is "debug", which writes very much: "info" is for every day')


RULES: tuple[Callable[[Config], Iterator[Finding]], ...] = (replica_reads, times, servers_named)


def written_as_text(file: Mapping[str, Any]) -> Iterator[Finding]:
    """Find booleans and numbers in the configuration file that are written as text, or booleans as numbers. They are
    accepted, since variables hold text only."""
    for name, model in TABLES.items():
        if name in LISTS:
            items = file.get(name, ())
            for index, item in enumerate(items if isinstance(items, list) else ()):
                yield from _in_table(item, model, (name, index))
        else:
            yield from _in_table(file.get(name, {}) if name else file, model, (name,) if name else ())


def _in_table(table: object, model: type[BaseModel], location: tuple[int | str, ...]) -> Iterator[Finding]:
    for key, value in table.items() if isinstance(table, Mapping) else ():
        if key not in model.model_fields or (not isinstance(value, str) and type(value) is not int):
            continue
        field, path = model.model_fields[key], path_of((*location, key))
        if field.annotation is bool:
            meant = "true" if str(value).strip().lower() in ("1", "true", "t", "yes", "y", "on") else "false"
            yield _warning(path, f"is true or false, and not a text or a number: write {key} = {meant}, without quotes")
        elif (
            isinstance(value, str)
            and value.strip().isdecimal()
            and not {parse_count, parse_workers}.isdisjoint(parsers(field))
        ):
            yield _warning(path, f"is a number, and not a text: write {key} = {int(value)}, without quotes")
