"""Finds a process that does not answer over its control channel: the supervisor watches its workers, and they watch it.

::

    supervisor ── "alive" ──▶ worker          silent for worker_patience: the worker is killed, and started again
    worker     ── "alive" ──▶ supervisor      silent for worker_patience: logged; three times as long: it is killed,
                                              the workers drain, and a service manager starts all of them again

Only time in which the process that asks has run counts (``proxy.transport.clock``), so a stopped or overloaded machine
is no reason to kill anything.
"""

import asyncio
import logging
import os
import signal

from proxy.worker.control_channel import Channel, ChannelError

log = logging.getLogger(__name__)

_PART = 10
"""How often the other side is asked within the time that it may be silent."""
_GIVEN_UP = 3
"""The supervisor is given up after so many times the patience. It serves nobody, so there is no hurry."""
_INIT = 1
"""The number of a container's first process. The other processes of the container can not kill it."""


async def silence(channel: Channel, patience: float) -> None:
    """Return when the other side of ``channel`` has not answered for ``patience`` seconds."""
    while True:
        try:
            await channel.ask("alive", timeout=patience)
        except TimeoutError:
            return
        except ChannelError:
            pass  # the other side is gone, which its end of the channel tells, or reads too slowly to be asked
        await asyncio.sleep(patience / _PART)


async def watch_supervisor(channel: Channel, supervisor: int, patience: float) -> None:
    """Log when the ``supervisor``, a process, does not answer, and kill it if it does not for long. The workers then
    lose their channels, and drain. Returns when there is nothing left to watch."""
    while True:
        await silence(channel, patience)
        log.error("the supervisor does not answer pid=%d seconds=%g", supervisor, patience)
        try:
            await channel.ask("alive", timeout=(_GIVEN_UP - 1) * patience)
        except ChannelError:
            return
        except TimeoutError:
            if os.getppid() != supervisor:
                return  # it is gone already
            if supervisor == _INIT:
                log.error("the supervisor can not be killed from inside of its container: a failing /healthz has to")
                return
            log.error("the supervisor is stuck, and is killed: the workers drain and end pid=%d", supervisor)
            os.kill(supervisor, signal.SIGKILL)
            return
        log.warning("the supervisor answers again pid=%d", supervisor)
