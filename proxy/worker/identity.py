"""Which process this is: what INFO says of it, the same in all workers."""

import os
import secrets
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """The process that was started: with several workers, their supervisor."""

    config_file: str = ""
    """The path of its configuration; "" if it has none."""
    pid: int = field(default_factory=os.getpid)
    run_id: str = field(default_factory=lambda: secrets.token_hex(20))
    """As long as Redis's, and another one each time."""
    started: float = field(default_factory=time.time)
    """When it was started, in seconds since 1970."""
