"""CLIENT TRACKING: who tracks, and the commands of it. Each has connections to the servers of its own (``tracker``).

On shared connections NOLOOP would be about others' writes, and every client would hear of every key. What may have been
missed, as a connection was lost or slots moved, is made good by the invalidation of everything.
"""

from collections.abc import Iterator
from typing import cast

from proxy import errors
from proxy.engine.jobs import Job, at_once
from proxy.features.host import Host, KeyTracking, Services
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.features.tracking_client import Tracker
from proxy.resp import encode
from proxy.session.tracking_options import Asked, Tracking, parsing
from proxy.sharding.topology import Node
from proxy.transport.descriptors import Budget
from proxy.transport.flow_control import Stop

MOVING = frozenset({"hello", "select", "reset"})
"""What a tracking client's connections to servers follow, so that nothing may be in flight on them then."""


class TrackingClients:
    """The tracking clients of a worker: at most ``most``, as each has a connection to each primary, and at most
    ``share`` of one user at one address."""

    def __init__(self, service: Services, most: int, share: int, budget: Budget) -> None:
        self._service = service
        self._budget = budget
        self.most = most
        self.share = share
        self._trackers: dict[int, Tracker] = {}

    def __iter__(self) -> Iterator["Tracker"]:
        return iter(list(self._trackers.values()))

    def __len__(self) -> int:
        return len(self._trackers)

    def get(self, owner: int) -> "Tracker | None":
        """That of the client of this number."""
        return self._trackers.get(owner)

    def of(self, holder: str) -> int:
        """How many are of one user at one address."""
        return sum(tracker.holder == holder for tracker in self._trackers.values())

    def begin(self, client: Host, wanted: Tracking) -> "Tracker":
        """``client`` tracks from now on."""
        tracker = self._trackers[client.number] = Tracker(client, wanted)
        tracker.cost = len(self._service.topology.shards)
        self._budget.taken += tracker.cost
        return tracker

    def end(self, tracker: KeyTracking) -> None:
        """It does not any more: its connections are closed."""
        number = tracker.number
        kept = self._trackers.get(number)
        if kept is tracker:
            del self._trackers[number]
            self._budget.taken -= kept.cost
            kept.close()
            self._service.upstream.release(number)

    def leave(self, node: Node) -> None:
        """Let go of what listens at ``node``."""
        for tracker in self:
            tracker.leave(node)

    def moved(self) -> None:
        """Slots have other servers now: what was read from the old ones nobody tells about."""
        for tracker in self:
            tracker.missed()


# ---- as commands


def asking(client: Host, args: list[bytes]) -> Job[Asked]:
    """What CLIENT TRACKING asks for."""
    return parsing(args, client.session.tracking, lambda number: _why_not(client.service, number))


def track(modes: Modes, request: Request) -> bool:
    """CLIENT TRACKING: what was sent before is answered first, as what follows goes over other connections."""
    client = modes.client
    if not client.alone():
        return False
    service, session = client.service, client.session
    found = service.planner.examined.of(request.fact, request.args)
    asked = at_once(asking(client, request.args)) if found is None else cast(Asked, found.asked)
    if isinstance(asked, str):
        client.say(request.fact, encode.error(asked))
        return True
    tracker = modes.tracker
    if asked is None and tracker is None:
        client.say(request.fact, encode.OK)
        return True
    if tracker is None and len(service.trackers) >= service.trackers.most:
        client.refuse(request.fact, errors.too_many_trackers(service.trackers.most))
        return True
    if tracker is None and service.trackers.of(client.holder) >= service.trackers.share:
        client.refuse(request.fact, errors.trackers_share(client.holder, service.trackers.share))
        return True
    if tracker is None and not service.upstream.budget.has(len(service.topology.shards)):
        client.refuse(request.fact, errors.no_descriptors(service.upstream.budget.most))
        return True
    pending = client.hold(request.fact)
    session.tracking = asked
    if asked is None:
        assert tracker is not None
        modes.tracker = None
        client.adopt_session()
        tracker.end(pending, encode.OK)
    elif tracker is not None:
        tracker.change(asked, pending, encode.OK)
        client.adopt_session()
    else:
        modes.tracker = service.trackers.begin(client, asked)
        client.adopt_session()
        modes.tracker.begin(pending, encode.OK)
    client.flow.stop(Stop.ORDER)
    return True


def stop(modes: Modes) -> None:
    """The client is gone, or starts over."""
    tracker, modes.tracker = modes.tracker, None
    if tracker is not None:
        client = modes.client
        client.session.tracking = None
        client.service.trackers.end(tracker)


def choose(modes: Modes, request: Request) -> bool:
    """CLIENT CACHING YES | NO."""
    client = modes.client
    tracking = client.session.tracking
    wrong = errors.NO_CACHING if tracking is None else tracking.choose(request.args[2])
    client.say(request.fact, encode.error(wrong) if wrong else encode.OK)
    return True


def _why_not(service: Services, number: int) -> str | None:
    """Why nothing can be redirected to the client of this number."""
    if service.clients.get(number) is not None:
        return None
    workers = service.shared_counts.workers
    if workers > 1 and (number - 1) % workers != service.shared_counts.index and number > 0:
        return errors.other_worker(number)
    return "ERR The client ID you want redirect to does not exist"
