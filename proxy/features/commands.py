"""Which feature carries out a command, and what a command means for what its client is in the middle of.

A command that belongs here has the handling ``MODE``; ``COMMANDS`` says who carries it out.
"""

from collections.abc import Callable, Mapping

from proxy.commands.facts import Fact
from proxy.features import monitor, publish, script_kill, slotgate, tracking, transactions, wait
from proxy.features.request import Request
from proxy.features.state import Modes

Command = Callable[[Modes, Request], bool]
"""Carries out a request of one command. False if it must wait (nothing was done)."""
_KEEP_CACHING = frozenset(("client|caching", "client|tracking", "multi"))
"""Behind these CLIENT CACHING is still for what follows."""
COMMANDS: Mapping[str, Command] = {
    **slotgate.COMMANDS,
    **monitor.COMMANDS,
    **transactions.COMMANDS,
    **script_kill.COMMANDS,
    **tracking.COMMANDS,
    **publish.COMMANDS,
    **wait.COMMANDS,
}
"""By the fact's name."""


def take(modes: Modes, request: Request) -> bool | None:
    """Carry out a command whose arity is right and which the client may call: whether that was done (False: it must
    wait), or None if it belongs to no feature."""
    client, fact = modes.client, request.fact
    if modes.subscriptions is not None and modes.subscriptions.answers(fact, request.args):
        return True
    if modes.queue is not None and fact.name not in transactions.AT_ONCE:
        transactions.enqueue(modes, request)
        return True
    if fact.name == "reset" and modes.subscriptions is not None and modes.subscriptions.leaves():
        return False
    if modes.tracker is not None and fact.name in tracking.MOVING and not client.alone():
        return False
    if barred := monitor.bars(modes, fact):
        client.refuse(fact, barred)
        return True
    if modes.tracker is not None:
        modes.tracker.taken(fact)
    command = COMMANDS.get(fact.name)
    if command is None:
        return None
    done = command(modes, request)
    if done and modes.tracker is not None and fact.name not in _KEEP_CACHING:
        modes.tracker.passed()
    return done


def spoil(modes: Modes, fact: Fact | None) -> None:
    """A command was refused before it could be looked at."""
    transactions.spoil(modes, fact)


def let_go(modes: Modes) -> None:
    """The client is gone, or starts over (RESET): end everything that it is in the middle of."""
    if modes.block is not None:
        modes.block.cancel()
    if modes.sent is not None:
        modes.sent.cancel()
    modes.client.service.clients.monitoring.remove(modes.client)
    tracking.stop(modes)
    transactions.discard(modes)
    if modes.subscriptions is not None:
        modes.subscriptions.gone()
