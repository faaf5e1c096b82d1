"""The handlers of the proxy's own commands that depend on clients alone.

These rows are a part of the table in ``proxy.features.commands``, which has the commands of the features as well.
"""

from collections.abc import Mapping
from functools import cache

from proxy.resp import encode
from proxy.session import acl_commands, client_commands, cluster_commands, cross_worker, login_commands, session
from proxy.session.cross_worker import CrossWorkerCommand
from proxy.session.own_command import InMulti, SessionCommand, TimedCommand

SessionRow = SessionCommand | TimedCommand | CrossWorkerCommand

SESSION_COMMANDS: Mapping[str, SessionRow] = {
    "acl|deluser": acl_commands.DELUSER,
    "acl|dryrun": SessionCommand(acl_commands.dryrun),
    "acl|genpass": SessionCommand(acl_commands.genpass),
    "acl|getuser": SessionCommand(acl_commands.getuser),
    "acl|list": SessionCommand(acl_commands.list_users),
    "acl|load": acl_commands.LOAD,
    "acl|log": acl_commands.LOG,
    "acl|save": SessionCommand(acl_commands.save),
    "acl|setuser": acl_commands.SETUSER,
    "acl|users": SessionCommand(acl_commands.users),
    "acl|whoami": SessionCommand(acl_commands.whoami),
    "asking": SessionCommand(cluster_commands.asking),
    "auth": SessionCommand(login_commands.auth),
    "client|capa": SessionCommand(client_commands.capa),
    "client|getname": SessionCommand(client_commands.getname),
    "client|getredir": SessionCommand(client_commands.getredir),
    "client|id": SessionCommand(client_commands.number),
    "client|import-source": SessionCommand(client_commands.refused("client|import-source")),
    "client|info": TimedCommand(client_commands.info),
    "client|kill": cross_worker.KILL,
    "client|list": cross_worker.LIST,
    "client|no-evict": SessionCommand(client_commands.switch("no_evict")),
    "client|no-touch": SessionCommand(client_commands.switch("no_touch")),
    "client|pause": cross_worker.PAUSE,
    "client|reply": SessionCommand(client_commands.reply),
    "client|setinfo": SessionCommand(client_commands.setinfo),
    "client|setname": SessionCommand(client_commands.setname),
    "client|trackinginfo": SessionCommand(client_commands.trackinginfo),
    "client|unblock": cross_worker.UNBLOCK,
    "client|unpause": cross_worker.UNPAUSE,
    "cluster|count-failure-reports": SessionCommand(cluster_commands.of_node(encode.ZERO)),
    "cluster|info": SessionCommand(cluster_commands.info),
    "cluster|keyslot": SessionCommand(cluster_commands.keyslot),
    "cluster|links": SessionCommand(cluster_commands.links),
    "cluster|myid": SessionCommand(cluster_commands.myid),
    "cluster|myshardid": SessionCommand(cluster_commands.myshardid),
    "cluster|nodes": SessionCommand(cluster_commands.nodes),
    "cluster|replicas": SessionCommand(cluster_commands.of_node(encode.EMPTY_ARRAY)),
    "cluster|shards": SessionCommand(cluster_commands.shards),
    "cluster|slaves": SessionCommand(cluster_commands.of_node(encode.EMPTY_ARRAY)),
    "cluster|slot-stats": SessionCommand(cluster_commands.refused("cluster|slot-stats")),
    "cluster|slots": SessionCommand(cluster_commands.slots),
    "echo": SessionCommand(session.echo),
    "hello": SessionCommand(login_commands.hello),
    "module|list": SessionCommand(cluster_commands.modules),
    "ping": SessionCommand(session.ping, while_subscribed=True),
    "quit": SessionCommand(session.quit, while_subscribed=True, in_multi=InMulti.AT_ONCE),
    "readonly": SessionCommand(cluster_commands.read_from(replicas=True)),
    "readwrite": SessionCommand(cluster_commands.read_from(replicas=False)),
    "reset": SessionCommand(session.reset, while_subscribed=True, in_multi=InMulti.AT_ONCE),
    "role": SessionCommand(cluster_commands.role),
    "select": SessionCommand(session.select),
    "slotgate|clients": cross_worker.CLIENTS,
}
"""The rows by the fact's name."""
PARTS: Mapping[str, cross_worker.PartOf] = {
    **cross_worker.SCRIPTS,
    **{name: row.part for name, row in SESSION_COMMANDS.items() if isinstance(row, CrossWorkerCommand)},
}
"""The part of a cross-worker command that each worker carries out for its own clients, by the name of the command."""


def find(name: str) -> SessionRow:
    """Return the row of the command ``name`` (as a fact names it). A subcommand without a row is refused."""
    return SESSION_COMMANDS.get(name) or _refusal(name)


@cache
def _refusal(name: str) -> SessionCommand:
    refused = cluster_commands.refused if name.startswith("cluster|") else client_commands.refused
    return SessionCommand(refused(name))
