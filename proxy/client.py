"""One client's connection::

    bytes ──frame──▶ fast lane ──▶ Backend.push                       (one key, plain session)
                └──▶ Conversation: hiredis ──▶ Session | Planner ──▶ Dispatcher ──▶ Backend.push
    bytes ◀──one write per turn── ReplyWindow ◀──deliver── Backend, Gather, Session

What is read and not yet carried out is kept; ``Flow`` says when it is read from.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from proxy import errors
from proxy.conversation import Conversation
from proxy.engine.window import ReplyWindow
from proxy.fastlane import run as run_fast_lane
from proxy.flow import Flow, Stop
from proxy.landing import LANDS_FROM, Landing
from proxy.resp import encode
from proxy.resp.requests import ProtocolError

if TYPE_CHECKING:
    from proxy.service import Service

log = logging.getLogger(__name__)

_SLOW = Stop.SLOW
_ORDER = Stop.ORDER
_FULL = Stop.FULL
_BLOCKED = Stop.BLOCKED
_MUCH = 1 << 20
"""Of more bytes that were kept one request is taken at a time."""


class ClientConnection(Conversation):
    """A client's bytes: framed and carried out, answered in order, and read only while there is room.

    The ``asyncio.Protocol`` of its connection.
    """

    __slots__ = ("_counters", "_ending", "_kept", "_transport", "_turn", "closing")

    def __init__(self, service: "Service") -> None:
        # for good
        limits = service.limits
        self.prepare(service, ReplyWindow(self._wake, limits.output_soft), limits.max_in_flight)
        self._counters = service.counters
        self._turn = service.turn
        # of the connection
        self._transport: asyncio.Transport | None = None
        self._ending = False
        self.closing = False
        # of the request
        self._kept: bytearray | None = None

    def __repr__(self) -> str:
        if self._transport is None:
            return "ClientConnection(not connected)"
        return f"ClientConnection({self.number} {self.window!r} {self.flow!r})"

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connects."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        transport = cast(asyncio.Transport, transport)
        service = self.service
        number = service.clients.enter(self)
        if not number:
            transport.write(encode.error(errors.MAX_CLIENTS))
            transport.close()
            self.closing = True
            return
        self._transport = transport
        # Half: the transport keeps what it has begun to write until all of it is written, and as much again meanwhile.
        transport.set_write_buffer_limits(high=service.limits.output_soft // 2)
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
                self.modes.gone()
        finally:
            # Whatever is wrong there, a client that is gone must not stay in the list.
            self.flow.close()
            self.window.close()
            self._counters.bytes_out += self.window.written
            self.service.clients.remove(self)

    def eof_received(self) -> bool:
        """The client sends no more: answer what it sent, then close."""
        if self.modes is not None and self.modes.blocked:
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
        kept = self._kept
        if kept is not None:
            kept += data
            if self.flow.stopped:
                # Who blocks is read from all the same, but not without a bound.
                if len(kept) > self.service.request_limits.request and self.flow.reasons & _BLOCKED:
                    self.abort("request limit")
            elif len(kept) >= self.framer.need:
                self._continue(kept)
        elif self.closing:
            return
        elif self.flow.stopped:
            self._kept = bytearray(data)
        else:
            self._process(data, self._turn.now())

    def _continue(self, kept: bytearray) -> None:
        """Go on with what was kept: it begins with a request, perhaps not whole yet.

        Who goes on sending while it is blocked may have much kept: that is not copied for each request of it.
        """
        framer = self.framer
        now = self._turn.now()
        while True:
            try:
                end = framer.frame(kept, 0)
            except ProtocolError as error:
                self._protocol_error(error)
                return
            self._kept = None
            if end < 0:
                if self._lands(len(kept)):
                    self._land(bytes(kept))
                else:
                    self._kept = kept
                return
            with memoryview(kept) as view:
                first = bytes(view[:end])
            self._process_one(first, now)
            if self.closing:
                return
            waits = self._kept is not None
            if not waits:
                del kept[:end]  # its start moves: nothing is copied
            if waits or (kept and self.flow.stopped):
                self._kept = kept
                return
            if len(kept) <= _MUCH:
                if kept:
                    self._process(bytes(kept), now)
                return

    def _process(self, data: bytes, now: float) -> None:
        """Carry out the requests in ``data``: by the fast lane, and one at a time what that leaves."""
        self.last_active = now
        size = len(data)
        pos = 0
        end = 0
        flow = self.flow
        try:
            while True:
                if self.plain:
                    pos = run_fast_lane(self, data, pos, now)
                if pos >= size or flow.stopped:
                    break
                if self.window.pending >= self.most:
                    flow.stop(Stop.FULL)
                    break
                framer = self.framer
                end = framer.frame(data, pos)
                if end < 0:
                    break
                if framer.empty:
                    self.session.muted()  # it counts as a command that CLIENT REPLY SKIP leaves out
                    self.adopt_session()
                elif not self.request(data[pos:end], now):
                    break
                pos = end
                if self.closing or flow.stopped:
                    break
        except ProtocolError as error:
            self._protocol_error(error)
            return
        if pos >= size or self.closing:
            return
        if end < 0 and self._lands(size - pos):
            self._land(data[pos:])
        else:
            self._kept = bytearray(memoryview(data)[pos:])

    def take_back(self, frame: bytes) -> None:
        """A request must wait after all: it comes before what is kept."""
        kept = bytearray(frame)
        if self._kept is not None:
            kept += self._kept
        self._kept = kept

    def _lands(self, got: int) -> bool:
        """Whether the request, of which ``got`` bytes are there, is a large one that nothing follows yet."""
        framer = self.framer
        return framer.last and framer.need - got >= LANDS_FROM and not self._ending

    def _land(self, begun: bytes) -> None:
        """Read the rest of the request that was ``begun`` straight to where it will lie."""
        if self._transport is not None:
            Landing(self, self._transport, self.framer.need, begun)
            self.framer.reset()

    def landed(self, request: bytes) -> None:
        """A large request is there."""
        if self.closing:
            return
        if self.flow.stopped:
            self._kept = bytearray(request)
        else:
            self._process_one(request, self._turn.now())

    def _process_one(self, request: bytes, now: float) -> None:
        """Carry out one request; the fast lane would send a large one over a connection that all share."""
        if self.plain and len(request) >= self.service.query.large:
            self.plain = False
            self._process(request, now)
            if not self.closing:
                self.adopt_session()
        else:
            self._process(request, now)

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
        if not size or self.flow.stopped or self._ending:
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
        elif window.parked_bytes > self.output_hard or flow.unread() > self.output_hard:
            self.abort("output limit" if self.output_hard == self.service.limits.output_hard else "pubsub output limit")
        elif self._ending and window.idle and (self.closing or not flow.reasons & ~_SLOW):
            transport.close()
        elif flow.stopped or window.overflowing:
            if not window.pending:
                flow.go(_ORDER | _BLOCKED)
            if window.overflowing:
                flow.stop(_FULL)
            elif window.pending <= self.most // 2:
                flow.go(_FULL)

    def abort(self, reason: str) -> None:
        """Close at once, for a reason that is logged and counted."""
        self._counters.reject(reason)
        log.warning("client closed address=%s reason=%r", self.session.address, reason)
        self.close()

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
        if self.modes is not None:
            self.modes.behind()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.window.set_slow(False)
        self.flow.caught_up()

    def go_on(self) -> None:
        """No reason is left not to read from it."""
        if self._kept is not None:
            self._continue(self._kept)
        if self._ending:
            self._after_output()


def _address(name: object, listener: object) -> str:
    """An address as Redis shows it: ``ip:port``, ``[v6]:port``, ``/path:0`` for a unix socket."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = name or listener
    return f"{path.decode() if isinstance(path, bytes) else path}:0"
