"""The subscriptions of one client, and the mode with few commands that a RESP2 client enters by subscribing.

The commands that subscribe and unsubscribe, and PING, are taken one behind the other
(``proxy.features.pending_changes``). Any other command waits until these are confirmed, because its result may depend
on them.

Source: https://redis.io/docs/latest/develop/interact/pubsub/ and what Redis 7 answers.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from proxy import errors
from proxy.commands.facts import Fact
from proxy.engine.jobs import MORE, Job, at_once
from proxy.features.host import Host
from proxy.features.pending_changes import PendingChanges, claiming
from proxy.planning.channels import BEGIN, END, Kind, confirmation, nothing_ended
from proxy.pubsub.beginnings import Announcement
from proxy.pubsub.topic import PendingSubscription, Server
from proxy.resp import encode
from proxy.transport.clock import Deadline
from proxy.transport.flow_control import Stop

IN_TURN = frozenset((*BEGIN, *END, "ping"))
"""The commands that do not wait until earlier ones of them are confirmed."""
_STEP = 8
"""How many names a job handles between two points at which other jobs may run."""
_FEW = 64
"""The most names that are joined in one step, so that no message comes between their confirmations."""
_TOLD_AT_ONCE = 500
"""The most confirmations in one piece of a reply; a longer reply is streamed in pieces."""
_LOOK_EVERY = 1.0
"""Seconds between two checks of whether a slow client has caught up."""


class Subscriptions:
    """The subscriptions of ``client``."""

    __slots__ = ("_client", "_expected", "_leaves", "_limited", "_watch", "changes", "names", "protocol")

    def __init__(self, client: Host) -> None:
        self._client = client
        self.protocol = client.session.protocol
        self.changes = PendingChanges(client, self)
        """The commands that subscribe or unsubscribe and are not confirmed yet."""
        self._limited = False
        """Whether the output limits for subscribers apply to the client."""
        self._leaves = False
        """Whether a RESET is ending all subscriptions in a job."""
        self._expected: list[PendingSubscription] = []
        """The claims of the names that a transaction subscribes to."""
        self._watch: Deadline | None = None
        self.names: dict[Kind, dict[bytes, None]] = {kind: {} for kind in Kind}

    @property
    def any(self) -> bool:
        """Whether the client has any subscription."""
        return any(self.names.values())

    def all_names(self) -> Iterator[tuple[bytes, bool]]:
        """The names of all subscriptions, each with whether it is a pattern."""
        for kind, names in self.names.items():
            for name in list(names):
                yield name, kind is Kind.PATTERN

    @property
    def begins(self) -> bool:
        """Whether a command that subscribes or unsubscribes is not confirmed yet."""
        return bool(self.changes)

    @property
    def follows(self) -> bool:
        """Whether all commands of the client in flight are among those that are not confirmed yet."""
        return self._client.window.pending == len(self.changes)

    def precedes(self, fact: Fact) -> bool:
        """Whether a command has to wait for earlier commands that subscribe or unsubscribe."""
        if not self.changes or fact.name in IN_TURN:
            return False
        self._client.flow.stop(Stop.ORDER)
        return True

    @property
    def restricted(self) -> bool:
        """Whether only a few commands are allowed, because a client in RESP2 is subscribed."""
        return self.protocol < 3 and self.any

    def expect(self, commands: Sequence[tuple[str, Sequence[bytes]]]) -> str | None:
        """Subscribe at the servers to all names in the ``commands`` of a transaction, before EXEC is carried out.

        Returns None when the servers have confirmed all names, "" while the client has to wait for that, or the text of
        an error reply.
        """
        hub = self._client.service.hub
        if not self._expected:
            names: dict[Kind, list[bytes]] = {}
            for name, args in commands:
                if BEGIN.get(name, Kind.SHARD) is not Kind.SHARD:
                    names.setdefault(BEGIN[name], []).extend(args[1:])
            for kind, all_of in names.items():
                if refusal := self.refusal(kind, all_of):
                    return refusal
            self._expected = [hub.claim(self._expected_stands) for _ in names]
            slices = self._client.service.slices
            for claim, (kind, all_of) in zip(self._expected, names.items(), strict=True):
                slices.run(claiming(claim, kind, all_of), self._client)
        problem = next((claim.problem for claim in self._expected if claim.problem), None)
        if problem is not None:
            self.forget()
            return problem
        if all(claim.over for claim in self._expected):
            return None
        self._client.flow.stop(Stop.ORDER)
        return ""

    def excess(self, kind: Kind, names: Sequence[bytes]) -> tuple[str, str] | None:
        """Return the key of the limit and the error for a subscription to ``names`` that exceeds what the client may
        have; None if the client may subscribe. Names in long commands count even if the client is subscribed to them
        already."""
        limits = self._client.service.config.limits
        patterns = kind is Kind.PATTERN
        most = limits.max_patterns_per_client if patterns else limits.max_subscriptions_per_client
        if not most:
            return None
        channels, has, of_shards = (len(self.names[each]) for each in Kind)
        if not patterns:
            has = channels + of_shards
        has += self.changes.asked(patterns)
        if has + len(names) <= most:
            return None
        more = self.changes.added(kind, names)
        if has + more <= most:
            return None
        key = "max_patterns_per_client" if patterns else "max_subscriptions_per_client"
        return key, (
            f"ERR this client has {has} subscriptions to {'patterns' if patterns else 'channels'} and asks for {more} "
            f"more: limits.{key} = {most}. The command was not executed"
        )

    def refusal(self, kind: Kind, names: Sequence[bytes]) -> str:
        """Count an excess, and return its error; "" if there is none."""
        excess = self.excess(kind, names)
        if excess is None:
            return ""
        key, text = excess
        self._client.service.counters.refuse(key)
        return text

    def _expected_stands(self, problem: str | None) -> None:
        self._client.flow.go(Stop.ORDER)

    def forget(self) -> None:
        """Release the claims of a transaction that is over."""
        expected, self._expected = self._expected, []
        for claim in expected:
            self._client.service.slices.run(claim.releasing())

    def told_at_exec(self, name: str, args: Sequence[bytes]) -> bytes:
        """Carry out the command ``name`` of a transaction, and return its confirmations."""
        if name in END:
            links: set[Server] = set()
            announced = self._client.service.hub.beginnings.announce(END[name], args[1:])
            frames = at_once(self.leaving(END[name], args[1:], links))
            self._after(links, (announced,))
            return b"".join(frames)
        kind = BEGIN[name]
        if kind is Kind.SHARD:
            return encode.error(errors.NO_SSUBSCRIBE)
        said: list[bytes] = []
        at_once(self.joining(kind, args[1:], said.append))
        self.changed()
        return b"".join(said)

    def joining(self, kind: Kind, names: Sequence[bytes], say: Callable[[bytes], None]) -> Job[None]:
        """Join the topics ``names``, which are claimed and subscribed at the servers, and ``say`` each confirmation."""
        hub, push = self._client.service.hub, self._client.window.push
        own = self.names[kind]
        for at, name in enumerate(names):
            if name not in own:
                own[name] = None
                hub.join(kind, name, self, push)
            say(confirmation(kind.subscribe, name, self.count(kind), self.protocol))
            if not at % _STEP:
                yield MORE

    def has_none(self, kind: Kind, names: Sequence[bytes]) -> bool:
        """Whether the client has no subscription to any of ``names``, or none of ``kind`` if ``names`` is empty. False,
        too, if ``names`` are too many to check."""
        own = self.names[kind]
        return not own if not names else len(names) <= _FEW and own.keys().isdisjoint(names)

    def leaving(self, kind: Kind, names: Sequence[bytes], links: set[Server]) -> Job[list[bytes]]:
        """Leave the topics ``names``, or all of ``kind`` if ``names`` is empty. Returns the confirmations, and adds the
        servers that were told to unsubscribe to ``links``."""
        frames = []
        own = self.names[kind]
        hub = self._client.service.hub
        if not names and not own:
            frames.append(nothing_ended(kind, (), self.count(kind), self.protocol))
        for at, name in enumerate(names or list(own)):
            if name in own:
                del own[name]
                links.update(hub.leave(kind, name, self))
            frames.append(confirmation(kind.unsubscribe, name, self.count(kind), self.protocol))
            if not at % _STEP:
                yield MORE
        self.changed()
        return frames

    def adopted(self) -> None:
        """Adopt the protocol of the session, which may have changed."""
        self.protocol = self._client.session.protocol

    def behind(self) -> None:
        """Watch a client that reads its messages more slowly than they arrive."""
        if self._watch is None and self.any:
            self._look(None)

    def _look(self, since: float | None) -> None:
        """Close a client that has had more than ``pubsub_soft`` bytes unread for too long (from ``since`` on)."""
        self._watch = None
        client = self._client
        limits, clock = client.service.limits, client.service.turn.clock
        now = clock.settled
        if client.flow.unread() <= limits.pubsub_soft:
            since = None
        elif since is None:
            since = now
        elif now - since >= limits.pubsub_patience:
            client.abort("pubsub output limit")
            return
        if client.flow.behind:
            self._watch = clock.call_later(_LOOK_EVERY, self._look, since)

    def leaves(self) -> bool:
        """Whether RESET has to wait for the end of very many subscriptions; the first call begins to end them."""
        if not self._leaves and sum(map(len, self.names.values())) > _TOLD_AT_ONCE:
            self._leaves = True
            self._client.service.slices.run(self._clearing())
        if self._leaves:
            self._client.flow.stop(Stop.ORDER)
        return self._leaves

    def gone(self) -> None:
        """End all subscriptions without confirmations, because the client is gone or reset."""
        self.forget()
        self.changes.clear()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not self._leaves:
            self._client.service.slices.run(self._clearing())

    def _clearing(self) -> Job[None]:
        """Leave all topics."""
        hub = self._client.service.hub
        links: set[Server] = set()
        # Nobody counts on an order between the end of a connection and a PUBLISH.
        reset = not self._client.gone
        announced = [
            hub.beginnings.announce(kind, list(names)) for kind, names in self.names.items() if names and reset
        ]
        for kind, names in self.names.items():
            for at, name in enumerate(names):
                links.update(hub.leave(kind, name, self))
                if not at % _STEP:
                    yield MORE
            names.clear()
        self._after(links, announced)
        if self._leaves:
            hub.after(links, self._left)

    def _after(self, links: Collection[Server], announced: Collection[Announcement]) -> None:
        """Let the publishers go on that wait for ``announced``, when the servers ``links`` have unsubscribed."""
        hub = self._client.service.hub

        def left() -> None:
            for each in announced:
                hub.beginnings.confirmed(each)

        if announced:
            hub.after(links, left)

    def _left(self) -> None:
        """Let the client go on with RESET, since the servers have confirmed the end of all subscriptions."""
        self._leaves = False
        if not self._client.gone:
            self.changed()
            self._client.flow.go(Stop.ORDER)

    def count(self, kind: Kind) -> int:
        """The count in a confirmation: that of channels and patterns together, or that of shard channels alone."""
        if kind is Kind.SHARD:
            return len(self.names[kind])
        return len(self.names[Kind.CHANNEL]) + len(self.names[Kind.PATTERN])

    def changed(self) -> None:
        """Adopt the present subscriptions as the client's state."""
        client = self._client
        channels, patterns, of_shards = (len(self.names[kind]) for kind in Kind)
        client.session.listening = channels, patterns, of_shards
        limits = client.service.limits
        if self.any is not self._limited:
            self._limited = self.any
            usual = limits.output_soft // 2
            client.output_hard = limits.pubsub_hard if self.any else limits.output_hard
            client.flow.slow_from(min(usual, limits.pubsub_soft) if self.any else usual)
        client.adopt_session()
