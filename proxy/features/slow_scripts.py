"""Detects connections over which a slow script runs: other clients that call scripts are moved to a new connection.

A server reads no further requests from a connection while a script of that connection runs. It answers requests on
other connections with BUSY, once the script has run for its threshold (``busy-reply-threshold``). Clients that call no
scripts use other connections (``Client.may_call_scripts``), and are not affected. Of the requests that were written
behind the script, reads are sent again over the new connection if their clients can not notice that; those that may
write can not be taken back, and run when the script is over.

Source: https://redis.io/docs/latest/develop/programmability/lua-api/ and
https://redis.io/docs/latest/develop/programmability/eval-intro/
"""

import asyncio
from collections import Counter

from proxy.backends.settings import SCRIPTS
from proxy.backends.shared import Backend
from proxy.engine.sink import DISCARD, UNASKED
from proxy.features.host import Services
from proxy.planning import exec_block
from proxy.planning.proof import RUNS_CODE, Proof
from proxy.planning.retry_rules import Look, movable
from proxy.sharding.topology import Node

_LOOK = 0.02
"""Seconds between two checks, while scripts are called."""
_LONG = 0.04
"""Seconds without any data from the server after which a script counts as slow."""
_MOST, _WITHIN = 20, 5.0
"""The number of new connections to one server that may be made within so many seconds: if scripts are always slow,
other clients wait for them as they would anyway."""
_NAMED = 32
"""The number of bytes of a request in which its name is looked for."""
_NOTHING = Look(readonly=True, slots=frozenset())
"""Flags and slots for the proxy's own requests, which touch no key of a client."""


class SlowScripts:
    """Checks the scripts that clients of ``service`` call; no check runs while none is called."""

    def __init__(self, service: Services) -> None:
        self._service = service
        self._timer: asyncio.TimerHandle | None = None
        self._renewed: list[tuple[float, Node]] = []
        """The servers to which new connections were made lately, with the times."""

    def called(self) -> None:
        """Start the checks, as a client calls a script."""
        if self._timer is None:
            self._timer = self._service.loop.call_later(_LOOK, self._look)

    def close(self) -> None:
        """Stop the checks."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        service = self._service
        self._timer = None
        now = service.turn.now()
        self._renewed = [(at, node) for at, node in self._renewed if now - at < _WITHIN]
        often = Counter(node for _, node in self._renewed)
        theirs = [backend for backend in service.upstream.pool if backend.place.index <= SCRIPTS]
        under_way = [backend for backend in theirs if backend.ready and backend.inflight.written]
        found = [backend for backend in under_way if backend.silent(now) > _LONG and often[backend.place.node] < _MOST]
        slow = [backend for backend in found if _runs_script(backend)]
        if slow:
            self._renewed += [(now, backend.place.node) for backend in slow]
            service.upstream.replace(slow)
            for backend in slow:
                self._send_reads_again(backend)
        if under_way:
            self._timer = service.loop.call_later(_LOOK, self._look)

    def _send_reads_again(self, slow: Backend) -> None:
        """Send reads again over the new connection, if their clients can not notice that (``retry_rules.movable``)."""
        service = self._service
        fresh = service.upstream.pool.at(slow.place)
        entries = slow.inflight.entries()
        requests: list[tuple[object, Look, bool]] = []
        behind = False
        for entry in entries:
            ours = entry.sink in UNASKED or isinstance(entry.sink, Proof)
            if ours:
                requests.append((None, _NOTHING, False))
            else:
                look, reads = self._look_at(entry.frame)
                requests.append((entry.sink.owner, look, reads and not behind))
            behind = ours and entry.sink is not DISCARD
        moved = [at for at, moves in enumerate(movable(requests)) if moves]
        slow.inflight.rewire(dict.fromkeys(moved, DISCARD))
        service.counters.retries += len(moved)
        for at in moved:
            entry = entries[at]
            fresh.send(entry.sink, entry.token, entry.frame, entry.since, None)

    def _look_at(self, frame: bytes) -> tuple[Look, bool]:
        """The flags and slots of a request, and whether it only reads and runs no code of a client."""
        inspector = self._service.inspector
        look = inspector.look(frame)
        if not look.readonly or exec_block.is_block(frame):
            return look, False
        fact, _ = inspector.resolve(frame)
        return look, fact is not None and fact.name not in RUNS_CODE


def _runs_script(backend: Backend) -> bool:
    """Whether a script may be running: requests that were written together can not be told apart."""
    return any(_calls(entry.frame) for entry in backend.inflight.entries())


def _calls(frame: bytes) -> bool:
    named = (frame if exec_block.is_block(frame) else frame[:_NAMED]).lower()
    return b"eval" in named or b"fcall" in named
