"""Connections over which a script runs that takes long: others who call scripts are sent over a fresh one.

A server reads nothing more from a connection while a script runs that came over it. What is sent over another one it
answers BUSY, once the script has run for its threshold (``busy-reply-threshold``). Who calls no scripts has other
connections (``Conversation.may_call_scripts``), and needs none of this. What was written behind the script already is
carried out when that is over.

Source: https://redis.io/docs/latest/develop/programmability/lua-api/ and
https://redis.io/docs/latest/develop/programmability/eval-intro/
"""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from proxy import transaction
from proxy.surroundings import SCRIPTS

if TYPE_CHECKING:
    from proxy.backend import Backend
    from proxy.service import Service
    from proxy.topology import Node

_LOOK = 0.02
"""Seconds between two looks, while scripts are called."""
_LONG = 0.04
"""Seconds without a word of the server after which a script takes long."""
_MOST, _WITHIN = 20, 5.0
"""So many fresh connections to one server may be made within so many seconds: where scripts always take long, others
wait for them as they would anyway."""
_NAMED = 32
"""Bytes of a request in which its name stands."""


class SlowScripts:
    """The watch over the scripts that clients of ``service`` call; it rests while none is called."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._timer: asyncio.TimerHandle | None = None
        self._renewed: list[tuple[float, Node]] = []
        """The servers to which fresh connections were made lately, and when."""

    def called(self) -> None:
        """A client calls a script."""
        if self._timer is None:
            self._timer = self._service.loop.call_later(_LOOK, self._look)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        service = self._service
        self._timer = None
        now = service.turn.now()
        self._renewed = [(at, node) for at, node in self._renewed if now - at < _WITHIN]
        often = Counter(node for _, node in self._renewed)
        # What a replica has not answered would be sent to another server: a script that runs for ever, too.
        theirs = [backend for backend in service.pool if backend.place.index <= SCRIPTS and backend.place.primary]
        under_way = [backend for backend in theirs if backend.ready and backend.inflight.written]
        found = [backend for backend in under_way if backend.silent(now) > _LONG and often[backend.place.node] < _MOST]
        slow = [backend for backend in found if _runs_script(backend)]
        if slow:
            self._renewed += [(now, backend.place.node) for backend in slow]
            service.replace(slow)
        if under_way:
            self._timer = service.loop.call_later(_LOOK, self._look)


def _runs_script(backend: "Backend") -> bool:
    """Whether one is in flight: nothing tells which of what was written together the server is at."""
    return any(_calls(entry.frame) for entry in backend.inflight.entries())


def _calls(frame: bytes) -> bool:
    named = (frame if transaction.is_block(frame) else frame[:_NAMED]).lower()
    return b"eval" in named or b"fcall" in named
