"""Connections over which a script runs that takes long: others who call scripts are sent over a fresh one.

A server reads nothing more from a connection while a script runs that came over it. What is sent over another one it
answers BUSY, once the script has run for its threshold (``busy-reply-threshold``). Who calls no scripts has other
connections (``Client.may_call_scripts``), and needs none of this. Of what was written behind the script already,
reads are sent again over the fresh one, where their clients can not tell; what may write is carried out when the script
is over, as it can not be taken back.

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
"""Seconds between two looks, while scripts are called."""
_LONG = 0.04
"""Seconds without a word of the server after which a script takes long."""
_MOST, _WITHIN = 20, 5.0
"""So many fresh connections to one server may be made within so many seconds: where scripts always take long, others
wait for them as they would anyway."""
_NAMED = 32
"""Bytes of a request in which its name stands."""
_NOTHING = Look(readonly=True, slots=frozenset())
"""What the proxy asks itself is nobody's business."""


class SlowScripts:
    """The watch over the scripts that clients of ``service`` call; it rests while none is called."""

    def __init__(self, service: Services) -> None:
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
        """Over the connection that has taken its place: what can not be told from where it was
        (``retry_rules.movable``)."""
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
        """What a request is, and whether it only reads, without code that its client wrote."""
        inspector = self._service.inspector
        look = inspector.look(frame)
        if not look.readonly or exec_block.is_block(frame):
            return look, False
        fact, _ = inspector.resolve(frame)
        return look, fact is not None and fact.name not in RUNS_CODE


def _runs_script(backend: Backend) -> bool:
    """Whether one is in flight: nothing tells which of what was written together the server is at."""
    return any(_calls(entry.frame) for entry in backend.inflight.entries())


def _calls(frame: bytes) -> bool:
    named = (frame if exec_block.is_block(frame) else frame[:_NAMED]).lower()
    return b"eval" in named or b"fcall" in named
