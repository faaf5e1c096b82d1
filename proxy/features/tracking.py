"""CLIENT TRACKING: the tracking clients, and their commands. Each of them has connections of its own to the servers
(``tracking_client``).

Over shared connections NOLOOP would concern the writes of other clients, and every client would hear of every key. When
invalidations may have been missed, as a connection was lost or slots moved, everything is invalidated.
"""

from collections.abc import Iterator
from typing import cast

from proxy import errors, server_errors
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
"""The commands that change the state of a tracking client's connections, so that no request may be in flight on
them."""


def too_many_prefixes(count: int, most: int) -> str:
    """The error of CLIENT TRACKING for a client that would track more prefixes than it may."""
    return (
        f"ERR this client would track {count} prefixes: limits.max_prefixes_per_client = {most}. "
        "The command was not executed"
    )


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
        """The tracking of the client with this number, or None."""
        return self._trackers.get(owner)

    def of(self, holder: str) -> int:
        """The number of tracking clients of one user at one address."""
        return sum(tracker.holder == holder for tracker in self._trackers.values())

    def begin(self, client: Host, wanted: Tracking) -> "Tracker":
        """Start tracking for ``client``."""
        tracker = self._trackers[client.number] = Tracker(client, wanted)
        tracker.cost = len(self._service.topology.shards)
        self._budget.taken += tracker.cost
        return tracker

    def end(self, tracker: KeyTracking) -> None:
        """Stop the tracking of a client, and close its connections."""
        number = tracker.number
        kept = self._trackers.get(number)
        if kept is tracker:
            del self._trackers[number]
            self._budget.taken -= kept.cost
            kept.close()
            self._service.upstream.release(number)

    def leave(self, node: Node) -> None:
        """Close the connections that receive redirected invalidations of ``node``."""
        for tracker in self:
            tracker.leave(node)

    def moved(self) -> None:
        """Invalidate everything for all clients, as slots have moved: the old servers report nothing about their keys
        any more."""
        for tracker in self:
            tracker.missed()


# ---- as commands


def asking(client: Host, args: list[bytes]) -> Job[Asked]:
    """The job that parses the arguments of CLIENT TRACKING."""
    return parsing(args, client.session.tracking, lambda number: _why_not(client.service, number))


def track(modes: Modes, request: Request) -> bool:
    """Carry out CLIENT TRACKING after all earlier requests are answered, as the next ones use other connections."""
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
    most = service.config.limits.max_prefixes_per_client
    if asked is not None and 0 < most < len(asked.prefixes):
        service.counters.refuse("max_prefixes_per_client")
        client.refuse(request.fact, too_many_prefixes(len(asked.prefixes), most))
        return True
    if tracker is None and len(service.trackers) >= service.trackers.most:
        client.refuse(request.fact, errors.too_many_trackers(service.trackers.most))
        return True
    if tracker is None and service.trackers.of(client.holder) >= service.trackers.share:
        client.refuse(request.fact, server_errors.trackers_share(client.holder, service.trackers.share))
        return True
    if tracker is None and not service.upstream.budget.has(len(service.topology.shards)):
        client.refuse(request.fact, server_errors.no_descriptors(service.upstream.budget.most))
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
    """End the tracking of a client that is gone or has sent RESET."""
    tracker, modes.tracker = modes.tracker, None
    if tracker is not None:
        client = modes.client
        client.session.tracking = None
        client.service.trackers.end(tracker)


def choose(modes: Modes, request: Request) -> bool:
    """Carry out CLIENT CACHING YES | NO."""
    client = modes.client
    tracking = client.session.tracking
    wrong = errors.NO_CACHING if tracking is None else tracking.choose(request.args[2])
    client.say(request.fact, encode.error(wrong) if wrong else encode.OK)
    return True


def _why_not(service: Services, number: int) -> str | None:
    """Why invalidations can not be redirected to the client with this number; None if they can."""
    if service.clients.get(number) is not None:
        return None
    workers = service.shared_counts.workers
    if workers > 1 and (number - 1) % workers != service.shared_counts.index and number > 0:
        return errors.other_worker(number)
    return "ERR The client ID you want redirect to does not exist"
