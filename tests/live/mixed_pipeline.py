"""A pipeline of commands of all kinds, and the replies that it must get."""

import threading
from collections.abc import Iterator

from proxy.resp import encode
from tests.support.site import Site
from tests.support.wire import Argument, Wire


def mixed(count: int) -> Iterator[tuple[tuple[Argument, ...], bytes]]:
    """Commands of all kinds with the replies they must get: one key, many keys in many shards, none at all."""
    for number in range(count):
        key = f"key:{number}"
        match number % 8:
            case 0 | 4:
                yield ("SET", key, number), b"+OK\r\n"
            case 1 | 5:
                yield ("GET", f"key:{number - 1}"), encode.bulk(str(number - 1))
            case 2:
                yield ("ECHO", number), encode.bulk(str(number))
            case 3:
                yield ("MSET", f"{key}a", 1, f"{key}b", 2, f"{key}c", 3), b"+OK\r\n"
            case 6:
                keys = [f"key:{number - 3}{letter}" for letter in "cabd"]
                yield ("MGET", *keys), encode.array([*map(encode.bulk, "312"), b"$-1\r\n"])
            case _:
                yield (
                    ("NOSUCH", number),
                    encode.error(f"ERR unknown command 'NOSUCH', with args beginning with: '{number}' "),
                )


def check_pipeline(site: Site, count: int) -> None:
    """``count`` commands in one write to the proxy come back whole and in order."""
    with site.client() as client:
        check_order(client, count)


def check_order(client: Wire, count: int) -> None:
    """``count`` commands in one write come back whole and in order."""
    commands = list(mixed(count))
    data = b"".join(encode.request(args) for args, _ in commands)
    writer = threading.Thread(target=client.send, args=(data,))
    writer.start()
    replies = client.replies(count)
    writer.join()
    assert client.ask("PING") == b"+PONG\r\n"
    wrong = [pair for pair in zip(commands, replies, strict=True) if pair[0][1] != pair[1]]
    assert not wrong, wrong[:3]
