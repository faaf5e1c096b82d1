"""Which of a server's commands are compared, straight and through the proxy, and why the others are not.

A command with subcommands counts for as much as the share of them that is compared. A case counts where the plain
server carried it out; an error counts only for what ``ONLY_ERRORS`` names.
"""

from collections.abc import Iterable, Mapping

from tests.live.differential.cases import CONVERSATIONS
from tests.live.differential.compare import name_of
from tests.live.differential.scene import Play
from tests.live.differential.scenes import SCENES
from tests.support.site import Site, clean

COVERED_AT_LEAST = 0.95

_OWN_USERS = "the proxy's users are its own, not the servers'"
_REPLICATION = "between servers: the connection becomes a replica's"
_PRIMARY = "would change who is the primary behind the shard map's back: refused, SLOTGATE SEND reaches one server"
_MODULES = "loads code into servers, which refuse it too unless their own configuration allows it"

LEFT_OUT: Mapping[str, str] = {
    "acl|deluser": _OWN_USERS,
    "acl|dryrun": _OWN_USERS,
    "acl|getuser": _OWN_USERS,
    "acl|list": _OWN_USERS,
    "acl|load": _OWN_USERS,
    "acl|log": _OWN_USERS,
    "acl|save": _OWN_USERS,
    "acl|setuser": _OWN_USERS,
    "acl|users": _OWN_USERS,
    "client|import-source": "refused: about the import of data into the one server that a client is connected to",
    "failover": _PRIMARY,
    "migrate": "refused: would move keys behind the slot map's back",
    "module|load": _MODULES,
    "module|loadex": _MODULES,
    "module|unload": _MODULES,
    "pfselftest": "computes for seconds",
    "psync": _REPLICATION,
    "replconf": _REPLICATION,
    "replicaof": _PRIMARY,
    "restore-asking": "refused: sent between servers only, skips the check of slots",
    "script|debug": "refused: takes over its connection",
    "shutdown": "would end the plain server",
    "slaveof": _PRIMARY,
    "sync": _REPLICATION,
}
"""By the command's name: why it is not compared."""

_NO_CLUSTER = "a server without cluster mode answers an error to all of them"
_NOTHING_RUNS = "a good reply needs a script that runs at that moment (tests/live/test_scripts.py)"

ONLY_ERRORS: Mapping[str, str] = {
    "asking": _NO_CLUSTER,
    "clusterscan": _NO_CLUSTER,
    "function|kill": _NOTHING_RUNS,
    "latency|graph": "there are no samples",
    "readonly": _NO_CLUSTER,
    "readwrite": _NO_CLUSTER,
    "script|kill": _NOTHING_RUNS,
}
"""By the command's name, beside the subcommands of CLUSTER: why an error is all that is compared."""


def commands_of(site: Site) -> dict[str, set[str]]:
    """The plain server's commands as its COMMAND tells them, each with its subcommands' names (its own if none)."""
    rows = site.plain.ask("COMMAND")
    assert isinstance(rows, list)
    return {row[0].decode(): {sub[0].decode() for sub in row[9]} or {row[0].decode()} for row in rows}


def share(commands: Mapping[str, set[str]], found: set[str]) -> float:
    """Which part of the commands is among ``found``."""
    return sum(len(names & found) / len(names) for names in commands.values()) / len(commands)


def compared(site: Site) -> set[str]:
    """The names of the commands of which the plain server gave a reply that counts to some case."""
    found: set[str] = set()
    tag = site.tags()[0]
    for conversation in CONVERSATIONS:
        clean(site.plain)
        with site.direct() as server:
            commands = conversation.commands(tag)
            found |= _counted((name_of(args), server.ask(*args)) for args in commands)
    for scene in SCENES:
        clean(site.plain)
        heard = Play(site.plain.address, scene.protocols[0], tag).run(scene)
        found |= _counted((one.command, frame) for one in heard for frame in one.frames)
    return found - {""}


def _counted(answers: Iterable[tuple[str, bytes]]) -> set[str]:
    return {name for name, reply in answers if reply[:1] != b"-" or name in ONLY_ERRORS or name.startswith("cluster|")}
