"""Scripts that a server refused for want of, looked for: here, and with the other workers."""

from collections.abc import Callable, Iterable, Sequence

from proxy.features.host import Siblings
from proxy.planning.refusals import NOSCRIPT, Refusal
from proxy.session.cross_worker import Part
from proxy.session.script_cache import Scripts, calls_by_digest

_PAUSE = 0.01
"""Seconds after which a request is sent again whose script the others are asked for: as many times as that takes."""
_KNOWN_FOR = 0.1
"""Seconds for which it holds that nobody has a script: longer than sending again what waited for the answer takes."""
_MOST = 1000


class LostScripts:
    """What the other workers were asked for."""

    def __init__(self, scripts: Scripts, now: Callable[[], float], siblings: Callable[[], Siblings | None]) -> None:
        self._scripts = scripts
        self._now = now
        self._siblings = siblings
        self._asked: set[bytes] = set()
        self._nobodys: dict[bytes, float] = {}
        """The digests of scripts that nobody had, and when."""
        scripts.on_flush = self._flushed

    def refusal(self, error: bytes, frame: bytes) -> Refusal | None:
        """What the error refuses that a server sent to the request in ``frame``; None if nobody has the script."""
        siblings = self._siblings()
        calls = calls_by_digest(frame)
        if siblings is None or not calls:
            return None
        digest = calls[0][1][1].lower()
        now = self._now()
        if digest not in self._asked:
            if now - self._nobodys.get(digest, -_KNOWN_FOR) < _KNOWN_FOR:
                return None
            self._asked.add(digest)
            siblings.ask("script|show", (digest,), 0, lambda parts: self._answered(digest, parts))
        return Refusal(NOSCRIPT, error, pause=_PAUSE)

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""
        return self._siblings() is not None or any(self._scripts.body(digest) is not None for digest in digests)

    def _answered(self, digest: bytes, parts: Sequence[Part]) -> None:
        self._asked.discard(digest)
        body = next((part for part in parts if part is not None), None)
        if body is not None:
            self._scripts.keep(body.encode("latin-1"))
        if self._scripts.body(digest) is not None:
            return
        if len(self._nobodys) >= _MOST:
            self._nobodys.clear()
        self._nobodys[digest] = self._now()

    def _flushed(self) -> None:
        siblings = self._siblings()
        if siblings is not None:
            siblings.ask("script|flush", (), 0, lambda parts: None)
