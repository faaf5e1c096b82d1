"""One client's connection::

    bytes ──frame──▶ fast lane ──▶ Backend.push                       (one key, plain session)
                ├──▶ own lane ──▶ ReplyWindow                         (the proxy's own answers)
                └──▶ Conversation: hiredis ──▶ Session | Planner ──▶ Dispatcher ──▶ Backend.push
    bytes ◀──one write per turn── ReplyWindow ◀──deliver── Backend, Gather, Session

What is read and not yet carried out is kept; ``Flow`` says when it is read from.
"""

import asyncio
import logging
from typing import Protocol, cast

from proxy import errors
from proxy.client.backlog import Backlog
from proxy.client.client import Conversation, arguments
from proxy.client.fast_path import run as run_fast_lane
from proxy.client.fast_path import splitting
from proxy.client.large_request import LANDS_FROM, Landing
from proxy.client.own_fast_path import answer, repeat
from proxy.client.services import ClientServices
from proxy.engine.jobs import ENOUGH, MORE, Job
from proxy.engine.reply_reader import STREAM_FROM
from proxy.engine.window import ReplyWindow
from proxy.features import commands
from proxy.features.host import Registry
from proxy.planning.split import some_bulks
from proxy.resp import encode
from proxy.resp.requests import ProtocolError
from proxy.transport.flow_control import Flow, Stop
from proxy.transport.write_batch import BYTES, OWN, SLOW

log = logging.getLogger(__name__)

_SLOW = Stop.SLOW
_ORDER = Stop.ORDER
_FULL = Stop.FULL
_BLOCKED = Stop.BLOCKED
_PACED = Stop.PACED
_TURN = Stop.TURN
_SLOW_COST = SLOW
_OWN = OWN
_BYTES_SHIFT = BYTES.bit_length() - 1
_AT_FIRST = 512
"""Requests that may be in flight before it is known how large the replies are: ten thousand large ones fill the memory,
and others' requests wait behind them."""
_AT_LEAST = 16
_HELD = 1024 * 1024
"""Bytes that are read and kept of a client while CLIENT PAUSE holds what it sent."""
_STEP = 500
"""Arguments of a long request that are taken apart until others may come in between."""
_PIECE = 64 * 1024
"""Of more bytes that were kept so many are taken at a time."""


class Registered(Registry, Protocol):
    """The clients of the worker, as their connections come and go."""

    def enter(self, client: "ClientConnection") -> int:
        """Let one more client in, if there is room: its id, from 1; or 0."""

    def remove(self, client: "ClientConnection") -> None:
        """It is gone."""


class ConnectionServices(ClientServices, Protocol):
    """What a client's connection uses of its worker."""

    @property
    def clients(self) -> Registered:
        """The clients."""

    @property
    def backlog(self) -> Backlog:
        """What waits for those that do not read."""


class ClientConnection(Conversation):
    """A client's bytes: framed and carried out, answered in order, and read only while there is room.

    The ``asyncio.Protocol`` of its connection.
    """

    __slots__ = (
        "_backlog",
        "_clients",
        "_counters",
        "_ending",
        "_head_before",
        "_kept",
        "_kept_from",
        "_more",
        "_reply_size",
        "_transport",
        "_turn",
        "_written_before",
        "closing",
    )

    def __init__(self, service: ConnectionServices) -> None:
        # for good
        limits = service.limits
        self.prepare(service, ReplyWindow(self._wake, limits.output_soft), min(limits.max_in_flight, _AT_FIRST))
        self._counters = service.counters
        self._turn = service.turn
        self._backlog = service.backlog
        self._clients = service.clients
        # of the connection
        self._transport: asyncio.Transport | None = None
        self._ending = False
        self.closing = False
        # of what is in flight
        self._reply_size = 0
        """Of its last replies, on average; looked at only when many are in flight, or it is behind."""
        self._head_before = 0
        self._written_before = 0
        # of the request
        self._kept: bytes | bytearray | None = None
        """What is not carried out yet: requests of which nothing is done, or of which the first is framed in part (a
        bytearray, as more is to come)."""
        self._kept_from = 0
        """Where they begin in it."""
        self._more = False
        """Whether more is kept behind the requests that are carried out now."""

    def __repr__(self) -> str:
        if self._transport is None:
            return "ClientConnection(not connected)"
        return f"ClientConnection({self.number} {self.window!r} {self.flow!r})"

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connects."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        transport = cast(asyncio.Transport, transport)
        number = self._clients.enter(self)
        if not number:
            transport.write(encode.error(errors.MAX_CLIENTS))
            transport.close()
            self.closing = True
            return
        self._transport = transport
        # Half: the transport keeps what it has begun to write until all of it is written, and as much again meanwhile.
        transport.set_write_buffer_limits(high=self.service.limits.output_soft // 2)
        self.begin(number, Flow(self, transport), self._turn.now())

    @property
    def gone(self) -> bool:
        """Whether there is no connection any more."""
        return self._transport is None

    def addresses(self) -> tuple[str, str]:
        """The client's address and the proxy's own, as CLIENT LIST shows them."""
        if self._transport is None:
            return "", ""
        peer, own = self._transport.get_extra_info("peername"), self._transport.get_extra_info("sockname")
        return _address(peer, own), _address(own, own)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what is in flight for it is dropped when it comes."""
        if self._transport is None:
            return
        self._transport = None
        self.closing = True
        self._kept = None
        try:
            if self.modes is not None:
                commands.let_go(self.modes)
        finally:
            # Whatever is wrong there, a client that is gone must not stay in the list.
            self.flow.close()
            self._backlog.forget(self)
            self.window.close()
            self._counters.bytes_out += self.window.written
            self._clients.remove(self)

    def eof_received(self) -> bool:
        """The client sends no more: answer what it sent, then close."""
        if self.held or (self.modes is not None and self.modes.blocked):
            self.close()  # as Redis does: what it waits for must not be given to somebody who is gone
            return False
        self._ending = True
        self.flow.end()
        self._after_output()
        return True

    def close(self) -> None:
        """Close at once (CLIENT KILL)."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        """Take no more requests; close when what is in flight is answered."""
        self.closing = True
        self._kept = None
        self._ending = True
        self.flow.end()
        self.flow.stop(Stop.ENDING)
        if self.modes is not None:
            self.modes.leave()
        self._after_output()

    # ---- what it sends

    def data_received(self, data: bytes) -> None:
        """Carry out the requests in ``data``, and keep what is not whole yet."""
        self._counters.bytes_in += len(data)
        if self._kept is not None:
            kept = self._keep_on(data)
            if self.flow.stopped:
                # Who blocks is read from all the same, but not without a bound. Who is behind is weighed.
                if len(kept) > self.service.request_limits.request and self.flow.reasons & _BLOCKED:
                    self.abort("request limit")
                elif self.held and len(kept) > _HELD:
                    self.flow.stop(_FULL)  # until the pause is over
            elif len(kept) >= self.framer.need:
                self.go_on()
        elif self.closing:
            return
        elif self.flow.stopped:
            self._keep(data, 0)
        else:
            now = self._turn.share()
            if now >= 0.0:
                self._process(data, 0, now)
            else:
                self._keep(data, 0)
                self._wait()
        if self.flow.behind and not self.closing:
            self.flow.lively = True
            self._backlog.weigh(self)

    def _keep(self, data: bytes, pos: int) -> None:
        """Keep ``data[pos:]``, which begins with a request that nothing has been done about."""
        if pos * 2 > len(data):
            data = data[pos:]
            pos = 0
        self._kept = data
        self._kept_from = pos

    def _keep_on(self, data: bytes) -> bytearray:
        """Keep ``data`` behind what is kept, and return that; its first request may be framed in part."""
        kept = self._kept
        if not isinstance(kept, bytearray):
            kept = self._kept = bytearray(memoryview(cast(bytes, kept))[self._kept_from :])
            self._kept_from = 0
        kept += data
        return kept

    def _wait(self) -> None:
        """It has had its share of this turn: it is not read from, and goes on when the others have had theirs."""
        self.flow.stop(_TURN)
        self._turn.wait(self)

    def next_share(self) -> None:
        """Its next share has come."""
        self.flow.go(_TURN)

    def give_up(self) -> None:
        """Going on has failed, by a fault of ours."""
        self.abort("internal error")

    def _continue(self, now: float) -> None:
        """Go on with what was kept, a piece at a time where it is much (who goes on sending while it is blocked)."""
        kept = self._kept
        large = self.service.query.large
        if not isinstance(kept, bytearray):
            self._kept = None
            whole = cast(bytes, kept)
            if len(whole) < large:
                self._process(whole, self._kept_from, now)
            else:
                self._process_large(whole[self._kept_from :], now)
            return
        framer = self.framer
        while not self.flow.stopped:
            try:
                end = framer.frame(kept, 0)
            except ProtocolError as error:
                self._protocol_error(error)
                return
            size = len(kept)
            if end < 0:
                if self._lands(size):
                    self._kept = None
                    self._land(bytes(kept))
                return
            taken = end if end >= large else min(max(end, _PIECE), size)
            with memoryview(kept) as view:
                piece = bytes(view[:taken])
            self._kept = None
            self._more = taken < size
            if end >= large:
                self._process_large(piece, now)
            else:
                self._process(piece, 0, now)
            self._more = False
            if self.closing or taken == size:
                return
            if self._kept is not None:
                taken -= len(self._kept) - self._kept_from
            del kept[:taken]  # its start moves: nothing is copied
            self._kept = kept
            self._kept_from = 0

    def _process(self, data: bytes, pos: int, now: float) -> None:
        """Carry out the requests in ``data[pos:]``: by the fast lane, and one at a time what that leaves."""
        self.last_active = now
        view = data
        size = len(data)
        end = 0
        flow = self.flow
        turn = self._turn
        window = self.window
        try:
            while True:
                if self.plain:
                    before = window.issued
                    begun = pos
                    pos = run_fast_lane(self, data, pos, now, turn.credit)
                    taken = (pos - begun) >> _BYTES_SHIFT
                    turn.credit -= max(window.issued - before, taken)
                if pos >= size or flow.stopped:
                    break
                if turn.credit <= 0:
                    if turn.over():
                        self._wait()
                        break
                    continue
                if window.pending >= self.most:
                    if not window.ready:
                        self._fit()
                        if window.pending < self.most:
                            continue
                    flow.stop(_FULL)
                    break
                if self.own:
                    begun = pos
                    pos = repeat(self, data, pos, turn, self._more)
                    if pos > begun:
                        continue
                framer = self._framer or self.framer
                end = framer.frame(data, pos)
                if end < 0:
                    break
                window.gathers = self._more or end < size
                if framer.empty:
                    turn.credit -= 1
                    self.asked_nothing(view[pos:end])
                else:
                    frame = view[pos:end]
                    if self.own and answer(self, frame, framer.inline):
                        turn.credit -= _OWN
                    else:
                        turn.credit -= _SLOW_COST
                        if not self.request(frame, now):
                            break
                pos = end
                if self.closing or flow.stopped:
                    break
        except ProtocolError as error:
            window.gathers = False
            self._protocol_error(error)
            return
        window.gathers = False
        if pos >= size or self.closing:
            return
        if end >= 0:
            self._keep(data, pos)
        elif self._lands(size - pos):
            self._land(data[pos:])
        else:
            self._kept = bytearray(memoryview(data)[pos:])
            self._kept_from = 0

    def taking_apart(self, frame: bytes, now: float) -> Job[None]:
        """Carry out a request of very many arguments. What follows it waits for that."""
        done = yield from splitting(self, frame, now)
        if not done:
            args: list[bytes] = []
            at = frame.index(b"\n") + 1
            for left in range(0 if done is None else arguments(frame), 0, -_STEP):
                some, at = some_bulks(frame, at, min(_STEP, left))
                args += some
                yield MORE
            found = (yield from self.examine(args)) if args else None
            yield ENOUGH  # whoever called for this is done with what it has read, so that a request can be taken back
            examined = self.service.examined
            examined.found = found
            try:
                if done is None or not self.parsed(args, frame, now):
                    self.take_back(frame)
            finally:
                examined.found = None
        self.flow.go(Stop.LONG)

    def take_back(self, frame: bytes) -> None:
        """A request must wait after all: it comes before what is kept."""
        kept = bytearray(frame)
        if self._kept is not None:
            kept += memoryview(self._kept)[self._kept_from :]
        self._kept = kept
        self._kept_from = 0

    def _lands(self, got: int) -> bool:
        """Whether the request, of which ``got`` bytes are there, is a large one that nothing follows yet."""
        framer = self.framer
        return framer.last and framer.need - got >= LANDS_FROM and not self._ending and not self._more

    def _land(self, begun: bytes) -> None:
        """Read the rest of the request that was ``begun`` straight to where it will lie."""
        if self._transport is not None:
            Landing(self, self._transport, self.framer.need, begun)
            self.framer.reset()

    def landed(self, request: bytes) -> None:
        """A large request is there."""
        if self.closing:
            return
        self.flow.handed_back()
        if self.flow.stopped:
            self._keep(request, 0)
        else:
            self._process_large(request, self._turn.now())

    def _process_large(self, request: bytes, now: float) -> None:
        """Carry out one request that may be large; the fast lane would send it over a connection that all share."""
        careful = self.plain and len(request) >= self.service.query.large
        if careful:
            self.plain = False
        self._process(request, 0, now)
        if careful and not self.closing:
            self.adopt_session()

    def _protocol_error(self, error: Exception) -> None:
        self.service.counters.reject("protocol error")
        self.window.answer(encode.error(errors.protocol(str(error))))
        self.drain()

    # ---- what it is sent

    def flush(self) -> None:
        """Write the replies whose turn has come."""
        transport = self._transport
        if transport is None:
            return
        size = self.window.write_to(transport)
        flow = self.flow
        if not size or flow.stopped or flow.behind or self._ending:
            self._after_output()

    def _after_output(self) -> None:
        """Look whether what was waited for has come about: the end, or a reason to read again."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        window = self.window
        flow = self.flow
        if window.broken:
            self.abort("broken reply")
            return
        if window.parked_bytes > self.output_hard or flow.unread() > self.output_hard:
            self.over_limit()
            return
        if flow.behind:
            self._fit()
            if window.streaming or self._reply_size > STREAM_FROM:
                flow.stop(_PACED)
            self._backlog.weigh(self)
        if self._ending and window.idle and (self.closing or not flow.reasons & ~_SLOW):
            transport.close()
        elif flow.stopped or window.overflowing:
            if not window.pending:
                flow.go(_ORDER | _BLOCKED)
            if window.overflowing:
                flow.stop(_FULL)
            elif flow.reasons & _FULL and window.pending <= self.most // 2:
                self._fit()
                flow.go(_FULL)

    def _fit(self) -> None:
        """Have twice as many requests in flight once so many were answered, if ``output_soft`` has room for as many
        replies as those were. All of them are written."""
        window = self.window
        limits = self.service.limits
        answered = window.head - self._head_before
        if answered <= 0:
            return
        most = self.most
        size = self._reply_size = (window.written - self._written_before) // answered
        if answered >= most:
            most *= 2
            self._head_before = window.head
            self._written_before = window.written
        self.most = min(most, max(limits.output_soft // max(size, 1), _AT_LEAST), limits.max_in_flight)

    def waiting(self) -> int:
        """Bytes that wait in this process until it reads its replies: of those, of those that are about to come, as
        large as its others were (no larger than what streams), and of requests behind them."""
        window = self.window
        coming = window.pending * min(self._reply_size, STREAM_FROM)
        return self.flow.unread() + window.parked_bytes + coming + self.unprocessed()

    def unprocessed(self) -> int:
        """Bytes of requests that are not carried out yet."""
        return 0 if self._kept is None else len(self._kept) - self._kept_from

    def coming(self) -> int:
        """Bytes of replies to what it may send before it is looked at again, on top of what waits."""
        return max(self.most - self.window.pending, 0) * min(self._reply_size, STREAM_FROM)

    def abort(self, reason: str) -> None:
        """Close at once, for a reason that is logged and counted."""
        self._counters.reject(reason)
        log.warning("client closed address=%s reason=%r", self.session.address, reason)
        self.close()

    def over_limit(self) -> None:
        """More waits for it than may."""
        self.abort("output limit" if self.output_hard == self.service.limits.output_hard else "pubsub output limit")

    def stalled(self) -> None:
        """It has read nothing for too long."""
        self.abort("write timeout")

    def _wake(self) -> None:
        self._turn.add(self)

    # ---- when it is read from

    def pause_writing(self) -> None:
        """It reads more slowly than it is answered."""
        self.window.set_slow(True)
        self.flow.slow()
        self._backlog.weigh(self)
        if self.modes is not None:
            self.modes.behind()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._backlog.forget(self)
        self.window.set_slow(False)
        self.flow.caught_up()

    def go_on(self) -> None:
        """No reason is left not to read from it."""
        if self._kept is not None:
            now = self._turn.share()
            if now >= 0.0:
                self._continue(now)
            else:
                self._wait()
        if self._ending:
            self._after_output()


def _address(name: object, listener: object) -> str:
    """An address as Redis shows it: ``ip:port``, ``[v6]:port``, ``/path:0`` for a unix socket."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = name or listener
    return f"{path.decode() if isinstance(path, bytes) else path}:0"
