"""What a server or a proxy says of its clients: CLIENT LIST and INFO as tests read them."""

import time

from tests.support.wire import Wire

PATIENCE = 30.0


def until_blocked(client: Wire, count: int = 1) -> None:
    """Wait until the server or proxy has so many clients that block."""
    deadline = time.monotonic() + PATIENCE
    wanted = f"blocked_clients:{count}\r\n".encode()
    while wanted not in client.ask("INFO", "clients"):
        assert time.monotonic() < deadline, client.ask("INFO", "clients")
        time.sleep(0.002)


def fields(text: object) -> list[dict[str, str]]:
    """The lines of CLIENT LIST or INFO."""
    content = text.decode() if isinstance(text, bytes) else text
    assert isinstance(content, str)
    return [dict(field.split("=", 1) for field in line.split(" ")) for line in content.splitlines()]


def listed(client: Wire, *args: str | int) -> list[dict[str, str]]:
    """CLIENT LIST."""
    return fields(client.value("CLIENT", "LIST", *args))
