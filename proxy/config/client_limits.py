"""The keys of ``[limits]`` about who may be connected and what one client may have, and the operator's text about
protected mode."""

from __future__ import annotations

from typing import Literal

from proxy.config.section import DAY as _DAY
from proxy.config.section import Section
from proxy.config.section import default as _default
from proxy.config.values import Count, Duration, Size

OnLimit = Literal["delay", "refuse"]
"""What becomes of a request that is over a limit of commands or bytes in a second."""
PROTECTED = (
    "{} accepts clients of this machine only, as the default user needs no password: set a password under [[users]], "
    "or protected_mode = false"
)
"""The meaning of protected mode at a listener, as the operator reads it."""


class SubscriptionLimits(Section):
    """Limits on what one client may subscribe to and track. 0 means no limit."""

    max_subscriptions_per_client: Count = _default(
        1_000_000, "Redis has no limit; no application has so many, and a loop that never unsubscribes does.", ge=0
    )
    max_patterns_per_client: Count = _default(
        100_000, "Redis has no limit; servers compare every message with every pattern.", ge=0
    )
    max_prefixes_per_client: Count = _default(
        100_000, "Redis has no limit; servers compare every key that is written with every prefix.", ge=0
    )


class ConnectionLimits(SubscriptionLimits):
    """Limits on the number of clients, and on how long a client may leave the proxy waiting. 0 means no limit."""

    max_clients: Count = _default(10000, "Redis's own default.", ge=1)
    max_clients_per_address: Count = _default(
        0, "Off: behind NAT, or on one large machine, thousands of clients may have one address.", ge=0
    )
    max_clients_per_user: Count = _default(
        0, "Off: an application with many processes has thousands of clients, all of one user.", ge=0
    )
    max_connection_rate: Count = _default(
        0, "Off: an application that restarts connects with all it has at once.", ge=0
    )
    auth_timeout: Duration = _default(
        "10s", "A client logs in at once; ten seconds allow for a slow network.", ge=0, le=_DAY
    )
    auth_commands: Count = _default(
        10, "Libraries send HELLO, AUTH, SELECT, and CLIENT SETNAME and SETINFO: half as many.", ge=0
    )
    auth_bytes: Size = _default("16kb", "Redis's limit of one argument before the login; a token may be long.", ge=0)
    auth_delay_max: Duration = _default(
        "2s", "Guessing gets hopeless, and who shares an address with a guesser still logs in.", ge=0, le=60
    )
    idle_timeout: Duration = _default("0s", "Off, as in Redis: connection pools keep idle connections.", ge=0, le=_DAY)
    request_read_timeout: Duration = _default(
        "60s", "A network that loses packets delivers the next byte sooner; as long as write_timeout.", ge=0, le=_DAY
    )
    max_command_rate_per_user: Count = _default(0, "Off: what is too much depends on the servers.", ge=0)
    max_byte_rate_per_user: Size = _default("0b", "Off: what is too much depends on the network.", ge=0)
    max_command_rate_per_address: Count = _default(0, "Off: thousands of clients may have one address.", ge=0)
    max_byte_rate_per_address: Size = _default("0b", "Off: thousands of clients may have one address.", ge=0)
    on_limit: OnLimit = _default("delay", "An application that is slowed down works on; errors would stop it.")
    max_in_flight_per_user: Count = _default(0, "Off: max_in_flight bounds each client.", ge=0)
