"""The configuration: TOML, environment and flags in, one frozen and checked ``Config`` out.

- ``values``: durations, sizes, addresses, slot ranges
- ``model``: the tables and keys, their defaults and why
- ``secret``: passwords, from wherever they are kept
- ``certificates``: TLS contexts, from their files
- ``checks``: what must hold between keys
- ``words``: pydantic's errors in an operator's words
- ``sources``: ``load``, which brings them together
"""

from proxy.config.model import BackendSection, Config, LimitsSection, LogSection, ShardSection, User
from proxy.config.sources import load
from proxy.config.values import Address, parse_listen, parse_server

__all__ = [
    "Address",
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
