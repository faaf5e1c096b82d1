"""One client's connection::

    bytes ──frame──▶ fast lane ──▶ Backend.push                       (one key, plain session)
                └──▶ Conversation: hiredis ──▶ Session | Planner ──▶ Dispatcher ──▶ Backend.push
    bytes ◀──one write per turn── ReplyWindow ◀──deliver── Backend, Gather, Session

What is read and not yet carried out is kept; ``Flow`` says when it is read from.
"""

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, cast

from proxy import errors
from proxy.conversation import Conversation
from proxy.engine.window import ReplyWindow
from proxy.fastlane import run as run_fast_lane
from proxy.flow import Flow, Stop
from proxy.resp import encode
from proxy.resp.requests import ProtocolError
from proxy.session import Session

if TYPE_CHECKING:
    from proxy.service import Service

log = logging.getLogger(__name__)


class ClientConnection(Conversation, asyncio.Protocol):
    """A client's bytes: framed and carried out, answered in order, and read only while there is room."""

    __slots__ = ("_counters", "_ending", "_kept", "_transport", "_turn", "closing", "most")

    def __init__(self, service: "Service") -> None:
        super().__init__(service, ReplyWindow(partial(service.turn.add, self), service.limits.output_soft))
        # for good
        self._counters = service.counters
        self._turn = service.turn
        self.most = service.limits.max_in_flight
        """How many of its requests may be in flight."""
        # of the connection
        self._transport: asyncio.Transport | None = None
        self._ending = False
        self.closing = False
        # of the request
        self._kept: bytearray | None = None

    def __repr__(self) -> str:
        if self._transport is None:
            return "ClientConnection(not connected)"
        return f"ClientConnection({self.session!r} {self.window!r} {self.flow!r})"

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connects."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        transport = cast(asyncio.Transport, transport)
        service = self.service
        if not service.clients.admit():
            transport.write(encode.error(errors.MAX_CLIENTS))
            transport.close()
            self.closing = True
            return
        self._transport = transport
        limits = service.limits
        transport.set_write_buffer_limits(high=limits.output_soft)
        self.flow = Flow(
            service.loop,
            transport,
            self.window,
            limits.write_timeout,
            self._go_on,
            partial(self._abort, "write timeout"),
        )
        self.number = service.clients.next_number()
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.session = Session(service.world, self.number, _address(peer, own), _address(own, own), self._turn.now())
        service.clients.add(self)
        self.adopt_session()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what is in flight for it is dropped when it comes."""
        if self._transport is None:
            return
        self._transport = None
        self.closing = True
        self._kept = None
        self.flow.end_watch()
        self.window.close()
        self._counters.bytes_out += self.window.written
        self.service.clients.remove(self)

    def eof_received(self) -> bool:
        """The client sends no more: answer what it sent, then close."""
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
        self._after_output()

    # ---- what it sends

    def data_received(self, data: bytes) -> None:
        """Carry out the requests in ``data``, and keep what is not whole yet."""
        self._counters.bytes_in += len(data)
        kept = self._kept
        if kept is not None:
            kept += data
            if not self.flow.stopped and len(kept) >= self.framer.need:
                self._continue(kept)
        elif self.closing:
            return
        elif self.flow.stopped:
            self._kept = bytearray(data)
        elif self.plain:
            now = self.session.last_active = self._turn.now()
            pos = run_fast_lane(self, data, 0, now)
            if pos != len(data):
                self._process_from(data, pos, now)
        else:
            self._process_from(data, 0, self._turn.now())

    def _continue(self, kept: bytearray) -> None:
        """Go on with what was kept: it begins with a request, perhaps not whole yet."""
        try:
            end = self.framer.frame(kept, 0)
        except ProtocolError as error:
            self._protocol_error(error)
            return
        if end < 0:
            return
        self._kept = None
        with memoryview(kept) as view:
            first = bytes(view[:end])
            rest = bytes(view[end:])
        now = self._turn.now()
        self._process_from(first, 0, now)
        if self.closing:
            return
        if self._kept is not None:
            self._kept += rest
        elif self.flow.stopped:
            self._kept = bytearray(rest)
        elif rest:
            self._process_from(rest, 0, now)

    def _process_from(self, data: bytes, pos: int, now: float) -> None:
        """Carry out what the fast lane left, one request at a time, and return to it after each."""
        self.session.last_active = now
        framer = self.framer
        size = len(data)
        try:
            while pos < size and not self.flow.stopped:
                if self.window.pending >= self.most:
                    self.flow.stop(Stop.FULL)
                    break
                end = framer.frame(data, pos)
                if end < 0:
                    break
                if framer.empty:
                    self.session.muted()  # it counts as a command that CLIENT REPLY SKIP leaves out
                    self.adopt_session()
                elif not self.request(data[pos:end], now):
                    break
                pos = end
                if self.closing:
                    break
                if self.plain and not self.flow.stopped:
                    pos = run_fast_lane(self, data, pos, now)
        except ProtocolError as error:
            self._protocol_error(error)
            return
        if pos < size and not self.closing:
            self._kept = bytearray(memoryview(data)[pos:])

    def _protocol_error(self, error: Exception) -> None:
        self.service.counters.reject("protocol error")
        self.window.answer(encode.error(errors.protocol(str(error))))
        self.drain()

    # ---- what it is sent

    def flush(self) -> None:
        """Write the replies whose turn has come."""
        data = self.window.take()
        transport = self._transport
        if transport is None:
            return
        flow = self.flow
        if flow.stopped:
            flow.added += len(data)
        if data:
            self._counters.bytes_out += len(data)
            transport.write(data)
        if flow.stopped or self._ending or not data:
            self._after_output()

    def _after_output(self) -> None:
        """Look whether what was waited for has come about: the end, or a reason to read again."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        window, flow, limits = self.window, self.flow, self.service.limits
        if window.broken:
            self._abort("broken reply")
        elif max(window.parked_bytes, flow.unread()) > limits.output_hard:
            self._abort("output limit")
        elif self._ending and window.idle and (self.closing or not flow.reasons & ~Stop.SLOW):
            transport.close()
        else:
            if not window.pending:
                flow.go(Stop.ORDER)
            if window.overflowing:
                flow.stop(Stop.FULL)
            elif window.pending <= self.most // 2:
                flow.go(Stop.FULL)

    def _abort(self, reason: str) -> None:
        self._counters.reject(reason)
        log.warning("client closed address=%s reason=%r", self.session.address, reason)
        self.close()

    # ---- when it is read from

    def pause_writing(self) -> None:
        """It reads more slowly than it is answered."""
        self.flow.slow()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.flow.caught_up()

    def pause_changed(self) -> None:
        """A CLIENT PAUSE has begun or is over."""
        self.adopt_session()
        if not self.service.clients.paused:
            self.flow.go(Stop.PAUSED)

    def _go_on(self) -> None:
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
