"""The commands with which one client subscribes and unsubscribes, and that are not confirmed yet.

The commands, and PING among them, are taken one behind the other. Each is carried out for the client when the earlier
ones are confirmed::

    SUBSCRIBE a    ── asks the servers at once ──▶ they confirm it ──▶ the client is joined to a, and told so
    UNSUBSCRIBE b                                                  ──▶ the client leaves b ──▶ the servers confirm it
    SUBSCRIBE c    ── asks the servers at once ─────────────────────────────────────────────────────────────▶ ...

So a PUBLISH of another client waits for each change that was asked for before, whatever other change is in front of it
(``proxy.pubsub.beginnings``).
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.engine.jobs import MORE, Job, at_once
from proxy.features.host import Host
from proxy.features.request import PendingReply
from proxy.planning.channels import Kind
from proxy.pubsub.beginnings import Announcement
from proxy.pubsub.topic import PendingSubscription, Server
from proxy.resp import encode
from proxy.session.session import ping
from proxy.transport.flow_control import Stop

_FEW = 64
"""The most names that are joined in one step, so that no message comes between their confirmations."""
_TOLD_AT_ONCE = 500
"""The most confirmations in one piece of a reply; a longer reply is streamed in pieces."""


class Listens(Protocol):
    """The subscriptions of the client."""

    @property
    def names(self) -> Mapping[Kind, Mapping[bytes, None]]:
        """The channels and patterns that the client is subscribed to."""

    def joining(self, kind: Kind, names: Sequence[bytes], say: Callable[[bytes], None]) -> Job[None]:
        """Join the topics ``names``, and ``say`` each confirmation."""

    def leaving(self, kind: Kind, names: Sequence[bytes], links: set[Server]) -> Job[list[bytes]]:
        """Leave the topics ``names``, or all of ``kind``; return the confirmations. The servers are added to
        ``links``."""

    def changed(self) -> None:
        """Adopt the present subscriptions as the client's state."""


@dataclass(eq=False, slots=True)
class PendingChange:
    """A command that is not confirmed yet; ``pending`` is the reply to the command.

    It subscribes to ``names``, for which ``claim`` asks the servers; or it unsubscribes from ``names`` (from all of
    ``kind`` if there are none), which is ``announced`` to publishers. With neither it is a PING, and ``names`` are its
    arguments. A subscription is announced as well if it could not be carried out at once. ``asked`` is how many of
    the names it asks for in addition to earlier commands.
    """

    kind: Kind
    names: Sequence[bytes]
    pending: PendingReply
    claim: PendingSubscription | None = None
    announced: Announcement | None = None
    asked: int = 0

    @property
    def ready(self) -> bool:
        """Whether the command can be carried out for the client once all earlier ones are confirmed."""
        return self.claim is None or self.claim.over


def claiming(claim: PendingSubscription, kind: Kind, names: Sequence[bytes]) -> Job[None]:
    """Add ``names`` to the claim, and seal the claim."""
    yield from claim.adding(kind, names)
    claim.seal()


class PendingChanges:
    """The commands of ``client`` that are not confirmed yet, which change the subscriptions that it ``listens`` to."""

    __slots__ = ("_announced", "_asked", "_begun", "_client", "_confirms", "_ends", "_listens", "_pending")

    def __init__(self, client: Host, listens: Listens) -> None:
        self._client = client
        self._listens = listens
        self._begun: deque[PendingChange] = deque()
        """The commands, the oldest first."""
        self._asked = [0, 0]
        """How many subscriptions those that subscribe add: to channels, and to patterns."""
        self._pending: dict[Kind, dict[bytes, int]] = {kind: {} for kind in Kind}
        """The names to which short commands subscribe, each with the number of these commands."""
        self._ends = 0
        """The number of the commands that unsubscribe."""
        self._confirms = False
        """Whether commands are being confirmed, or the first one waits for the servers to unsubscribe."""
        self._announced: Announcement | None = None
        """The change by the next command, which waits for the replies to earlier commands."""

    def __repr__(self) -> str:
        return f"PendingChanges({len(self._begun)} commands)"

    def __len__(self) -> int:
        return len(self._begun)

    def asked(self, patterns: bool) -> int:
        """The number of subscriptions to channels, or to patterns, that the commands add to the present ones."""
        return self._asked[patterns]

    def added(self, kind: Kind, names: Sequence[bytes]) -> int:
        """How many subscriptions a command with ``names`` would add to the present ones and to those of earlier
        commands. In a long command all names count."""
        if len(names) > _FEW:
            return len(names)
        own, pending = self._listens.names[kind], self._pending[kind]
        return len({name for name in names if name not in own and (self._ends or name not in pending)})

    def announce(self, kind: Kind, names: Sequence[bytes]) -> None:
        """Have publishers wait for the next command, which can not be carried out yet."""
        if self._announced is None:
            self._announced = self._client.service.hub.beginnings.announce(kind, names)

    def withdraw(self) -> None:
        """Let publishers go on: the next command, which they wait for, is refused."""
        if (announced := self._take_announced()) is not None:
            self._client.service.hub.beginnings.confirmed(announced)

    def _take_announced(self) -> Announcement | None:
        announced, self._announced = self._announced, None
        return announced

    def begin(self, kind: Kind, names: Sequence[bytes], pending: PendingReply) -> None:
        """Subscribe to ``names``. The servers are asked at once."""
        client = self._client
        hub = client.service.hub
        claim = hub.claim(self._settled)
        hub.beginnings.begin(claim, kind, names)
        # A name may be among those that an earlier command ends.
        asked = len(names if len(names) > _FEW else {*names}) if self._ends else self.added(kind, names)
        self._begun.append(PendingChange(kind, names, pending, claim, self._take_announced(), asked))
        self._asked[kind is Kind.PATTERN] += asked
        if len(names) <= _FEW:
            counts = self._pending[kind]
            for name in names:
                counts[name] = counts.get(name, 0) + 1
        client.service.slices.run(claiming(claim, kind, names), client)
        if self._begun:
            client.adopt_session()

    def end(self, kind: Kind, names: Sequence[bytes], pending: PendingReply) -> None:
        """End the subscriptions to ``names``, or all of ``kind`` if ``names`` is empty.

        The command is confirmed when the servers have unsubscribed: commands that the client sends afterwards may ask
        them for the number of subscribers, as PUBLISH and PUBSUB do.
        """
        announced = self._take_announced()
        if announced is None:
            all_known = () if self._begun else list(self._listens.names[kind])
            announced = self._client.service.hub.beginnings.announce(kind, names or all_known)
        self._ends += 1
        self._add(PendingChange(kind, names, pending, None, announced))

    def ping(self, args: Sequence[bytes], pending: PendingReply) -> None:
        """Answer PING, whose reply depends on whether the client is subscribed."""
        self._add(PendingChange(Kind.CHANNEL, args, pending))

    def clear(self) -> None:
        """Forget all commands, because the client is gone."""
        beginnings = self._client.service.hub.beginnings
        begun = list(self._begun)
        self._begun.clear()
        self._asked = [0, 0]
        self._ends = 0
        for counts in self._pending.values():
            counts.clear()
        if self._announced is not None:
            beginnings.confirmed(self._announced)
        for each in begun:
            if each.claim is not None:
                self._let_go(each.claim)
            if each.announced is not None:
                beginnings.confirmed(each.announced)

    def _add(self, change: PendingChange) -> None:
        self._begun.append(change)
        self._confirm_ready()
        if self._begun:
            self._client.adopt_session()

    def _settled(self, problem: str | None) -> None:
        """Confirm commands, because the servers have confirmed or refused one of them."""
        self._confirm_ready()

    def _confirm_ready(self) -> None:
        """Confirm commands from the oldest on, unless that is being done."""
        if not self._confirms and self._begun and self._begun[0].ready:
            self._confirms = True
            self._client.service.slices.run(self._confirming_all(), self._client)

    def _confirming_all(self) -> Job[None]:
        """Confirm commands from the oldest on, up to the first one that is not ready, or that waits for servers."""
        begun = self._begun
        while begun and begun[0].ready:
            first = begun[0]
            if first.claim is not None:
                yield from self._confirming(first, first.claim)
            elif first.announced is None:
                self._answer(first, ping(self._client.session, first.names))
            else:
                links: set[Server] = set()
                frames = yield from self._listens.leaving(first.kind, first.names, links)
                if links:
                    self._after(links, first, first.announced, b"".join(frames))
                    return
                self._end(first, first.announced, b"".join(frames))
            yield MORE
        self._confirms = False

    def _confirming(self, first: PendingChange, claim: PendingSubscription) -> Job[None]:
        """Join the topics of the ``first`` command and confirm them, or answer with the claim's error. Releases the
        claim."""
        listens, window = self._listens, self._client.window
        kind, names, token = first.kind, first.names, first.pending.token
        said: list[bytes] = []

        def say(frame: bytes) -> None:
            said.append(frame)
            if len(said) > _TOLD_AT_ONCE:
                window.stream(token, b"".join(said), False)
                said.clear()

        if claim.problem is None and len(names) > _FEW:
            # The open stream makes messages wait until all names are confirmed.
            window.stream(token, b"", False)
            yield from listens.joining(kind, names, say)
            self._drop_first()
            listens.changed()
            window.stream(token, b"".join(said), True)
        else:
            if claim.problem is not None:
                said.append(encode.error(claim.problem))
            else:
                at_once(listens.joining(kind, names, said.append))
            self._answer(first, b"".join(said))
        self._let_go(claim)
        if first.announced is not None:
            self._client.service.hub.beginnings.confirmed(first.announced)

    def _drop_first(self) -> None:
        """Remove the oldest command."""
        first = self._begun.popleft()
        if first.claim is not None:
            self._asked[first.kind is Kind.PATTERN] -= first.asked
            if len(first.names) <= _FEW:
                self._forget_names(self._pending[first.kind], first.names)
        elif first.announced is not None:
            self._ends -= 1

    def _forget_names(self, counts: dict[bytes, int], names: Sequence[bytes]) -> None:
        """Count one command with ``names`` less."""
        for name in names:
            if counts[name] > 1:
                counts[name] -= 1
            else:
                del counts[name]

    def _let_go(self, claim: PendingSubscription) -> None:
        """Release a claim that is served or not needed any more."""
        service = self._client.service
        service.hub.beginnings.end(claim)
        service.slices.run(claim.releasing())

    def _after(self, links: Collection[Server], first: PendingChange, announced: Announcement, reply: bytes) -> None:
        """Answer the ``first`` command when the servers ``links`` have unsubscribed, and confirm those behind it."""

        def ended() -> None:
            if self._begun and self._begun[0] is first:
                self._end(first, announced, reply)
                self._confirms = False
                self._confirm_ready()

        self._client.service.hub.after(links, ended)

    def _end(self, first: PendingChange, announced: Announcement, reply: bytes) -> None:
        """Answer the ``first`` command, by which subscriptions have ended."""
        self._answer(first, reply)
        self._client.service.hub.beginnings.confirmed(announced)

    def _answer(self, first: PendingChange, reply: bytes) -> None:
        """Answer the ``first`` command, which has been carried out."""
        client, begun, window = self._client, self._begun, self._client.window
        self._drop_first()
        self._listens.changed()
        gathered = window.gathers
        window.gathers = gathered or bool(begun)
        if not begun:
            # Reading resumes before the answer is given: a PUBLISH that the client sends in reaction to the answer
            # must not come behind what other clients publish later.
            client.flow.go(Stop.ORDER)
        first.pending.answer(reply)
        window.gathers = gathered
