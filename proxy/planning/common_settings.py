"""CONFIG GET of several servers: one answer, and where they differ. Pure.

Source: https://redis.io/docs/latest/commands/config-get/
"""

from collections.abc import Mapping, Sequence

_SECRETS = frozenset({b"requirepass", b"masterauth", b"primaryauth", b"tls-key-file-pass", b"tls-client-key-file-pass"})
_OF_EACH = frozenset(
    (
        *(b"port", b"tls-port", b"bind", b"bind-source-addr", b"unixsocket", b"maxclients", b"cluster-config-file"),
        *(b"dir", b"dbfilename", b"appendfilename", b"appenddirname", b"logfile", b"pidfile", b"aclfile"),
        *(b"replicaof", b"slaveof", b"syslog-ident", b"oom-score-adj-values", b"primaryuser", b"masteruser"),
        *(b"tls-cert-file", b"tls-key-file", b"tls-client-cert-file", b"tls-client-key-file"),
    )
)
"""What each server has for itself."""
_ANNOUNCED = (b"cluster-announce-", b"replica-announce-", b"slave-announce-")
_EVENTS = b"notify-keyspace-events"
_CLASSES = "g$lshzxetdn"
_ALL = frozenset("g$lshzxetd")
_PLACES = "KEm"

Settings = Mapping[bytes, bytes]


def common(servers: Sequence[Settings]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The settings of the first server and those that only others have, passwords left empty; and the names of those
    that differ though they should not."""
    merged: dict[bytes, bytes] = {}
    differing = []
    for server in servers:
        for name, value in server.items():
            merged.setdefault(name, value)
    for name in merged:
        key = name.lower()
        values = {server[name] for server in servers if name in server}
        if key in _SECRETS:
            merged[name] = b""
        elif len(values) > 1 and key not in _OF_EACH and not key.startswith(_ANNOUNCED):
            differing.append(name)
            if key == _EVENTS:
                merged[name] = events([value.decode("latin-1") for value in values]).encode()
    return merged, differing


def events(settings: Sequence[str]) -> str:
    """The events that all servers send, as Redis writes the setting:
    https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/"""
    sets = [set(setting.replace("A", "".join(sorted(_ALL)))) for setting in settings]
    shared = set.intersection(*sets) if sets else set()
    every = shared >= _ALL
    classes = "A" if every else "".join(letter for letter in _CLASSES if letter in shared)
    # One server leaves n out beside A.
    return classes + "".join(letter for letter in _PLACES if letter in shared)
