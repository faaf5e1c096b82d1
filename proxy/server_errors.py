"""The texts of the errors about shards and servers.

Each names the shard and says whether the command can have run: ``SHARDDOWN`` and ``TIMEOUT`` were not executed or
changed nothing, ``UNCERTAIN`` may have run. The functions return the text of an error reply, its code first.
"""

from collections.abc import Sequence

from proxy.errors import text


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
