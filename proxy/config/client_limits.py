"""The keys of ``[limits]`` that say who may be connected, and what protected mode says."""

from __future__ import annotations

from proxy.config.section import Section
from proxy.config.section import default as _default
from proxy.config.values import Count

PROTECTED = (
    "{} accepts clients of this machine only, as the default user needs no password: set a password under [[users]], "
    "or protected_mode = false"
)
"""What protected mode means at a listener, for the operator."""


class ConnectionLimits(Section):
    """How many clients there may be."""

    max_clients: Count = _default(10000, "Redis's own default.", ge=1)
