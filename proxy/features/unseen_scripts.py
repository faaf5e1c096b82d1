"""Calls of scripts by their digest and without keys, whose script the proxy does not know: other workers are asked.

On several static shards the proxy has to know whether such a script touches data. If no worker has seen the script, the
client gets NOSCRIPT, whereupon it sends the script itself: the proxy then knows it.
"""

from collections.abc import Sequence

from proxy import errors
from proxy.features.host import Host
from proxy.planning.planner import Reject
from proxy.transport.flow_control import Stop


def is_awaited(client: Host, rejected: Reject, args: Sequence[bytes]) -> bool:
    """Whether the request ``args``, which was ``rejected``, must wait for the answers of the other workers. Nothing is
    read from the client until they have answered."""
    ask = client.service.scripts.look_elsewhere
    if rejected.text is not errors.NOSCRIPT or ask is None:
        return False

    def answered() -> None:
        if not client.gone:
            client.flow.go(Stop.LONG)

    if not ask(args[1].lower(), answered):
        return False
    client.flow.stop(Stop.LONG)
    return True
