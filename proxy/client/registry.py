"""The worker's clients: the connected ones, their limits, the slow readers, the monitors, and CLIENT PAUSE."""

import asyncio
from collections.abc import Iterator

from proxy import errors
from proxy.client.admission import Admission, Peer, too_many_at
from proxy.client.backlog import Backlog
from proxy.client.client import Client
from proxy.client.memory_budget import MemoryBudget
from proxy.client.shared_counts import SharedCounts
from proxy.client.user_limits import UserLimits
from proxy.config.model import LimitsSection
from proxy.engine.jobs import MORE, Job
from proxy.features.monitor import MonitoringClients
from proxy.features.pause import Pausing
from proxy.metrics import Counters
from proxy.resp import encode
from proxy.session.cross_worker import Pause
from proxy.session.listener import Listener
from proxy.session.login_delays import LoginDelays
from proxy.session.session import Load, Session
from proxy.transport.flow_control import Stop
from proxy.transport.job_runner import Slices

_SUSPECTS = 3
"""The most clients that are named as the possible cause of a long turn."""


class Clients:
    """All client connections of the worker; implements the ``Directory`` that sessions use."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slices: Slices,
        counters: Counters,
        limits: LimitsSection,
        shared_counts: SharedCounts,
    ) -> None:
        self._loop = loop
        self._slices = slices
        self._counters = counters
        self._shared_counts = shared_counts
        self.maximum = limits.max_clients
        """How many clients all workers may have."""
        self.own_maximum = limits.max_clients
        """How many clients this worker may have: its file descriptors suffice for so many."""
        self.backlog = Backlog(loop, limits.output_memory, counters)
        self.memory = MemoryBudget(0)
        """The memory of the clients, which is counted from the start of the worker on."""
        self.monitoring = MonitoringClients(self.tell_plain)
        self.pausing: Pausing
        """Decides which commands a pause holds."""
        self.admission: Admission
        """Decides which clients are admitted."""
        self.delays: LoginDelays
        """The delays of logins."""
        self.user_limits: UserLimits
        """Gives the clients of users and addresses with limits their quotas."""
        self._clients: dict[int, Client] = {}
        self._pause: Pause | None = None
        self._pause_timer: asyncio.TimerHandle | None = None
        self.paused = False
        self._blocked = 0

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def refusal(self, peer: Peer, listener: Listener) -> str:
        """Return the error's text if ``peer`` is refused at ``listener``, and count the refusal; return "" if ``peer``
        is admitted."""
        if self._shared_counts.total() >= self.maximum or len(self._clients) >= self.own_maximum:
            self._counters.reject("max clients")
            return errors.MAX_CLIENTS
        if listener.max_clients is not None and self._shared_counts.total_at(listener.index) >= listener.max_clients:
            self._counters.reject("listener limit")
            return too_many_at(listener)
        return self.admission.refusal(peer, listener)

    @property
    def limited(self) -> bool:
        """Whether any user or address has limits."""
        return self.user_limits.limited

    def newest_first(self) -> Iterator[Client]:
        """All clients, the latest first. No client may be added or removed during the iteration."""
        return reversed(self._clients.values())

    def enter(self, client: Client, peer: Peer) -> int:
        """Add a client, whose connection is ``peer``. Returns its id: 1 or more, and unique among all workers."""
        shared_counts = self._shared_counts
        self._counters.accepted += 1
        number = shared_counts.next_number()
        self._clients[number] = client
        self.admission.enter(number, peer)
        if client.listener.max_clients is not None:
            shared_counts.count_at(client.listener.index, 1)
        shared_counts.connected(len(self._clients))
        return number

    def begun(self, client: Client) -> None:
        """Apply the limits of its user and address, or those before its login, to a client that is served from now
        on."""
        session = client._session  # most clients have none yet: they are logged in, and may send everything
        if self.user_limits.limited or (session is not None and not session.authenticated):
            self.user_limits.begin(client)

    def turn_away(self) -> bytes:
        """Count a client that is refused for want of a file descriptor, and return the error for that client."""
        self._counters.reject("max clients")
        return encode.error(errors.MAX_CLIENTS)

    def remove(self, client: Client) -> None:
        """Remove a client whose connection has ended."""
        if self._clients.pop(client.number, None) is not None and client.listener.max_clients is not None:
            self._shared_counts.count_at(client.listener.index, -1)
        self.admission.leave(client.number)
        self.delays.leave(client.number)
        self.user_limits.leave(client)
        self._let_go(client)
        self._shared_counts.connected(len(self._clients))

    # ---- the interface for sessions

    def sessions(self) -> Iterator[Session]:
        """The sessions of all clients."""
        for client in self:
            if not client.gone:
                yield note_latest(client)

    def get(self, number: int) -> Client | None:
        """The client with the id ``number``; None if there is none."""
        return self._clients.get(number)

    def latest(self, since: float) -> str:
        """Describe the last few clients that sent requests after ``since`` (the turns' time), with their commands."""
        active = sorted((client.last_active, number) for number, client in self._clients.items())
        numbers = [number for at, number in reversed(active) if at >= since]
        found = []
        for number in numbers[:_SUSPECTS]:
            session = note_latest(self._clients[number])
            found.append(f"id={number} addr={session.address} cmd={session.last_command}")
        more = len(numbers) - len(found)
        return "; ".join(found) + (f"; {more} more" if more > 0 else "")

    def load(self, session: Session) -> Load:
        """The requests and bytes that wait in the proxy for a client."""
        client = self._clients.get(session.id)
        if client is None:
            return Load()
        window, queue = client.window, None if client.modes is None else client.modes.queue
        queued = 0 if queue is None else queue.size
        unread = client.flow.unread()
        return Load(
            window.pending, unread, window.parked_bytes, client.unprocessed(), queued, window.written, window.issued
        )

    def kill(self, session: Session) -> None:
        """Close a client's connection at once."""
        client = self._clients.get(session.id)
        if client is not None:
            client.close()

    def unblock(self, number: int, error: bool) -> bool:
        """End the blocking command of client ``number``, and return whether the client was in one."""
        client = self._clients.get(number)
        if client is None or client.modes is None or client.modes.block is None:
            return False
        client.modes.block.unblock(error)
        return True

    def channels(self, session: Session) -> Iterator[tuple[bytes, bool]]:
        """The names of a client's subscriptions, each with whether it is a pattern."""
        client = self._clients.get(session.id)
        if client is not None and client.modes is not None and client.modes.subscriptions is not None:
            yield from client.modes.subscriptions.all_names()

    def rules_changed(self, session: Session) -> None:
        """Apply the changed rules of a client's user to the client."""
        client = self._clients.get(session.id)
        if client is not None:
            client.changed(False)

    def count_blocked(self, change: int) -> None:
        """Count a client that begins (``change`` is 1) or ends (-1) to wait in a blocking command."""
        self._blocked += change
        self._shared_counts.blocked(self._blocked)

    def pause(self, seconds: float, writes_only: bool) -> None:
        """Hold commands for ``seconds``. Of two pauses the longer time and the stricter mode apply, as in Redis."""
        self._pause = Pause(self._loop.time() + seconds, writes_only).joined(self._pause)
        self.paused = True
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        self._pause_timer = self._loop.call_at(self._pause.seconds, self.unpause)
        self.pausing.begin()
        self.tell_plain()

    def unpause(self) -> None:
        """End the pause."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        self._pause = None
        self.paused = False
        self.tell_plain()
        self._slices.run(self._unpausing())

    def look_again(self) -> None:
        """Check again whether the requests that are held still have to be."""
        self._slices.run(self._unpausing())

    def _unpausing(self) -> Job[None]:
        """Carry out the requests that were held; a request that a pause still holds is postponed again."""
        for client in self:
            if client.held:
                self._let_go(client)
                client.flow.go(Stop.PAUSED | Stop.FULL)
            yield MORE

    def _let_go(self, client: Client) -> None:
        """Stop holding the requests of ``client``."""
        if client.held:
            client.held = False
            client.session.blocked = False
            self.count_blocked(-1)

    def tell_plain(self) -> None:
        """Have all clients check again whether the fast path may be used."""
        for client in self:
            client.pause_changed()

    @property
    def pauses_writes_only(self) -> bool:
        """Whether the pause holds only commands that may write."""
        return self._pause is not None and self._pause.writes_only


def note_latest(client: Client) -> Session:
    """Record the last command of the fast path in the client's session, and return the session."""
    session = client.known_session()
    session.last_active = client.last_active
    if client.latest is not None:
        session.last_command = client.latest.name
    return session
