"""The errors of the proxy in three classes, and their texts in one place.

A client's fault is answered with Redis's own error; ``proxy.server_errors`` has the texts about shards and servers.
Faults of the proxy itself are exceptions that reach the log. The functions here return the text of an error reply, its
code first; bytes of clients are quoted in it decoded as Latin-1, one character a byte (``proxy.resp.encode.error``
writes it).
"""

from collections.abc import Mapping, Sequence

_QUOTED = 128


class SlotgateError(Exception):
    """Base class of the exceptions that this package raises on purpose."""


class ConfigError(SlotgateError):
    """A configuration that can not be used; ``problems`` holds pairs of a key path and a text that says what is wrong
    and what to do. ``places`` has the line of the file for the key paths of which it is known, such as
    ``slotgate.toml:12``."""

    def __init__(self, problems: tuple[tuple[str, str], ...], places: Mapping[str, str] | None = None) -> None:
        self.problems = problems
        self.places = places or {}
        super().__init__("\n".join(f"{path}: {text}" for path, text in problems))

    def lines(self) -> list[str]:
        """Return a line of text for each problem, with its place in the file."""
        places = [self.places.get(path, "") for path, _ in self.problems]
        return [
            f"{path}: {text} ({place})" if place else f"{path}: {text}"
            for (path, text), place in zip(self.problems, places, strict=True)
        ]


class BackendError(SlotgateError):
    """A backend that can not be used; the text names the reason."""


class WrongRole(BackendError):
    """A server whose role differs from the one that it is used in."""


REPLICA_AS_PRIMARY = (
    "a replica is configured as a primary, and nothing is sent to it: name the primary in its place, or let the "
    "servers say who it is (topology.discover_replicas = true); topology.check_roles = false uses it all the same"
)
"""A text for the log; the line that follows names the server."""


class PlaceRefused(BackendError):
    """A server that is reachable, but refuses a request that only this connection needs (a database, a protocol
    ...)."""


class ServerBusy(PlaceRefused):
    """A server that has run a script for too long, and answers nothing else; the text is its error reply without the
    ``-``."""


NOAUTH = "NOAUTH Authentication required."
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."
NO_PASSWORD_SET = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
NOPROTO = "NOPROTO unsupported protocol version"
SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_AN_INT32 = "ERR value is out of range, value must between -2147483648 and 2147483647"
BAD_CLIENT_NAME = "ERR Client names cannot contain spaces, newlines or special characters."
DB_OUT_OF_RANGE = "ERR DB index is out of range"
NO_SELECT = "ERR SELECT is not allowed in cluster mode"
CROSSSLOT = "CROSSSLOT Keys in request don't hash to the same slot"
GROUPED_SERIES = (
    "ERR GROUPBY reduces series that may be on several servers, which each know their own only. "
    "Ask without GROUPBY, or run it on the server itself"
)
NO_CLUSTER = "ERR This instance has cluster support disabled"
NESTED_MULTI = "ERR MULTI calls can not be nested"
WATCH_IN_MULTI = "ERR WATCH inside MULTI is not allowed"
NOT_IN_MULTI = "ERR Command not allowed inside a transaction"
EXECABORT = "EXECABORT Transaction discarded because of previous errors."
NO_MERGE = "ERR the shards' answers do not fit together"
MAX_CLIENTS = "ERR max number of clients reached"
NO_SSUBSCRIBE = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"
NO_CACHING = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)
LOOKING_ON = "ERR Replica can't interact with the keyspace"
BAD_SLOT = "ERR Invalid slot"
BAD_SLOT_OR_COUNT = "ERR Invalid slot or number of keys"


def text(raw: bytes) -> str:
    """The bytes of a client, for quoting in an error; like Redis's C strings they end at a NUL."""
    return raw.partition(b"\0")[0].decode("latin-1")


def protocol(reason: str) -> str:
    """The error for bytes that are no RESP, after which the connection is closed."""
    return f"ERR Protocol error: {reason}"


def unknown_command(args: Sequence[bytes]) -> str:
    """The error for an unknown command, as Redis words it: the first 128 bytes of the name, and arguments up to 128
    bytes."""
    quoted = ""
    for arg in args[1:]:
        if len(quoted) >= _QUOTED:
            break
        quoted += f"'{text(arg[: _QUOTED - len(quoted)])}' "
    return f"ERR unknown command '{text(args[0][:_QUOTED])}', with args beginning with: {quoted}"


def unknown_subcommand(container: str, subcommand: bytes) -> str:
    """The error for an unknown subcommand, as Redis words it."""
    return f"ERR unknown subcommand '{text(subcommand[:_QUOTED])}'. Try {container.upper()} HELP."


def wrong_subcommand(container: str, subcommand: bytes) -> str:
    """The error of a subcommand that itself finds too many arguments, as Redis words it."""
    name = container.upper()
    return f"ERR unknown subcommand or wrong number of arguments for '{text(subcommand[:_QUOTED])}'. Try {name} HELP."


def wrong_arity(name: str) -> str:
    """The error for a wrong number of arguments, as Redis words it; ``name`` is lower case, ``config|get`` for a
    subcommand."""
    return f"ERR wrong number of arguments for '{name}' command"


def not_reloaded(problems: str) -> str:
    """The error of SLOTGATE RELOAD when the configuration is not right."""
    return f"ERR the configuration is not reloaded, nothing is changed: {' '.join(problems.split())}"


def no_permission(name: str) -> str:
    """The error for a command that the user may not call, as Redis 7.0 words it."""
    return f"NOPERM this user has no permissions to run the '{name}' command"


def too_many_trackers(most: int) -> str:
    """The error of CLIENT TRACKING when as many clients track already as may."""
    return (
        f"ERR {most} clients of this worker track keys already, each over connections of its own. "
        "Raise backend.dedicated_connections"
    )


def other_worker(number: int) -> str:
    """The error of CLIENT TRACKING ... REDIRECT to a client of another worker."""
    return (
        f"ERR client {number} is connected to another worker of the proxy, which can not be redirected to. Connect "
        "again until both are on one worker, or use RESP3, which needs no second connection"
    )


def no_slots(name: str) -> str:
    """The error of a question about a slot when the servers have no slots."""
    return (
        f"ERR '{name}' can not be answered: the shards are no Redis Cluster, so they keep no account of the keys of a "
        "slot. Use SCAN, and CLUSTER KEYSLOT for each key"
    )


def without_multi(name: str) -> str:
    """The error of EXEC or DISCARD without a transaction, as Redis words it."""
    return f"ERR {name.upper()} without MULTI"


def exec_refused(why: str) -> str:
    """The error of an EXEC that was refused because of ``why``, the text of an error; as Redis words it."""
    return f"EXECABORT Transaction discarded because of: {why.removeprefix('ERR ')}"


def for_all_shards(name: str) -> str:
    """The error for a command for all shards inside a transaction."""
    return (
        f"ERR '{name}' is for all shards, and a transaction is executed by one: call it outside of MULTI. "
        "The transaction will be discarded"
    )


def not_in_transaction(name: str) -> str:
    """The error for a command that Redis would queue, and that concerns connections or the proxy itself."""
    return (
        f"ERR '{name}' can not be part of a transaction through Slotgate: it is not for one server to carry out. "
        "Call it outside of MULTI. The transaction will be discarded"
    )


def transaction_too_big(limit: int) -> str:
    """The error when more bytes are queued than ``limits.max_request_size`` allows."""
    return (
        f"ERR the transaction takes more than {limit} bytes of memory (limits.max_request_size): send it in several. "
        "It will be discarded"
    )


def query_too_large(limit: int) -> str:
    """The error for a request for which a server would close the connection."""
    return (
        f"ERR the request is larger than the {limit} bytes that the servers keep for one connection (their "
        "client-query-buffer-limit), most of it in one argument. The command was not executed"
    )


def transaction_too_large(limit: int) -> str:
    """The error when more bytes are queued than a server keeps until EXEC."""
    return (
        f"ERR the transaction has more than the {limit} bytes that the servers keep for one connection "
        "(their client-query-buffer-limit): send it in several. It will be discarded"
    )


def in_subscribe_mode(name: str) -> str:
    """The error for a command that is not allowed while the client is subscribed in RESP2, as Redis words it."""
    return (
        f"ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this "
        "context"
    )


def refused(name: str, reason: str) -> str:
    """The error for a command that a proxy must not pass on."""
    because = f": {reason}" if reason else ""
    return f"ERR '{name}' is refused by the proxy{because}. Run it on the server itself"


def no_such_node(name: str, known: Sequence[str]) -> str:
    """The error for a name that no server of the topology has."""
    return f"ERR no server or shard is called '{name[:_QUOTED]}'. There are {', '.join(known) or 'none yet'}"


def not_for_all(name: str, reason: str) -> str:
    """The error for a command for one server, for a user who may call every command."""
    because = f": {reason}" if reason else ""
    return f"ERR '{name}' is refused by the proxy{because}. Run it on one server, by SLOTGATE SEND <address> ..."


def shuts_out(setting: str, way: str) -> str:
    """The error for a CONFIG SET at all servers after which they might refuse the proxy."""
    return (
        f"ERR CONFIG SET {text(setting.encode())[:_QUOTED]} at all servers at once could shut the proxy out of them, "
        f"so it is refused. {way}"
    )


def for_one_server(name: str, reason: str) -> str:
    """The error for a command about the data of one server when there are several."""
    return f"ERR '{name}' is refused by the proxy: {reason}"


def uncovered(name: str) -> str:
    """The error for a command without keys whose shards no request policy names."""
    return (
        f"ERR '{name}' names no key and declares no request_policy, so Slotgate can not tell which of the shards "
        "it is for. Run it on the server itself"
    )


NOSCRIPT = "NOSCRIPT No matching script. Please use EVAL."
NOSCRIPT_OF_VALKEY = "NOSCRIPT No matching script."
KEYLESS_ELSEWHERE = (
    "CROSSSLOT The transaction has keys on one shard, and a script without keys, which runs on the shard that "
    "keyless_shard names"
)


def undeclared_keys(name: str) -> str:
    """The error for a call of a script or a function that declares no key, but may use keys."""
    what = "functions" if name.startswith("fcall") else "a script that may call Redis"
    return (
        f"ERR '{name}' of {what} with 0 keys is refused: there are several shards, and only declared keys say on which "
        "of them the data is. Pass the keys that it uses as keys, or name the shard that all of them are on "
        '(undeclared_keys = "allow", keyless_shard = "..."). Nothing was executed'
    )


AUDIT_FULL = (
    "ERR the audit log is full, and audit.on_full = refuse forbids what can not be recorded. Nothing was executed"
)


def watch_seconds(most: int) -> str:
    """The error for a time for which SLOTGATE SCRIPTS can not watch."""
    return f"ERR the servers are watched for 1 to {most} seconds: SLOTGATE SCRIPTS [<seconds>]"


def not_watched(reason: str) -> str:
    """The error for a server that does not show its commands."""
    return f"ERR a server can not be watched by MONITOR: {reason}"
