"""Looks for scripts that a server does not have, in this worker and in the other ones."""

import math
from collections.abc import Callable, Iterable, Sequence

from proxy.features.host import Siblings
from proxy.planning.refusals import NOSCRIPT, Refusal
from proxy.session.cross_worker import Part
from proxy.session.script_cache import Scripts, calls_by_digest

_PAUSE = 0.01
"""Seconds until a request is sent again while the other workers are asked for its script."""
_KNOWN_FOR = 0.1
"""Seconds for which a script counts as unknown to all workers: longer than the waiting requests take to be sent
again."""
_MOST = 1000


class LostScripts:
    """The scripts that the other workers were asked for."""

    def __init__(self, scripts: Scripts, now: Callable[[], float], siblings: Callable[[], Siblings | None]) -> None:
        self._scripts = scripts
        self._now = now
        self._siblings = siblings
        self._asked: set[bytes] = set()
        self._nobodys: dict[bytes, float] = {}
        """The digests of scripts that no worker had, with the times of the replies."""
        self._waiting: dict[bytes, list[Callable[[], None]]] = {}
        """The functions to call when the other workers have answered, by the digest they were asked for."""
        scripts.on_flush = self._flushed
        scripts.look_elsewhere = self.look

    def refusal(self, error: bytes, frame: bytes) -> Refusal | None:
        """The refusal of the request ``frame`` with ``error``, as the server does not have its script; None if no
        worker has it."""
        siblings = self._siblings()
        calls = calls_by_digest(frame)
        if siblings is None or not calls:
            return None
        return Refusal(NOSCRIPT, error, pause=_PAUSE) if self._ask(siblings, calls[0][1][1].lower()) else None

    def look(self, digest: bytes, then: Callable[[], None]) -> bool:
        """Ask the other workers for a script, and call ``then`` when they have answered. False if nobody has it."""
        siblings = self._siblings()
        if siblings is None or not self._ask(siblings, digest):
            return False
        self._waiting.setdefault(digest, []).append(then)
        return True

    def _ask(self, siblings: Siblings, digest: bytes) -> bool:
        """Ask the other workers for a script, unless they are being asked. False if they had none a moment ago."""
        if digest not in self._asked:
            if self._now() - self._nobodys.get(digest, -math.inf) < _KNOWN_FOR:
                return False
            self._asked.add(digest)
            siblings.ask("script|show", (digest,), 0, lambda parts: self._answered(digest, parts))
        return True

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept by this worker, or may be by another."""
        return self._siblings() is not None or any(self._scripts.body(digest) is not None for digest in digests)

    def _answered(self, digest: bytes, parts: Sequence[Part]) -> None:
        self._asked.discard(digest)
        body = next((part for part in parts if part is not None), None)
        if body is not None:
            self._scripts.keep(body.encode("latin-1"))
        if self._scripts.body(digest) is None:
            if len(self._nobodys) >= _MOST:
                self._nobodys.clear()
            self._nobodys[digest] = self._now()
        for then in self._waiting.pop(digest, ()):
            then()

    def _flushed(self) -> None:
        siblings = self._siblings()
        if siblings is not None:
            siblings.ask("script|flush", (), 0, lambda parts: None)
