"""The configuration: TOML, environment and flags become one frozen and checked ``Config``. No connections are made.

::

    model            the tables and keys, with their defaults and the reason for each
    section          what the tables have in common
    client_limits    the keys of ``[limits]`` about who is connected, and what one client may have
    admin            the table of the admin port
    listeners        the listening addresses, and what holds for the clients of each
    listener_tls     the table of a listener's TLS
    users            the users and their rules
    audit            the table of the audit log
    colocate         the co-location rules
    values           durations, sizes, addresses and slot ranges
    machine          the cores and the memory that this process may use
    secret           passwords and tokens, from the file, the environment or a file of their own
    certificates     TLS contexts, from their files
    checks           rules between several keys
    listener_checks  rules between the keys of listeners
    key_checks       rules between the keys about where the keys of clients are
    words            the errors of pydantic in an operator's words
    environment      the names of the ``SLOTGATE_`` variables
    variables        their reader, made of pydantic-settings
    sources          ``load``, which combines the file, the environment and the flags
    settings         the configuration in use as names and values, without secrets
"""

from proxy.config.admin import AdminSection
from proxy.config.model import BackendSection, Config, LimitsSection, LogSection, ShardSection
from proxy.config.sources import load
from proxy.config.users import User
from proxy.config.values import Address, parse_listen, parse_server

__all__ = [
    "Address",
    "AdminSection",
    "BackendSection",
    "Config",
    "LimitsSection",
    "LogSection",
    "ShardSection",
    "User",
    "load",
    "parse_listen",
    "parse_server",
]
