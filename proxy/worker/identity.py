"""The identity of the process that INFO reports, which is the same in all workers."""

import os
import secrets
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """The process that was started: the supervisor if there are several workers."""

    config_file: str = ""
    """The path of the configuration file; "" if there is none."""
    pid: int = field(default_factory=os.getpid)
    run_id: str = field(default_factory=lambda: secrets.token_hex(20))
    """An id as long as that of Redis, which differs for each process."""
    started: float = field(default_factory=time.time)
    """The time of the start, in seconds since 1970."""
