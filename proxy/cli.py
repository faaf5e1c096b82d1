"""The command ``slotgate``: serve, check, init, config, demo, commands.

Exit codes: 0 done, 1 a configuration or a server that can not be used, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import get_args

from proxy import __version__
from proxy.commandline.parser import SHELLS, CommandParser, completion, manual
from proxy.compiled import engine
from proxy.config import load, parse_listen
from proxy.config.environment import file_named, sets_topology
from proxy.config.values import ReadFrom, parse_static, parse_workers
from proxy.errors import ConfigError, SlotgateError

# 128 + SIGPIPE: the exit code that a shell reports for any other tool in `... | head`.
EXIT_PIPE = 141
_EXIT_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command with ``argv`` (by default the process's arguments without its name), and return the exit code."""
    parser = _build_parser()
    try:
        options = parser.parse_args(argv)
        code: int = options.run(options)
        # The flush happens here because a closed pipe would cause a traceback at exit.
        sys.stdout.flush()
    except ConfigError as error:
        for line in error.lines():
            print(f"slotgate: {line}", file=sys.stderr)
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


def _build_parser() -> CommandParser:
    parser = CommandParser(prog="slotgate", description="A RESP-speaking sharding proxy in front of Redis servers.")
    parser.add_argument("--version", action="version", version=f"slotgate {__version__} (engine: {engine()})")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the proxy", epilog=_SOURCES)
    _add_config_options(serve)
    serve.set_defaults(run=_serve, parser=serve)

    check = commands.add_parser("check", help="say every problem of a configuration, or what it means", epilog=_SOURCES)
    _add_config_options(check)
    check.add_argument("--connect", action="store_true", help="ask every server and sentinel too")
    check.add_argument("--show", action="store_true", help="print every value with its source")
    check.add_argument("--strict", action="store_true", help="fail on warnings too")
    check.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    check.set_defaults(run=_check, parser=check)

    init = commands.add_parser("init", help="write a commented configuration to start with")
    _add_topology_options(init)
    init.add_argument("-o", "--output", type=Path, metavar="FILE", help="the file to write (default: print it)")
    init.set_defaults(run=_init, parser=init)

    about = commands.add_parser("config", help="say what a configuration may contain")
    kinds = about.add_subparsers(title="what to say", metavar="WHAT", required=True)
    kinds.add_parser("schema", help="the JSON Schema of the file, for editors").set_defaults(run=_schema)

    listing = commands.add_parser("commands", help="list the commands and what the proxy does with each")
    listing.add_argument("--markdown", action="store_true", help="as docs/commands.md")
    listing.set_defaults(run=_commands)

    completing = commands.add_parser("completion", help="print what a shell needs to complete the command")
    completing.add_argument("shell", choices=SHELLS, help="the shell")
    completing.set_defaults(run=lambda options: _print(completion(parser, options.shell)))
    commands.add_parser("man", help="print the manual page").set_defaults(run=lambda _: _print(manual(parser)))

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
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="the configuration, TOML (default: $SLOTGATE_CONFIG)"
    )
    _add_topology_options(parser)


def _add_topology_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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


def _need_each_other(options: argparse.Namespace) -> None:
    if (options.masters is None) != (options.sentinel is None):
        options.parser.error("--sentinel and --masters need each other")


def _sources(options: argparse.Namespace) -> tuple[Path | None, Mapping[str, object]]:
    """Return the configuration file and the flags, in the structure of the file."""
    _need_each_other(options)
    path = options.config or file_named(os.environ)
    named = options.static or options.cluster or options.sentinel
    if path is None and named is None and not sets_topology(os.environ):
        options.parser.error(
            "no shards are named: give -c FILE, --static, --cluster, --sentinel, or set SLOTGATE_SHARDS"
        )
    return path, _flags(options)


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


def _serve(options: argparse.Namespace) -> int:
    path, flags = _sources(options)
    config = load(path, flags)
    # The import is here so that `check` and `commands` start without an event loop. It makes no garbage.
    gc.disable()
    from proxy.worker.server import run

    gc.enable()
    return run(config, partial(load, path, flags), str(path.absolute()) if path else "")


def _check(options: argparse.Namespace) -> int:
    from proxy.commandline.check import CheckOptions, check

    path, flags = _sources(options)
    wanted = CheckOptions(options.connect, options.show, options.strict, options.format == "json")
    text, code = check(path, flags, os.environ, wanted)
    print(text)
    return code


def _init(options: argparse.Namespace) -> int:
    from proxy.commandline.starting_file import starting_file

    _need_each_other(options)
    text = starting_file(_flags(options))
    if options.output is None:
        print(text, end="")
        return 0
    try:
        # Passwords may be put into it, so that nobody else reads it.
        with open(os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SlotgateError(f"{options.output} exists already: choose another name, or remove it") from None
    except OSError as error:
        raise SlotgateError(f"{options.output} can not be written: {error.strerror}") from None
    print(f"wrote {options.output}: look through it, then run slotgate check -c {options.output}")
    return 0


def _schema(_options: argparse.Namespace) -> int:
    from proxy.commandline.schema import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _commands(options: argparse.Namespace) -> int:
    from proxy.commands import listing, markdown
    from proxy.commands.table import CommandTable

    render = markdown.render if options.markdown else listing.render
    print(render(CommandTable.with_modules()).rstrip("\n"))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from proxy.devservers.demo import run

    return run(shards=options.shards, replicas=options.replicas, listen=options.listen, topology=options.topology)


def _print(text: str) -> int:
    print(text.rstrip("\n"))
    return 0


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
