"""The errors of the proxy in three classes, and their texts in one place.

A client's fault is answered with Redis's own error. A backend's fault names the shard and says whether the command can
have run: ``SHARDDOWN`` and ``TIMEOUT`` were not executed or changed nothing, ``UNCERTAIN`` may have run. Faults of the
proxy itself are exceptions that reach the log. The functions here return the text of an error reply, its code first;
bytes of clients are quoted in it decoded as Latin-1, one character a byte (``proxy.resp.encode.error`` writes it).
"""

from collections.abc import Sequence

_QUOTED = 128


class SlotgateError(Exception):
    """Base class of the exceptions that this package raises on purpose."""


class ConfigError(SlotgateError):
    """A configuration that can not be used; ``problems`` holds pairs of a key path and a text that says what is wrong
    and what to do."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{path}: {text}" for path, text in problems))


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
KEYLESS_ELSEWHERE = (
    "CROSSSLOT The transaction has keys on one shard, and a script without keys, which runs on the shard that "
    "keyless_shard names"
)


def undeclared_keys(name: str) -> str:
    """The error for a call of a script or a function that declares no key, but may use keys."""
    what = "functions" if name.startswith("fcall") else "a script that calls Redis"
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


def reply_too_large(limit: int, ran: bool) -> str:
    """The error for a reply that had to be kept (it was out of order, merged, or came over a dedicated connection)."""
    begin = "ERR the command was carried out, but its reply" if ran else "ERR the reply"
    return (
        f"{begin} is larger than {limit} bytes (limits.max_reply), and it had to be kept before it could be passed "
        "on: ask for less at once, or raise the limit"
    )


def shard_down(shard: str, address: str, reason: str) -> str:
    """The error for a shard that can not be reached; the command was not sent."""
    return f"SHARDDOWN shard '{shard}' ({address}) can not be reached: {reason}. The command was not executed"


def shard_left(shard: str) -> str:
    """The error of a WAIT for writes to a shard that was removed."""
    return f"SHARDDOWN shard '{shard}', which this client wrote to, has left the topology: nobody can be asked"


def no_lease(shard: str, address: str, limit: int, waited: float) -> str:
    """The error for a command that needs a dedicated connection when all of them are in use."""
    long = f" and none became free within {waited:g} s (backend.dedicated_wait)" if waited else ""
    return (
        f"ERR shard '{shard}' ({address}): all {limit} connections that clients may have for themselves are in use "
        f"(backend.dedicated_connections){long}. The command was not executed"
    )


def no_share(shard: str, address: str, holder: str, share: int, limit: int) -> str:
    """The error for a command that needs a dedicated connection when its user at its address has as many as one may."""
    return (
        f"ERR shard '{shard}' ({address}): {holder} has {share} of the {limit} connections that clients may have for "
        "themselves, and may have no more (backend.dedicated_share). The command was not executed"
    )


def trackers_share(holder: str, share: int) -> str:
    """The error of CLIENT TRACKING when as many clients of one user at one address track already as may."""
    return (
        f"ERR {share} clients of {holder} track keys already, each over connections of its own, and no more may "
        "(backend.dedicated_share of backend.dedicated_connections)"
    )


def no_descriptors(most: int) -> str:
    """The error for a command that needs a dedicated connection when the proxy has too few file descriptors."""
    return (
        f"ERR all {most} connections to servers that clients may have for themselves are in use: the proxy has no file "
        "descriptors for more. Raise its limit of open files. The command was not executed"
    )


def failing_over(shard: str) -> str:
    """The error for a shard whose primary gets no requests any more, and whose new primary is not known yet."""
    return f"SHARDDOWN the primary of shard '{shard}' is being replaced. The command was not executed"


def read_lost(shard: str, address: str) -> str:
    """The error for a read that may not be repeated, as a later write of the same client may have run: the value that
    it would have read is unknown."""
    return (
        f"UNCERTAIN shard '{shard}' ({address}) closed the connection before it answered, and as a later command of "
        "this client may have been executed, the read was not repeated"
    )


def nobody(cluster: bool) -> str:
    """The error for a slot that no shard serves; the command was not sent."""
    if cluster:
        return (
            "CLUSTERDOWN Hash slot not served: no node of the cluster that can be reached says that it serves it. "
            "The command was not executed"
        )
    return "SHARDDOWN the primary of the key's slot is not known yet. The command was not executed"


def incomplete(known: Sequence[object], cluster: bool) -> str:
    """The error for a command for all shards while some slots are served by none."""
    what = "some slots are served by no shard" if known else "no shard has been found yet"
    return f"{'CLUSTERDOWN' if cluster else 'SHARDDOWN'} {what}, see /readyz. The command was not executed"


def redirected(shard: str, address: str, error: str, times: int) -> str:
    """The error for a command that servers redirected too often; ``error`` is the last redirection."""
    return (
        f"SHARDDOWN shard '{shard}' ({address}) and others redirected the command {times} times, at last by '{error}'. "
        "The command was not executed"
    )


def overtaken(shard: str, address: str, error: str) -> str:
    """The error for a command that was redirected after a later one of its client on the same slot had run."""
    return (
        f"SHARDDOWN shard '{shard}' ({address}) redirected the command by '{error}', and as a later command of this "
        "client on the same slot has been executed, it was not sent again. The command was not executed"
    )


def stalled(shard: str, address: str, seconds: float) -> str:
    """The error for a command that could not be sent, as the server did not read it."""
    return (
        f"SHARDDOWN shard '{shard}' ({address}) did not take the command within {seconds:g} s. "
        "The command was not executed"
    )


def timed_out(shard: str, address: str, seconds: float) -> str:
    """The error for a read that was not answered in time."""
    return f"TIMEOUT shard '{shard}' ({address}) did not answer within {seconds:g} s"


def multi_refused(error: bytes) -> str:
    """The reason why nobody knows what of a transaction was executed: a server refused MULTI with the error frame
    ``error``."""
    return f"refused MULTI with '{text(error[1:-2])}'"


def uncertain(shard: str, address: str, reason: str) -> str:
    """The error for a command that may have run: it was sent, and no reply came."""
    return f"UNCERTAIN shard '{shard}' ({address}) {reason}: the command may or may not have been executed"


def uncertain_partial(part: str) -> str:
    """The error for a write to several shards of which a part failed while others may have run; ``part`` is the part's
    error."""
    return f"UNCERTAIN partial: {part}"


def sort_denied(option: str) -> str:
    """The error of SORT in a cluster, as Redis words it; ``option`` is BY or GET."""
    return (
        f"ERR {option} option of SORT denied in cluster mode when keys formed by the pattern may be in different slots."
    )


def unfit_replica(shard: str, address: str, reason: str) -> str:
    """The error of ``read_from = "replica"`` when all connected replicas of the shard are unfit; ``reason`` is that of
    the first."""
    return (
        f"SHARDDOWN shard '{shard}' has no replica that is fit for reads and read_from is \"replica\": {address}: "
        f"{reason}. Nothing was executed"
    )


def no_replica(shard: str) -> str:
    """The error of ``read_from = "replica"`` for a shard without a replica."""
    return f"SHARDDOWN shard '{shard}' has no replica to read from and read_from is \"replica\". Nothing was executed"
