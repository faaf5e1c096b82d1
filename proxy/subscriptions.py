"""What one client is subscribed to, and the mode that this puts it in when it speaks RESP2.

Source: https://redis.io/docs/latest/develop/interact/pubsub/ and what Redis 7 answers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from proxy import errors
from proxy.channels import BEGIN, END, Kind, confirmation
from proxy.clock import Deadline
from proxy.commands.facts import Fact
from proxy.flow import Stop
from proxy.pubsublink import Link
from proxy.pubsubtopic import Claim
from proxy.resp import encode
from proxy.slots import key_slot

if TYPE_CHECKING:
    from proxy.conversation import Conversation
    from proxy.modes import Modes

_ALLOWED = frozenset({*BEGIN, *END, "ping", "quit", "reset"})
"""In RESP2, while subscribed."""
_LOOK_EVERY = 1.0
"""Seconds after which it is looked again whether a slow client has caught up."""


class Subscriptions:
    """The subscriptions of ``client``."""

    __slots__ = ("_claim", "_client", "_expected", "_limited", "_over", "_protocol", "_watch", "names")

    def __init__(self, client: "Conversation") -> None:
        self._client = client
        self._protocol = client.session.protocol
        self._claim: Claim | None = None
        self._limited = False
        """Whether the limits are a subscriber's."""
        self._over = False
        self._expected: list[Claim] = []
        """What a transaction is going to subscribe to."""
        self._watch: Deadline | None = None
        self.names: dict[Kind, dict[bytes, None]] = {kind: {} for kind in Kind}

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return any(self.names.values())

    @property
    def restricted(self) -> bool:
        """Whether only a few commands are allowed."""
        return self._protocol < 3 and self.any

    def answers(self, fact: Fact, args: Sequence[bytes]) -> bool:
        """Answer a command that is another one in the mode, or is not allowed; False if it is to be carried out."""
        if not self.restricted:
            return False
        client = self._client
        if fact.name not in _ALLOWED:
            client.refuse(fact, errors.in_subscribe_mode(fact.name))
            return True
        if fact.name != "ping" or len(args) > 2:
            return False
        client.service.counters.command(fact.name).calls += 1
        muted = client.session.muted()
        client.window.answer(b"" if muted else _pong(args))
        client.adopt_session()
        return True

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
            self._expected = [
                hub.claim(kind, all_of, self._expected_stands, keep=True) for kind, all_of in names.items()
            ]
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
            claim.cancel()

    def in_transaction(self, fact: Fact, args: Sequence[bytes]) -> bytes | None:
        """The reply to a command of a transaction that is carried out now; None if it is none of this."""
        if fact.name == "ping" and self.restricted and len(args) < 3:
            return _pong(args)
        if fact.name in END:
            return self.ended(END[fact.name], args[1:], set())
        kind = BEGIN.get(fact.name)
        if kind is Kind.SHARD:
            return encode.error(errors.NO_SSUBSCRIBE)
        return None if kind is None else self.begun(kind, args[1:])

    def begin(self, kind: Kind, names: Sequence[bytes]) -> None:
        """Subscribe; what the client sends next waits until it is confirmed."""
        client = self._client
        token = client.window.reserve()

        def then(problem: str | None) -> None:
            self._claim = None
            reply = self.begun(kind, names) if problem is None else self._failed(kind, problem)
            client.window.deliver(token, reply, 0, len(reply))

        claim = client.service.hub.claim(kind, names, then)
        if not claim.over:
            self._claim = claim
            client.flow.stop(Stop.ORDER)

    def begun(self, kind: Kind, names: Sequence[bytes]) -> bytes:
        """Hear of ``names``, all of which are claimed and stand: the confirmations."""
        if self._over:
            return b""
        frames = []
        hub = self._client.service.hub
        for name in names:
            if name not in self.names[kind]:
                self.names[kind][name] = None
                hub.join(kind, name, self, self._client.window.push, self._protocol)
            frames.append(confirmation(kind.subscribe, name, self._count(kind), self._protocol))
        self._changed()
        return b"".join(frames)

    def end(self, kind: Kind, names: Sequence[bytes]) -> None:
        """Subscribe to ``names`` no more, or to none of that kind.

        What follows waits until the servers know, as it may ask them who is subscribed, or be a PUBLISH that counts.
        """
        client = self._client
        token = client.window.reserve()
        links: set[Link] = set()
        reply = self.ended(kind, names, links)
        if links:
            client.flow.stop(Stop.ORDER)
        client.service.hub.after(links, lambda: client.window.deliver(token, reply, 0, len(reply)))

    def ended(self, kind: Kind, names: Sequence[bytes], links: set[Link]) -> bytes:
        """Hear of ``names`` no more, or of none of that kind: the confirmations. ``links`` gets what was told so."""
        frames = []
        own = self.names[kind]
        if not names and not own:
            frames.append(confirmation(kind.unsubscribe, None, self._count(kind), self._protocol))
        for name in names or list(own):
            if name in own:
                del own[name]
                links.update(self._client.service.hub.leave(kind, name, self))
            frames.append(confirmation(kind.unsubscribe, name, self._count(kind), self._protocol))
        self._changed()
        return b"".join(frames)

    def adopted(self) -> None:
        """The session may speak another protocol now."""
        protocol = self._client.session.protocol
        if protocol != self._protocol:
            self._protocol = protocol
            hub = self._client.service.hub
            for kind, names in self.names.items():
                for name in names:
                    hub.join(kind, name, self, self._client.window.push, protocol)

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
        if client.flow.reasons & Stop.SLOW:
            self._watch = clock.call_later(_LOOK_EVERY, self._look, since)

    def gone(self) -> None:
        """End all, and say nothing; for good."""
        self._over = True
        self.forget()
        if self._claim is not None:
            self._claim.cancel()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for kind, names in self.names.items():
            for name in names:
                self._client.service.hub.leave(kind, name, self)
            names.clear()
        self._changed()

    def _failed(self, kind: Kind, problem: str) -> bytes:
        self._client.service.counters.command(kind.subscribe.decode()).failed += 1
        return encode.error(problem)

    def _count(self, kind: Kind) -> int:
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


def _pong(args: Sequence[bytes]) -> bytes:
    """The answer to PING in the mode."""
    return encode.array((encode.bulk("pong"), encode.bulk(args[1] if len(args) == 2 else b"")))


def subscribe(modes: "Modes", fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool:
    """SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE."""
    client = modes.client
    service = client.service
    kind = BEGIN[fact.name]
    names = args[1:]
    if kind is Kind.SHARD and service.topology.cluster and len(set(map(key_slot, names))) > 1:
        client.refuse(fact, errors.CROSSSLOT)
        return True
    if not client.alone():
        return False
    service.counters.command(fact.name).calls += 1
    client.session.muted()  # it is told all the same, as Redis does
    modes.listening().begin(kind, names)
    return True


def unsubscribe(modes: "Modes", fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool:
    """UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE."""
    client = modes.client
    if not client.alone():
        return False  # PUBSUB before it is to see what ends here
    client.service.counters.command(fact.name).calls += 1
    client.session.muted()
    modes.listening().end(END[fact.name], args[1:])
    return True


COMMANDS: Mapping[str, Callable[["Modes", Fact, list[bytes], bytes, float], bool]] = {
    **dict.fromkeys(BEGIN, subscribe),
    **dict.fromkeys(END, unsubscribe),
}
"""By the fact's name, as ``proxy.modes`` has them."""
