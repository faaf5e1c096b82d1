"""The subscriptions of one client, and the mode with few commands that a RESP2 client enters by subscribing.

A SUBSCRIBE does not wait for an earlier SUBSCRIBE; the confirmations keep the order of the commands. Any other command
waits until all earlier subscriptions are confirmed, because its result may depend on them.

Source: https://redis.io/docs/latest/develop/interact/pubsub/ and what Redis 7 answers.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from proxy import errors
from proxy.commands.facts import Fact
from proxy.engine.jobs import MORE, Job, at_once
from proxy.features.host import Host
from proxy.features.request import PendingReply
from proxy.planning.channels import BEGIN, END, Kind, confirmation, nothing_ended
from proxy.pubsub.topic import PendingSubscription, Server
from proxy.resp import encode
from proxy.transport.clock import Deadline
from proxy.transport.flow_control import Stop

_STEP = 8
"""How many names a job handles between two points at which other jobs may run."""
_FEW = 64
"""The most names that are joined in one step, so that no message comes between their confirmations."""
_TOLD_AT_ONCE = 500
"""The most confirmations in one piece of a reply; a longer reply is streamed in pieces."""
_LOOK_EVERY = 1.0
"""Seconds between two checks of whether a slow client has caught up."""


@dataclass(eq=False, slots=True)
class Begun:
    """A command that subscribes to ``names`` and is not confirmed yet; ``pending`` is the reply to the command."""

    kind: Kind
    names: Sequence[bytes]
    pending: PendingReply
    claim: PendingSubscription


class Subscriptions:
    """The subscriptions of ``client``."""

    __slots__ = (
        "_asked",
        "_begun",
        "_client",
        "_confirms",
        "_expected",
        "_leaves",
        "_limited",
        "_watch",
        "names",
        "protocol",
    )

    def __init__(self, client: Host) -> None:
        self._client = client
        self.protocol = client.session.protocol
        self._begun: deque[Begun] = deque()
        """The commands that subscribe and are not confirmed yet, the oldest first."""
        self._asked = [0, 0]
        """How many names the commands in ``_begun`` have: of channels, and of patterns."""
        self._confirms = False
        """Whether a job confirms the commands in ``_begun``."""
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
        """Whether a command that subscribes is not confirmed yet."""
        return bool(self._begun)

    @property
    def follows(self) -> bool:
        """Whether all commands of the client in flight are commands that subscribe."""
        return self._client.window.pending == len(self._begun)

    def precedes(self, fact: Fact) -> bool:
        """Whether a command has to wait for earlier commands that subscribe."""
        if not self._begun or fact.name in BEGIN:
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
                if excess := self.excess(kind, all_of):
                    return excess
            self._expected = [hub.claim(self._expected_stands) for _ in names]
            slices = self._client.service.slices
            for claim, (kind, all_of) in zip(self._expected, names.items(), strict=True):
                slices.run(self._claiming(claim, kind, all_of), self._client)
        problem = next((claim.problem for claim in self._expected if claim.problem), None)
        if problem is not None:
            self.forget()
            return problem
        if all(claim.over for claim in self._expected):
            return None
        self._client.flow.stop(Stop.ORDER)
        return ""

    def excess(self, kind: Kind, names: Sequence[bytes]) -> str:
        """Count, and return the error for, a subscription to ``names`` that exceeds what the client may have; "" if the
        client may subscribe. Names in long commands count even if the client is subscribed to them already."""
        limits = self._client.service.config.limits
        patterns = kind is Kind.PATTERN
        most = limits.max_patterns_per_client if patterns else limits.max_subscriptions_per_client
        if not most:
            return ""
        channels, has, of_shards = (len(self.names[each]) for each in Kind)
        if not patterns:
            has = channels + of_shards
        has += self._asked[patterns]
        if has + len(names) <= most:
            return ""
        own = self.names[kind]
        more = len({*names} - own.keys()) if len(names) <= _FEW else len(names)
        if has + more <= most:
            return ""
        key = "max_patterns_per_client" if patterns else "max_subscriptions_per_client"
        self._client.service.counters.limit(key)
        return (
            f"ERR this client has {has} subscriptions to {'patterns' if patterns else 'channels'} and asks for {more} "
            f"more: limits.{key} = {most}. The command was not executed"
        )

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
            return b"".join(at_once(self._leaving(END[name], args[1:], set())))
        kind = BEGIN[name]
        if kind is Kind.SHARD:
            return encode.error(errors.NO_SSUBSCRIBE)
        frames: list[bytes] = []
        at_once(self._joining(kind, args[1:], frames.append))
        self._changed()
        return b"".join(frames)

    def begin(self, kind: Kind, names: Sequence[bytes], pending: PendingReply) -> None:
        """Subscribe to ``names``. Commands behind this one wait for its confirmation unless they subscribe, too."""
        client = self._client
        hub = client.service.hub
        claim = hub.claim(self._settled)
        hub.beginnings.begin(claim, kind, names)
        self._begun.append(Begun(kind, names, pending, claim))
        self._asked[kind is Kind.PATTERN] += len(names)
        client.service.slices.run(self._claiming(claim, kind, names), client)
        if self._begun:
            client.adopt_session()

    def _settled(self, problem: str | None) -> None:
        """Confirm commands from the oldest on, because the servers have confirmed or refused one of them."""
        if not self._confirms and self._begun and self._begun[0].claim.over:
            self._confirms = True
            self._client.service.slices.run(self._confirming_all(), self._client)

    def _confirming_all(self) -> Job[None]:
        """Confirm commands from the oldest on, up to the first one whose claim is not settled."""
        begun = self._begun
        while begun and begun[0].claim.over:
            yield from self._confirming(begun[0])
            yield MORE
        self._confirms = False

    def _claiming(self, claim: PendingSubscription, kind: Kind, names: Sequence[bytes]) -> Job[None]:
        """Add ``names`` to the claim, and seal the claim."""
        yield from claim.adding(kind, names)
        claim.seal()

    def _confirming(self, first: Begun) -> Job[None]:
        """Join the topics of the ``first`` command and confirm them, or answer with the claim's error. Releases the
        claim."""
        client, begun = self._client, self._begun
        window = client.window
        kind, names, token, problem = first.kind, first.names, first.pending.token, first.claim.problem
        said: list[bytes] = []

        def say(frame: bytes) -> None:
            said.append(frame)
            if len(said) > _TOLD_AT_ONCE:
                window.stream(token, b"".join(said), False)
                said.clear()

        if problem is None and len(names) > _FEW:
            # The open stream makes messages wait until all names are confirmed.
            window.stream(token, b"", False)
            yield from self._joining(kind, names, say)
            self._drop_first()
            self._changed()
            window.stream(token, b"".join(said), True)
        else:
            if problem is not None:
                said.append(encode.error(problem))
            else:
                at_once(self._joining(kind, names, said.append))
            self._drop_first()
            self._changed()
            window.gathers = bool(begun)
            if not begun:
                # Reading resumes before the answer is given: a PUBLISH that the client sends in reaction to the answer
                # must not come behind what other clients publish later.
                client.flow.go(Stop.ORDER)
            first.pending.answer(b"".join(said))
            window.gathers = False
        self._let_go(first.claim)

    def _drop_first(self) -> None:
        """Remove the oldest command that was not confirmed from ``_begun``."""
        first = self._begun.popleft()
        self._asked[first.kind is Kind.PATTERN] -= len(first.names)

    def _let_go(self, claim: PendingSubscription) -> None:
        """Release a claim that is served or not needed any more."""
        service = self._client.service
        service.hub.beginnings.end(claim)
        service.slices.run(claim.releasing())

    def _joining(self, kind: Kind, names: Sequence[bytes], say: Callable[[bytes], None]) -> Job[None]:
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

    def end(self, kind: Kind, names: Sequence[bytes], pending: PendingReply) -> None:
        """End the subscriptions to ``names``, or all of ``kind`` if ``names`` is empty.

        Commands behind this one wait until the servers have confirmed the end: such a command may ask the servers for
        the number of subscribers, as PUBLISH and PUBSUB do.
        """
        client = self._client
        client.service.slices.run(self._ending(kind, names, pending), client)
        if client.window.pending:
            client.flow.stop(Stop.ORDER)

    def _ending(self, kind: Kind, names: Sequence[bytes], pending: PendingReply) -> Job[None]:
        links: set[Server] = set()
        frames = yield from self._leaving(kind, names, links)
        self._client.service.hub.after(links, lambda: pending.answer(b"".join(frames)))

    def _leaving(self, kind: Kind, names: Sequence[bytes], links: set[Server]) -> Job[list[bytes]]:
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
        self._changed()
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
        begun = list(self._begun)
        self._begun.clear()
        self._asked = [0, 0]
        for each in begun:
            self._let_go(each.claim)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not self._leaves:
            self._client.service.slices.run(self._clearing())

    def _clearing(self) -> Job[None]:
        """Leave all topics."""
        hub = self._client.service.hub
        links: set[Server] = set()
        for kind, names in self.names.items():
            for at, name in enumerate(names):
                links.update(hub.leave(kind, name, self))
                if not at % _STEP:
                    yield MORE
            names.clear()
        if self._leaves:
            hub.after(links, self._left)

    def _left(self) -> None:
        """Let the client go on with RESET, since the servers have confirmed the end of all subscriptions."""
        self._leaves = False
        if not self._client.gone:
            self._changed()
            self._client.flow.go(Stop.ORDER)

    def count(self, kind: Kind) -> int:
        """The count in a confirmation: that of channels and patterns together, or that of shard channels alone."""
        if kind is Kind.SHARD:
            return len(self.names[kind])
        return len(self.names[Kind.CHANNEL]) + len(self.names[Kind.PATTERN])

    def _changed(self) -> None:
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
