"""Whether the proxy should get clients: the answer of ``/readyz``, as text and as JSON.

Two questions have different answers while a shard is down. A balancer asks whether clients are served at all: if one
lost shard made all proxies "not ready", the balancer would take them out together, with the shards that work. A deploy
gate, or a person, asks whether everything is served. ``ready_when`` chooses the answer of ``/readyz``;
``/readyz?all`` always asks for everything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ANY, ALL = "any", "all"
"""The values of ``ready_when``."""
WHOLE = "ready: every slot has a reachable primary"
NO_PRIMARY = "no reachable primary"
DRAINING = "the proxy is about to stop"
_NO_SHARD = "no shard is known"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is known about the workers and the shards at one moment."""

    shards: Mapping[str, str] = field(default_factory=dict)
    """Why each shard is not served, by its name; "" for a shard that every running worker serves."""
    problems: Sequence[str] = ()
    """The reasons, in words, why some slots are not served."""
    workers: Sequence[str] = ()
    """The reasons, in words, why some workers do not serve. Clients that such a worker gets would wait."""
    serving: bool = False
    """Whether each running worker serves some shard."""

    def unready(self, when: str) -> str:
        """Return why the proxy should get no clients; "" if it should get clients. ``when``: ``ANY`` or ``ALL``."""
        if when == ANY and self.serving and not self.workers:
            return ""
        words = "; ".join((*self.workers, *self.problems))
        return words if words or when == ALL else _NO_SHARD

    def with_workers(self, reasons: Sequence[str]) -> "Readiness":
        """Return the same with the ``reasons`` why some workers do not serve."""
        return Readiness(self.shards, self.problems, reasons, self.serving)

    def text(self) -> str:
        """Describe a proxy that is ready, in words."""
        if not self.problems:
            return WHOLE
        served = sum(not why for why in self.shards.values())
        return f"ready: {served} of {len(self.shards)} shards are served\n{'; '.join(self.problems)}"

    def plain(self) -> dict[str, Any]:
        """Return the readiness in a form that JSON can hold."""
        return {
            "shards": dict(self.shards),
            "problems": list(self.problems),
            "workers": list(self.workers),
            "serving": self.serving,
        }

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Readiness":
        """Return the readiness that ``plain`` was made from."""
        return cls(plain["shards"], tuple(plain["problems"]), tuple(plain["workers"]), plain["serving"])


def document(
    readiness: Readiness | None, when: str, draining: bool, lacking: Sequence[tuple[str, str]], told: bool
) -> tuple[bool, bytes]:
    """Return whether the proxy is ready, and the JSON that says so.

    ``readiness`` is None while nobody has to be asked, since the proxy is ``draining``. ``lacking`` has the function
    libraries that shards lack, each as a shard and a library. Who may not be ``told`` more gets no names and reasons.
    """
    words = DRAINING if draining or readiness is None else readiness.unready(when)
    answer: dict[str, Any] = {"ready": not words, "ready_when": when, "draining": draining}
    if told:
        answer["reasons"] = [words] if words else list(readiness.problems) if readiness is not None else []
        if readiness is not None:
            answer["shards"] = [
                {"name": name, "served": not why, **({"reason": why} if why else {})}
                for name, why in readiness.shards.items()
            ]
            answer["missing_libraries"] = [{"shard": shard, "library": library} for shard, library in lacking]
    return not words, json.dumps(answer, indent=2).encode() + b"\n"
