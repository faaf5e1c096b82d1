"""The command ``slotgate``: serve, demo, check, commands.

Exit codes: 0 done, 1 a configuration or a server that can not be used, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from proxy import __version__
from proxy.compiled import engine
from proxy.config import Config, User, load, parse_listen
from proxy.config.checks import contradictions
from proxy.config.client_limits import PROTECTED
from proxy.config.colocate import ColocateSection
from proxy.config.environment import sets_topology
from proxy.config.listeners import ListenerSection
from proxy.config.machine import cores
from proxy.config.values import ReadFrom, parse_workers
from proxy.errors import ConfigError, SlotgateError
from proxy.sharding.topology import build_topology, even_ranges, format_ranges

# 128 + SIGPIPE: the exit code that a shell reports for any other tool in `... | head`.
EXIT_PIPE = 141
_EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors and no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command with ``argv`` (by default the process's arguments without its name), and return the exit code."""
    parser = _build_parser()
    try:
        options = parser.parse_args(argv)
        code: int = options.run(options)
        # The flush happens here because a closed pipe would cause a traceback at exit.
        sys.stdout.flush()
    except ConfigError as error:
        for where, words in error.problems:
            print(f"slotgate: {where}: {words}", file=sys.stderr)
        return 1
    except SlotgateError as error:
        print(f"slotgate: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return code


def _build_parser() -> _Parser:
    parser = _Parser(prog="slotgate", description="A RESP-speaking sharding proxy in front of Redis servers.")
    parser.add_argument("--version", action="version", version=f"slotgate {__version__} (engine: {engine()})")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the proxy", epilog=_SOURCES)
    _add_config_options(serve)
    serve.set_defaults(run=_serve, parser=serve)

    check = commands.add_parser("check", help="say every problem of a configuration, or what it means", epilog=_SOURCES)
    _add_config_options(check)
    check.set_defaults(run=_check, parser=check)

    listing = commands.add_parser("commands", help="list the commands and what the proxy does with each")
    listing.add_argument("--markdown", action="store_true", help="as docs/commands.md")
    listing.set_defaults(run=_commands)

    demo = commands.add_parser("demo", help="start local servers and the proxy in front of them")
    demo.add_argument("--shards", type=_at_least(1), default=3, metavar="N", help="primaries (default: 3)")
    demo.add_argument("--replicas", type=_at_least(0), default=1, metavar="N", help="replicas of each (default: 1)")
    demo.add_argument(
        "--listen", type=_listen, default="127.0.0.1:6380", metavar="HOST:PORT", help="(default: %(default)s)"
    )
    demo.add_argument(
        "--topology", choices=("cluster", "static", "sentinel"), default="static", help="(default: static)"
    )
    demo.set_defaults(run=_demo)
    return parser


_SOURCES = "Flags win over SLOTGATE_ environment variables, those over the file, the file over the defaults."


def _add_config_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-c", "--config", type=Path, metavar="FILE", help="the configuration, TOML")
    add("--listen", action="append", metavar="HOST:PORT", help="where clients connect; may be given several times")
    topology = parser.add_mutually_exclusive_group()
    topology.add_argument(
        "--static", metavar="PRIMARY[/REPLICA...],...", help="the shards: host:port of each primary and its replicas"
    )
    topology.add_argument("--cluster", metavar="HOST:PORT,...", help="seeds of a Redis Cluster")
    topology.add_argument("--sentinel", metavar="HOST:PORT,...", help="sentinels; needs --masters")
    add("--masters", metavar="NAME,...", help="the master names that are the shards; needs --sentinel")
    add("--read-from", choices=get_args(ReadFrom), help="which servers of a shard serve reads")
    add("--workers", type=_workers, metavar="N|auto", help='processes that serve; "auto" is one for each core')
    add("--admin", metavar="HOST:PORT", help='where /metrics and /healthz are; "" is off')


def _load(options: argparse.Namespace) -> Config:
    """Return the configuration from the file, the environment and the flags. Raises ConfigError."""
    if (options.masters is None) != (options.sentinel is None):
        options.parser.error("--sentinel and --masters need each other")
    named = options.static or options.cluster or options.sentinel
    if options.config is None and named is None and not sets_topology(os.environ):
        options.parser.error(
            "no shards are named: give -c FILE, --static, --cluster, --sentinel, or set SLOTGATE_SHARDS"
        )
    return load(options.config, _flags(options))


def _flags(options: argparse.Namespace) -> Mapping[str, object]:
    """Return the options that were given, in the structure of the configuration file."""
    given = {
        "listen": options.listen,
        # Like the flags of a topology, it replaces all that the file says.
        "listeners": None if options.listen is None else [],
        "read_from": options.read_from,
        "workers": options.workers,
        "admin": options.admin,
    }
    flags: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    # Flags for one kind of topology replace everything that the file says about the other kinds.
    if options.static is not None:
        flags |= _NOWHERE | {"shards": parse_static(options.static), "topology": {"kind": "static"}}
    elif options.cluster is not None:
        flags |= _NOWHERE | {"cluster": {"seeds": options.cluster.split(",")}, "topology": _found("cluster")}
    elif options.sentinel is not None:
        asked = {"sentinels": options.sentinel.split(","), "masters": options.masters.split(",")}
        flags |= _NOWHERE | {"sentinel": asked, "topology": _found("sentinel")}
    return flags


_NOWHERE: dict[str, object] = {"shards": [], "cluster": {"seeds": []}, "sentinel": {"sentinels": [], "masters": []}}


def _found(kind: str) -> dict[str, object]:
    return {"kind": kind, "discover_replicas": False}


def parse_static(text: str) -> list[dict[str, object]]:
    """Return ``PRIMARY[/REPLICA...],...`` as ``[[shards]]``. A unix socket can not have replicas here, because its path
    contains slashes."""
    shards: list[dict[str, object]] = []
    for part in text.split(","):
        primary, *replicas = [part] if part.strip().startswith("unix:") else part.split("/")
        shards.append({"primary": primary, "replicas": replicas})
    return shards


def _serve(options: argparse.Namespace) -> int:
    config = _load(options)
    # The import is here so that `check` and `commands` start without an event loop. It makes no garbage.
    gc.disable()
    from proxy.worker.server import run

    gc.enable()
    return run(config, str(options.config.absolute()) if options.config else "")


def _check(options: argparse.Namespace) -> int:
    try:
        config = _load(options)
        from proxy.worker.audit_log import audit_rules_of  # imported here for the same reason as in `_serve`
        from proxy.worker.configured_users import users_of

        users = [user.name for user in users_of(config) if user.enabled]
        audit_rules_of(config)
    except ConfigError as error:
        for where, words in error.problems:
            print(f"{where}: {words}")
        return 1
    for name, value in _summary(config, users):
        print(f"{name:<10} {value}")
    return 0


def _summary(config: Config, users: Sequence[str]) -> list[tuple[str, str]]:
    topology = build_topology(config)
    lines = [("protected", PROTECTED.format(listener.address)) for listener in config.protected_listeners]
    lines += [("warning", words) for words in contradictions(config)]
    lines += [
        ("listen", ", ".join(map(_listener_words, config.listening))),
        ("admin", str(config.admin)),
        ("workers", "1" if config.workers == 1 else f"{config.workers} ({cores()} cores here)"),
        ("read_from", config.read_from),
        ("users", ", ".join(users if config.aclfile else map(_user_words, config.users))),
    ]
    if config.limits.memory != "auto":
        lines.append(("memory", f"{config.memory_share // 2**20} MB for each worker"))
    if config.presents_cluster:
        lines.append(("present_as", config.present_as))
    if config.topology.kind == "cluster":
        lines.append(("cluster", f"asked of {', '.join(map(str, config.cluster.seeds))}"))
    if config.topology.kind == "sentinel":
        lines.append(("sentinel", f"asked of {', '.join(map(str, config.sentinel.sentinels))}"))
        for name, ranges in zip(config.sentinel.masters, even_ranges(len(config.sentinel.masters)), strict=True):
            lines.append(("shard", f"{name}: slots {format_ranges(ranges)}"))
    for index, shard in enumerate(topology.shards):
        replicas = f", replicas {', '.join(map(str, shard.replicas))}" if shard.replicas else ""
        slots = format_ranges(topology.ranges(index))
        lines.append(("shard", f"{shard.name}: slots {slots}, primary {shard.primary}{replicas}"))
    lines.extend(("colocate", _rule_words(rule)) for rule in config.colocate)
    if config.audit.path is not None:
        lines.append(("audit", f"{config.audit.path}, {len(config.audit.rules)} rules, on_full {config.audit.on_full}"))
    if config.keyless_shard is not None:
        lines.append(("scripts", f"those that declare no key run on {config.keyless_shard}"))
    return lines


def _listener_words(listener: ListenerSection) -> str:
    words = []
    for key in type(listener).model_fields:
        value = getattr(listener, key)
        if key != "address" and key in listener.model_fields_set:
            words.append(f"{key} {', '.join(value) if isinstance(value, tuple) else value}")
    return f"{listener.address} ({'; '.join(words)})" if words else str(listener.address)


def _user_words(user: User) -> str:
    return f"{user.name} (no password)" if user.nopass else user.name


def _rule_words(rule: ColocateSection) -> str:
    tags = "" if rule.hash_tags else "; hash tags do not count"
    if rule.name is not None:
        return f"keys that begin with {', '.join(map(repr, rule.prefixes))}: all in the slot of {rule.name!r}{tags}"
    return f"keys that begin with {rule.prefix!r}: hashed up to field {rule.upto}, divided by {rule.separator!r}{tags}"


def _commands(options: argparse.Namespace) -> int:
    from proxy.commands import listing, markdown
    from proxy.commands.table import CommandTable

    render = markdown.render if options.markdown else listing.render
    print(render(CommandTable.with_modules()).rstrip("\n"))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from proxy.devservers.demo import run

    return run(shards=options.shards, replicas=options.replicas, listen=options.listen, topology=options.topology)


def _at_least(lowest: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number, ``lowest`` or more."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} on")
        return int(text)

    return number


def _workers(text: str) -> int | str:
    """Convert a whole number from 1 on, or "auto"; a type for argparse."""
    try:
        return parse_workers(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _listen(text: str) -> str:
    """Check an address to listen at, and return the text as it was written; a type for argparse."""
    try:
        parse_listen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
