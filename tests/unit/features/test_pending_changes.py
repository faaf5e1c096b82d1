"""The commands that subscribe and are not confirmed yet: which publishers wait for them."""

from types import SimpleNamespace
from typing import cast

from proxy.features import commands
from proxy.features.host import Host
from proxy.features.state import Modes
from proxy.planning.channels import Kind
from proxy.pubsub.beginnings import Beginnings
from proxy.transport.clock import running_clock


def client() -> Modes:
    """The state of a client without servers."""
    hub = SimpleNamespace(beginnings=Beginnings({kind: {} for kind in Kind}, running_clock(), None))
    host = SimpleNamespace(session=SimpleNamespace(protocol=3), service=SimpleNamespace(hub=hub))
    return Modes(cast(Host, host))


async def test_publishers_wait_for_no_command_that_is_refused() -> None:
    """It was put back, and refused by rules that have changed meanwhile, for instance."""
    modes = client()
    beginnings = modes.client.service.hub.beginnings
    changes = modes.listening().changes
    changes.announce(Kind.CHANNEL, [b"c"])
    over: list[bool] = []
    wait = beginnings.wait(beginnings.of(Kind.CHANNEL, b"c"), [], lambda: over.append(True))
    assert not wait.over
    commands.spoil(modes, None)
    assert wait.over
    assert over == [True]
    assert not beginnings.all()
    # The next command is announced under its own names.
    changes.announce(Kind.CHANNEL, [b"d"])
    assert beginnings.of(Kind.CHANNEL, b"d")
    assert not beginnings.of(Kind.CHANNEL, b"c")
