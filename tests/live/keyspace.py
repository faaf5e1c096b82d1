"""Filling a keyspace, and looking at all of it."""

import re

from tests.support.wire import Argument, Wire, pack


def fill(client: Wire, count: int, prefix: str = "key:") -> set[bytes]:
    """Set ``count`` keys, and return them."""
    keys = {f"{prefix}{number}".encode() for number in range(count)}
    client.send(b"".join(pack("SET", key, "x") for key in keys))
    assert set(client.replies(count)) == {b"+OK\r\n"}
    return keys


def scan_step(client: Wire, cursor: bytes, *options: Argument) -> tuple[bytes, list[bytes]]:
    """The next cursor and the keys of one SCAN."""
    reply = client.value("SCAN", cursor, *options)
    assert isinstance(reply, list), reply
    assert 0 <= int(reply[0]) < 2**63
    return reply[0], reply[1]


def scan(client: Wire, *options: Argument) -> list[bytes]:
    """All keys that SCAN finds, duplicates and all."""
    found: list[bytes] = []
    cursor = b"0"
    for _ in range(100_000):
        cursor, keys = scan_step(client, cursor, *options)
        found += keys
        if cursor == b"0":
            return found
    raise AssertionError("SCAN does not end")


def info(client: Wire, *sections: str) -> dict[str, dict[str, str]]:
    """INFO as sections of fields."""
    text = client.value("INFO", *sections)
    if isinstance(text, bytes):
        text = text.decode()
    assert isinstance(text, str)
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"\r\n(?=# )", text):
        head, *lines = section.strip().splitlines()
        assert head.startswith("# "), head
        found[head[2:]] = dict(line.split(":", 1) for line in lines)
    return found
