"""Warnings about a configuration on the machine where it is checked: its cores and descriptors, the folders of sockets,
and who can read the files with passwords and keys."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy.commandline.findings import Finding
from proxy.config import Config
from proxy.config.certificates import expires_at
from proxy.config.listener_checks import servers
from proxy.config.machine import cores
from proxy.config.secret import PASSWORD_KEYS, TOKEN_KEYS
from proxy.config.users import BACKEND_KEYS
from proxy.sharding.topology import build_topology
from proxy.transport.descriptors import divide, hard_limit

EXPIRES_SOON = 14 * 86400.0
"""The seconds before its end from which on a certificate should have been renewed."""
_SECRETS = frozenset((PASSWORD_KEYS[0], TOKEN_KEYS[0], BACKEND_KEYS[0]))
_SECRET_FILES = (PASSWORD_KEYS[2], TOKEN_KEYS[2], BACKEND_KEYS[2])
_KEY_FILES = ("tls_key_file", "key_file")


def machine_findings(config: Config, file: Mapping[str, Any], path: Path | None) -> Iterator[Finding]:
    """Find what of ``config`` does not go together with this machine. ``file`` has the content of the configuration
    file at ``path``."""
    yield from _processor(config)
    yield from _descriptors(config)
    yield from _sockets(config)
    yield from _readable(config, file, path)
    yield from _certificates(config)


def _warning(where: str, words: str) -> Finding:
    return Finding("warning", where, words)


def _processor(config: Config) -> Iterator[Finding]:
    if config.worker_count > cores():
        yield _warning(
            "workers",
            f"({config.worker_count}) are more than the cores that it may use here ({cores()}): more processes "
            'serve no more, and take memory. Write "auto"',
        )


def _descriptors(config: Config) -> Iterator[Finding]:
    limit = hard_limit()
    division = divide(limit, config, build_topology(config), config.worker_count)
    if division.all_clients < config.limits.max_clients:
        yield _warning(
            "limits.max_clients",
            f"({config.limits.max_clients}) is above what the limit of open files allows: with {limit} files there can "
            f"be {division.all_clients} clients. Raise the limit to {division.wanted} (ulimit -n, LimitNOFILE=, "
            "--ulimit nofile=), or lower max_clients",
        )


def _sockets(config: Config) -> Iterator[Finding]:
    short = len(config.listening) - len(config.listeners)
    named = [
        (f"listen[{index}]" if index < short else f"listeners[{index - short}].address", each.address)
        for index, each in enumerate(config.listening)
    ]
    if config.admin.address is not None:
        named.append(("admin.address", config.admin.address))
    for path, address in named:
        folder = os.path.dirname(address.host)
        if not address.unix:
            continue
        if not os.path.isdir(folder):
            yield _warning(
                path, f"is a socket in {folder}, which does not exist: make the folder, for the user of the proxy"
            )
        elif not os.access(folder, os.W_OK):
            yield _warning(path, f"is a socket in {folder}, where this user can make no file: change its owner or mode")
        elif os.path.exists(address.host) and not stat.S_ISSOCK(os.stat(address.host).st_mode):
            yield _warning(path, f"is a file that is no socket: choose another name than {address.host}")
    for path, address in servers(config):
        if address.unix and not os.path.exists(address.host):
            yield _warning(
                path, f"names the socket {address.host}, which does not exist: start the server, or correct it"
            )


def _readable(config: Config, file: Mapping[str, Any], path: Path | None) -> Iterator[Finding]:
    """Find files with secrets that every user of the machine can read."""
    if path is not None and _open_to_all(path) and _has_secret(file):
        yield _warning(
            str(path),
            "has passwords, and every user of this machine can read it: chmod 640 it, or write password_env or "
            "password_file in place of them",
        )
    folder = path.parent if path is not None else Path()
    for key, section in _sections(config):
        for name in _SECRET_FILES + _KEY_FILES:
            named = getattr(section, name, None)
            if named is not None and _open_to_all(folder / named):
                what = "a key" if name in _KEY_FILES else "a password"
                yield _warning(
                    f"{key}.{name}", f"names {named}, where every user of this machine can read {what}: chmod 640 it"
                )
    if config.aclfile is not None and _open_to_all(Path(config.aclfile)):
        yield _warning(
            "aclfile",
            f"names {config.aclfile}, where every user of this machine can read password hashes: chmod 640 it",
        )


def _sections(config: Config) -> Iterator[tuple[str, object]]:
    yield from (("backend", config.backend), ("sentinel", config.sentinel), ("admin", config.admin))
    yield from ((f"users[{index}]", user) for index, user in enumerate(config.users))
    for index, each in enumerate(config.listeners):
        if each.tls is not None:
            yield f"listeners[{index}].tls", each.tls
            yield from (
                (f"listeners[{index}].tls.certificates[{at}]", one) for at, one in enumerate(each.tls.certificates)
            )


def _open_to_all(path: Path) -> bool:
    """Whether every user can read the file, and get to it."""
    try:
        folders = path.resolve().parents
        return bool(path.stat().st_mode & stat.S_IROTH) and all(each.stat().st_mode & stat.S_IXOTH for each in folders)
    except OSError:
        return False


def _has_secret(data: object) -> bool:
    """Whether the content of a file has a password or a token in plain text."""
    if isinstance(data, Mapping):
        return any(
            (key in _SECRETS and isinstance(value, str) and bool(value))
            or (key == "rules" and isinstance(value, str) and any(word.startswith(">") for word in value.split()))
            or _has_secret(value)
            for key, value in data.items()
        )
    return isinstance(data, list) and any(map(_has_secret, data))


def _certificates(config: Config) -> Iterator[Finding]:
    """Find certificates of the proxy, and authorities, that are not valid any more, or not for long."""
    now = time.time()
    for key, section in _sections(config):
        for name in ("tls_cert_file", "tls_ca_file", "cert_file", "ca_file"):
            file = getattr(section, name, None)
            if file is None:
                continue
            try:
                left = expires_at(file) - now
            except (OSError, ValueError, KeyError):
                continue  # the check of the configuration says what is wrong with the file
            if left < EXPIRES_SOON:
                yield Finding("warning", f"{key}.{name}", f"names {file}, {expiry_words(left)}")


def expiry_words(left: float) -> str:
    """Return the words for a certificate that is valid for ``left`` more seconds."""
    days = round(abs(left) / 86400)
    number = "1 day" if days == 1 else f"{days} days"
    return (
        f"whose certificate expired {number} ago: renew it"
        if left < 0
        else f"whose certificate expires in {number}: renew it"
    )
