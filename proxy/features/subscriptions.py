"""What one client is subscribed to, and the mode that this puts it in when it speaks RESP2.

Of several SUBSCRIBEs that follow each other none waits for the one before; each is confirmed in its turn. What else
follows them waits until all are: it may depend on what stands.

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
"""Names until a job may be interrupted."""
_FEW = 64
"""So many names are joined at once, so that no message comes in between."""
_TOLD_AT_ONCE = 500
"""Of more confirmations these are a piece of the reply."""
_LOOK_EVERY = 1.0
"""Seconds after which it is looked again whether a slow client has caught up."""


@dataclass(eq=False, slots=True)
class Begun:
    """A command that subscribes to ``names``, and is not confirmed yet; ``pending`` is its reply."""

    kind: Kind
    names: Sequence[bytes]
    pending: PendingReply
    claim: PendingSubscription


class Subscriptions:
    """The subscriptions of ``client``."""

    __slots__ = ("_begun", "_client", "_confirms", "_expected", "_leaves", "_limited", "_watch", "names", "protocol")

    def __init__(self, client: Host) -> None:
        self._client = client
        self.protocol = client.session.protocol
        self._begun: deque[Begun] = deque()
        """The commands that subscribe and are not confirmed yet."""
        self._confirms = False
        """Whether the first of them is being confirmed."""
        self._limited = False
        """Whether the limits are a subscriber's."""
        self._leaves = False
        """Whether its subscriptions are being given up, all of them."""
        self._expected: list[PendingSubscription] = []
        """What a transaction is going to subscribe to."""
        self._watch: Deadline | None = None
        self.names: dict[Kind, dict[bytes, None]] = {kind: {} for kind in Kind}

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return any(self.names.values())

    def all_names(self) -> Iterator[tuple[bytes, bool]]:
        """All that the client is subscribed to, and of each whether it is a pattern."""
        for kind, names in self.names.items():
            for name in list(names):
                yield name, kind is Kind.PATTERN

    @property
    def begins(self) -> bool:
        """Whether a command that subscribes is not confirmed yet."""
        return bool(self._begun)

    @property
    def follows(self) -> bool:
        """Whether nothing of the client is in flight but commands that subscribe."""
        return self._client.window.pending == len(self._begun)

    def precedes(self, fact: Fact) -> bool:
        """Whether a command has to wait as others before it subscribe."""
        if not self._begun or fact.name in BEGIN:
            return False
        self._client.flow.stop(Stop.ORDER)
        return True

    @property
    def restricted(self) -> bool:
        """Whether only a few commands are allowed."""
        return self.protocol < 3 and self.any

    def expect(self, commands: Sequence[tuple[str, Sequence[bytes]]]) -> str | None:
        """Have all stand that the ``commands`` of a transaction subscribe to, before it is carried out.

        None if they do; else what follows waits, and "" is returned; or the text of an error reply.
        """
        hub = self._client.service.hub
        if not self._expected:
            names: dict[Kind, list[bytes]] = {}
            for name, args in commands:
                if BEGIN.get(name, Kind.SHARD) is not Kind.SHARD:
                    names.setdefault(BEGIN[name], []).extend(args[1:])
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

    def _expected_stands(self, problem: str | None) -> None:
        self._client.flow.go(Stop.ORDER)

    def forget(self) -> None:
        """The transaction is over."""
        expected, self._expected = self._expected, []
        for claim in expected:
            self._client.service.slices.run(claim.releasing())

    def told_at_exec(self, name: str, args: Sequence[bytes]) -> bytes:
        """The confirmations of the command ``name`` of a transaction, which is carried out now."""
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
        """Subscribe; what the client sends next waits until it is confirmed, unless that subscribes too."""
        client = self._client
        hub = client.service.hub
        claim = hub.claim(self._settled)
        hub.beginnings.begin(claim, kind, names)
        self._begun.append(Begun(kind, names, pending, claim))
        client.service.slices.run(self._claiming(claim, kind, names), client)
        if self._begun:
            client.adopt_session()

    def _settled(self, problem: str | None) -> None:
        """One of the commands stands, or fails: confirm those whose turn it is."""
        if not self._confirms and self._begun and self._begun[0].claim.over:
            self._confirms = True
            self._client.service.slices.run(self._confirming_all(), self._client)

    def _confirming_all(self) -> Job[None]:
        """Confirm the commands that stand or have failed, up to the first one that has not."""
        begun = self._begun
        while begun and begun[0].claim.over:
            yield from self._confirming(begun[0])
            yield MORE
        self._confirms = False

    def _claiming(self, claim: PendingSubscription, kind: Kind, names: Sequence[bytes]) -> Job[None]:
        """Have ``names`` stand."""
        yield from claim.adding(kind, names)
        claim.seal()

    def _confirming(self, first: Begun) -> Job[None]:
        """Hear of the names that the first command subscribes to, which stand, and say so; or what the problem is. The
        claim has served then."""
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
            # From here on messages wait until all is confirmed.
            window.stream(token, b"", False)
            yield from self._joining(kind, names, say)
            begun.popleft()
            self._changed()
            window.stream(token, b"".join(said), True)
        else:
            if problem is not None:
                said.append(encode.error(problem))
            else:
                at_once(self._joining(kind, names, said.append))
            begun.popleft()
            self._changed()
            window.gathers = bool(begun)
            if not begun:
                # It is read from again before it can answer: what it says then must not come behind what others say
                # later.
                client.flow.go(Stop.ORDER)
            first.pending.answer(b"".join(said))
            window.gathers = False
        self._let_go(first.claim)

    def _let_go(self, claim: PendingSubscription) -> None:
        """The claim has served, or is of no use any more."""
        service = self._client.service
        service.hub.beginnings.end(claim)
        service.slices.run(claim.releasing())

    def _joining(self, kind: Kind, names: Sequence[bytes], say: Callable[[bytes], None]) -> Job[None]:
        """Hear of ``names``, all of which are claimed and stand, and ``say`` the confirmation of each."""
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
        """Whether it is subscribed to none of these few ``names``, or to nothing of that kind if there are none."""
        own = self.names[kind]
        return not own if not names else len(names) <= _FEW and own.keys().isdisjoint(names)

    def end(self, kind: Kind, names: Sequence[bytes], pending: PendingReply) -> None:
        """Subscribe to ``names`` no more, or to none of that kind.

        What follows waits until the servers know, as it may ask them who is subscribed, or be a PUBLISH that counts.
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
        """Hear of ``names`` no more, or of none of that kind: the confirmations. ``links`` gets what was told so."""
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
        """The session may speak another protocol now."""
        self.protocol = self._client.session.protocol

    def behind(self) -> None:
        """The client does not read its messages as fast as they come: see how long that goes on."""
        if self._watch is None and self.any:
            self._look(None)

    def _look(self, since: float | None) -> None:
        """Close it if too much has waited for too long; ``since`` when it has been too much."""
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
        """Whether there is so much to be given up that RESET has to wait for it; begins with it."""
        if not self._leaves and sum(map(len, self.names.values())) > _TOLD_AT_ONCE:
            self._leaves = True
            self._client.service.slices.run(self._clearing())
        if self._leaves:
            self._client.flow.stop(Stop.ORDER)
        return self._leaves

    def gone(self) -> None:
        """End all, and say nothing; for good."""
        self.forget()
        begun = list(self._begun)
        self._begun.clear()
        for each in begun:
            self._let_go(each.claim)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not self._leaves:
            self._client.service.slices.run(self._clearing())

    def _clearing(self) -> Job[None]:
        """Hear of nothing any more."""
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
        """The servers know it: RESET can be carried out."""
        self._leaves = False
        if not self._client.gone:
            self._changed()
            self._client.flow.go(Stop.ORDER)

    def count(self, kind: Kind) -> int:
        """What a confirmation counts: channels and patterns together, those of shards by themselves."""
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
