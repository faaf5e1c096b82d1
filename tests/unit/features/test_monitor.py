"""What MONITOR shows, and what it hides."""

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.client.client import Client
from proxy.features.monitor import MonitoringClients
from tests.support.sessions import TABLE, Room


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("AUTH secret", '"AUTH" "(redacted)"'),
        ("auth anna secret", '"auth" "(redacted)" "(redacted)"'),
        ("HELLO 3 auth anna secret SETNAME me", '"HELLO" "3" "auth" "(redacted)" "(redacted)" "SETNAME" "me"'),
        ("HELLO 3 SETNAME auth AUTH anna secret", '"HELLO" "3" "SETNAME" "auth" "AUTH" "(redacted)" "(redacted)"'),
        ("HELLO 3 NOPE AUTH auth secret x", '"HELLO" "3" "NOPE" "AUTH" "(redacted)" "(redacted)" "x"'),
        ("HELLO AUTH anna secret", '"HELLO" "AUTH" "(redacted)" "(redacted)"'),
        ("ECHO auth", '"ECHO" "auth"'),
    ],
)
def test_passwords_are_not_shown(line: str, shown: str) -> None:
    lines: list[bytes] = []
    monitoring = MonitoringClients(lambda: None, lambda: 12.5)
    monitoring.add(cast(Client, SimpleNamespace(number=1, window=SimpleNamespace(push=lines.append))))
    args = [word.encode() for word in line.split()]
    fact = TABLE.resolve(args)
    assert fact is not None
    monitoring.show(Room().enter(), fact, args)
    assert lines == [f"+12.500000 [0 127.0.0.1:5001] {shown}\r\n".encode()]
