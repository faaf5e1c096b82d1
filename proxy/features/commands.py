"""The table of the proxy's own commands: the handler of each, and the checks that features make ahead of a command.

A command in the table has the handling ``SESSION`` or ``MODE``.
"""

from collections.abc import Mapping

from proxy import errors
from proxy.commands.facts import Fact
from proxy.features import monitor, publish, reload, script_kill, script_watch, slotgate, tracking, transactions, wait
from proxy.features.own_dispatch import FeatureCommand
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.session import commands as session_commands
from proxy.session.commands import SESSION_COMMANDS, SessionRow
from proxy.session.own_command import InMulti

OwnRow = SessionRow | FeatureCommand

_BEGINS = FeatureCommand(publish.subscribe, publish.told_at_exec, while_subscribed=True, in_multi=InMulti.ANSWERED)
_ENDS = FeatureCommand(publish.unsubscribe, publish.told_at_exec, while_subscribed=True, in_multi=InMulti.ANSWERED)
OWN_COMMANDS: Mapping[str, OwnRow] = {
    **SESSION_COMMANDS,
    "client|caching": FeatureCommand(tracking.choose),
    "client|tracking": FeatureCommand(tracking.track),
    "discard": FeatureCommand(transactions.discard_command, in_multi=InMulti.AT_ONCE),
    "exec": FeatureCommand(transactions.execute, in_multi=InMulti.AT_ONCE),
    "function|kill": FeatureCommand(script_kill.ask_all),
    "function|stats": FeatureCommand(script_kill.ask_all),
    "monitor": FeatureCommand(monitor.monitor),
    "multi": FeatureCommand(transactions.multi, in_multi=InMulti.AT_ONCE),
    "psubscribe": _BEGINS,
    "publish": FeatureCommand(publish.publish, in_multi=InMulti.SENT),
    "punsubscribe": _ENDS,
    "script|kill": FeatureCommand(script_kill.ask_all),
    "slotgate|config": FeatureCommand(slotgate.say(slotgate.config)),
    "slotgate|help": FeatureCommand(slotgate.say(slotgate.say_help)),
    "slotgate|nodes": FeatureCommand(slotgate.say(slotgate.nodes)),
    "slotgate|reload": FeatureCommand(reload.reload),
    "slotgate|scripts": FeatureCommand(script_watch.scripts),
    "slotgate|send": FeatureCommand(slotgate.send),
    "slotgate|where": FeatureCommand(slotgate.say_where),
    "spublish": FeatureCommand(publish.publish, in_multi=InMulti.SENT),
    "ssubscribe": _BEGINS,
    "subscribe": _BEGINS,
    "sunsubscribe": _ENDS,
    "unsubscribe": _ENDS,
    "unwatch": FeatureCommand(transactions.unwatch, transactions.unwatch_at_exec, in_multi=InMulti.ANSWERED),
    "wait": FeatureCommand(wait.begin, in_multi=InMulti.SENT),
    "waitaof": FeatureCommand(wait.begin, in_multi=InMulti.SENT),
    "watch": FeatureCommand(transactions.watch, in_multi=InMulti.AT_ONCE),
}
"""The rows by the name of the fact."""
WHILE_SUBSCRIBED = frozenset(name for name, row in OWN_COMMANDS.items() if row.while_subscribed)
"""The commands that a client in RESP2 may send while it is subscribed."""
_KEEP_CACHING = frozenset(("client|caching", "client|tracking", "multi"))
"""The commands after which CLIENT CACHING still applies to the next one."""


def find(name: str) -> OwnRow:
    """The row of the command ``name`` (as a fact names it), whose handling says that it is the proxy's own."""
    return OWN_COMMANDS.get(name) or session_commands.find(name)


def take(modes: Modes, request: Request) -> bool | None:
    """Carry out a command whose arity is right and which the client may call. Returns True if that was done, False if
    the command must wait, and None if no feature handles it."""
    client, fact = modes.client, request.fact
    row = OWN_COMMANDS.get(fact.name)
    subscriptions = modes.subscriptions
    if subscriptions is not None:
        if subscriptions.precedes(fact):
            return False
        if subscriptions.begins and fact.name == "ping":
            subscriptions.changes.ping(request.args, client.hold(fact))
            return True
        if subscriptions.restricted and (row is None or not row.while_subscribed):
            client.refuse_for_good(fact, errors.in_subscribe_mode(fact.name))
            return True
    if modes.queue is not None and (row is None or row.in_multi is not InMulti.AT_ONCE):
        return transactions.enqueue(modes, request)
    if fact.name == "reset" and subscriptions is not None and subscriptions.leaves():
        return False
    if modes.tracker is not None and fact.name in tracking.MOVING and not client.alone():
        return False
    if barred := monitor.bars(modes, fact):
        client.refuse(fact, barred)
        return True
    if modes.tracker is not None:
        modes.tracker.taken(fact)
    if not isinstance(row, FeatureCommand):
        return None
    done = row.carry_out(modes, request)
    if done and modes.tracker is not None and fact.name not in _KEEP_CACHING:
        modes.tracker.passed()
    return done


def spoil(modes: Modes, fact: Fact | None) -> None:
    """Mark the transaction as spoiled, as a command was refused before it could be inspected. Publishers do not wait
    any more for the command."""
    if modes.subscriptions is not None:
        modes.subscriptions.changes.withdraw()
    transactions.spoil(modes, fact)


def let_go(modes: Modes) -> None:
    """End all features that the client uses, as it is gone or has sent RESET."""
    if modes.block is not None:
        modes.block.cancel()
    if modes.sent is not None:
        modes.sent.cancel()
    modes.client.service.clients.monitoring.remove(modes.client)
    tracking.stop(modes)
    transactions.discard(modes)
    if modes.subscriptions is not None:
        modes.subscriptions.gone()
