"""One client's connection::

    bytes ──frame──▶ fast lane ──▶ Backend.push          (one key, plain session)
                └──▶ hiredis ──▶ Session | Planner ──▶ Dispatcher ──▶ Backend.push
    bytes ◀──one write per turn── ReplyWindow ◀──deliver── Backend, Gather, Session

What is read and not yet carried out is kept; reading stops while one of the reasons in ``Stop`` holds.
"""

import asyncio
import logging
from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING, cast

from proxy import clientcmds, errors, fastlane
from proxy.backend import Backend
from proxy.commands.facts import Fact, Handling
from proxy.commands.table import UnknownSubcommand
from proxy.dispatch import Muted
from proxy.engine.sink import Sink
from proxy.engine.window import ReplyWindow
from proxy.planner import Reject, Scatter
from proxy.resp import encode
from proxy.resp.limits import UNAUTHENTICATED
from proxy.resp.requests import ProtocolError, RequestFramer, split_inline, split_request
from proxy.session import ReplyMode, Session

if TYPE_CHECKING:
    from proxy.service import Service

log = logging.getLogger(__name__)

_HTTP = frozenset({b"post", b"host:"})


class Stop(IntFlag):
    """Why a client is not read from."""

    NONE = 0
    HELD = 1
    """A backend takes no more."""
    FULL = 2
    """Too many of its requests are in flight."""
    SLOW = 4
    """It does not read its replies."""
    ORDER = 8
    """What follows goes over other connections and must not overtake what is in flight."""
    PAUSED = 16
    """CLIENT PAUSE."""


class ClientConnection(asyncio.Protocol):
    """A client: its session, its replies in order, and the flow of its bytes."""

    __slots__ = (
        "_awaiting_drain",
        "_counters",
        "_framer",
        "_held_by",
        "_kept",
        "_muted",
        "_slow_timer",
        "_stop",
        "_transport",
        "_turn",
        "_written",
        "closing",
        "number",
        "plain",
        "routes",
        "service",
        "session",
        "stopped",
        "window",
    )

    def __init__(self, service: "Service") -> None:
        # for good
        self.service = service
        self.number = 0
        self._counters = service.counters
        self._turn = service.turn
        self.window = ReplyWindow(partial(service.turn.add, self))
        self._muted: Muted | None = None
        # of the conversation
        self.session: Session
        self.plain = False
        self.closing = False
        # of the flow
        self.stopped = False
        self._stop = Stop.NONE
        self._held_by: set[Backend] = set()
        self._awaiting_drain = False
        self._kept: bytearray | None = None
        self._framer = RequestFramer(service.request_limits, UNAUTHENTICATED)
        self._written = 0
        self._slow_timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"ClientConnection({self.session!r} {self.window!r} stop={self._stop!r})"

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
        transport.set_write_buffer_limits(high=service.limits.output_soft)
        self.number = service.clients.next_number()
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.session = Session(service.world, self.number, _address(peer, own), _address(own, own), self._turn.now())
        service.clients.add(self)
        self._adopt_session()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what is in flight for it is dropped when it comes."""
        if self._transport is None:
            return
        self._transport = None
        self.closing = True
        self._kept = None
        if self._slow_timer is not None:
            self._slow_timer.cancel()
        self.window.close()
        self.service.clients.remove(self)

    def eof_received(self) -> bool:
        """The client sends no more: answer what it sent, then close."""
        self._close_when_answered()
        return True

    def close(self) -> None:
        """Close at once (CLIENT KILL)."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        """Take no more requests; close when what is in flight is answered."""
        self._kept = None
        self._close_when_answered()

    def _close_when_answered(self) -> None:
        self._awaiting_drain = True
        self._after_output()

    # ---- what it sends

    def data_received(self, data: bytes) -> None:
        """Carry out the requests in ``data``, and keep what is not whole yet."""
        self._counters.bytes_in += len(data)
        kept = self._kept
        if kept is not None:
            kept += data
            if not self.stopped and len(kept) >= self._framer.need:
                self._continue(kept)
        elif self.stopped:
            self._kept = bytearray(data)
        elif not self.closing:
            self._process(data)

    def _continue(self, kept: bytearray) -> None:
        """Go on with what was kept: it begins with a request, perhaps not whole yet."""
        try:
            end = self._framer.frame(kept, 0)
        except ProtocolError as error:
            self._protocol_error(error)
            return
        if end < 0:
            return
        self._kept = None
        with memoryview(kept) as view:
            first = bytes(view[:end])
            rest = bytes(view[end:])
        self._process(first)
        if self.closing:
            return
        if self._kept is not None:
            self._kept += rest
        elif self.stopped:
            self._kept = bytearray(rest)
        elif rest:
            self._process(rest)

    def _process(self, data: bytes) -> None:
        now = self.session.last_active = self._turn.now()
        pos = fastlane.run(self, data, 0, now) if self.plain else 0
        if pos != len(data):
            self._process_from(data, pos, now)
        window = self.window
        if window.issued - window.head > self.service.limits.max_in_flight and not self.closing:
            self._stop_for(Stop.FULL)

    def _process_from(self, data: bytes, pos: int, now: float) -> None:
        """Carry out what the fast lane left, one request at a time, and return to it after each."""
        framer = self._framer
        size = len(data)
        try:
            while pos < size and not self.stopped:
                end = framer.frame(data, pos)
                if end < 0:
                    break
                if not framer.empty and not self._request(data[pos:end], framer.inline, now):
                    break
                pos = end
                if self.closing:
                    break
                if self.plain and not self.stopped:
                    pos = fastlane.run(self, data, pos, now)
        except ProtocolError as error:
            self._protocol_error(error)
            return
        if pos < size and not self.closing:
            self._kept = bytearray(memoryview(data)[pos:])

    def _protocol_error(self, error: Exception) -> None:
        self.service.counters.reject("protocol error")
        self.window.answer(encode.error(errors.protocol(str(error))))
        self._finish()

    def _finish(self) -> None:
        """Read no more; close when all is answered."""
        self.closing = True
        self._kept = None
        self._close_when_answered()

    # ---- one request, the slow way

    def _request(self, frame: bytes, inline: bool, now: float) -> bool:
        """Carry out one request. False if it must wait (nothing was done)."""
        args = split_inline(frame) if inline else split_request(frame)
        if not args:
            return True
        if inline:
            frame = encode.request(args)
        session = self.session
        service = self.service
        fact: Fact | None
        try:
            fact = service.table.resolve(args)
        except UnknownSubcommand as unknown:
            self._refuse(unknown.fact, errors.unknown_subcommand(unknown.fact.name, args[1]))
            return True
        if fact is None and args[0].lower() in _HTTP:
            # A browser was made to talk to this port: Redis closes without a word, before a body is read as commands.
            self.service.counters.reject("http")
            self.close()
            return True
        if fact is None:
            self._refuse(None, errors.unknown_command(args))
            return True
        if service.clients.paused and service.clients.holds(fact):
            self._stop_for(Stop.PAUSED)
            return False
        session.last_command = fact.name
        if not fact.accepts(len(args)):
            self._refuse(fact, errors.wrong_arity(fact.name))
        elif refusal := session.refusal(fact):
            self._refuse(fact, refusal)
        elif fact.handling is Handling.SESSION:
            self._run_session(fact, args, now)
        else:
            self._run_plan(fact, args, frame, now)
        return True

    def _refuse(self, fact: Fact | None, text: str) -> None:
        if fact is not None:
            self.service.counters.command(fact.name).rejected += 1
        muted = self.session.muted()
        self.window.answer(b"" if muted else encode.error(text))
        self._adopt_session()

    def _run_session(self, fact: Fact, args: list[bytes], now: float) -> None:
        session = self.session
        counter = self.service.counters.command(fact.name)
        counter.calls += 1
        muted = session.muted() and fact.name != "client|reply"
        before = session.db, session.protocol
        reply = clientcmds.run(session, fact.name, args, now)
        if reply[:1] == b"-":
            counter.failed += 1
        self.window.answer(b"" if muted else reply)
        self._adopt_session()
        if (session.db, session.protocol) != before and self.window.pending:
            self._stop_for(Stop.ORDER)
        if session.closing:
            self._finish()

    def _run_plan(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> None:
        service = self.service
        plan = service.planner.plan(fact, args, frame)
        if isinstance(plan, Reject):
            service.counters.crossslots += plan.text is errors.CROSSSLOT
            self._refuse(fact, plan.text)
            return
        service.counters.command(fact.name).calls += 1
        sink: Sink = self.window
        if self.session.muted():
            sink = self._muted = self._muted or Muted(self.window)
            self._adopt_session()
        token = self.window.reserve()
        if isinstance(plan, Scatter):
            service.dispatcher.scatter(plan, self.routes, self, sink, token, now)
        else:
            service.dispatcher.forward(plan, frame, self.routes, self, sink, token, now)

    def _adopt_session(self) -> None:
        """Take over what the session's state means for the flow of requests."""
        session = self.session
        self.plain = session.authenticated and session.reply_mode is ReplyMode.ON and not self.service.clients.paused
        self._framer.set_authenticated(session.authenticated)
        self.routes = self.service.routes(session.protocol, session.db, self.number)

    # ---- what it is sent

    def flush(self) -> None:
        """Write the replies whose turn has come."""
        data = self.window.take()
        transport = self._transport
        if transport is None:
            return
        if data:
            self._counters.bytes_out += len(data)
            transport.write(data)
        if self._stop or self._awaiting_drain or not data:
            self._written += len(data)
            self._after_output()

    def _after_output(self) -> None:
        """Look whether what was waited for has come about: the end, or a reason to read again."""
        transport = self._transport
        if transport is None:
            return
        if self.window.broken:
            self._abort("broken reply")
        elif self._stop & Stop.SLOW and transport.get_write_buffer_size() > self.service.limits.output_hard:
            self._abort("output limit")
        elif self._awaiting_drain and not self._stop & ~Stop.SLOW and self.window.idle:
            transport.close()
        else:
            pending = self.window.pending
            if self._stop & Stop.ORDER and not pending:
                self._go_for(Stop.ORDER)
            if self._stop & Stop.FULL and pending <= self.service.limits.max_in_flight // 2:
                self._go_for(Stop.FULL)

    def _abort(self, reason: str) -> None:
        self.service.counters.reject(reason)
        log.warning("client closed address=%s reason=%r", self.session.address, reason)
        self.close()

    # ---- when it is read from

    def hold(self, backend: Backend) -> None:
        """``backend`` takes no more for now."""
        self._held_by.add(backend)
        self._stop_for(Stop.HELD)

    def release(self, backend: Backend) -> None:
        """``backend`` takes requests again."""
        self._held_by.discard(backend)
        if not self._held_by:
            self._go_for(Stop.HELD)

    def pause_changed(self) -> None:
        """A CLIENT PAUSE has begun or is over."""
        self._adopt_session()
        if not self.service.clients.paused:
            self._go_for(Stop.PAUSED)

    def pause_writing(self) -> None:
        """It reads more slowly than it is answered: no more requests until it has caught up."""
        self._stop_for(Stop.SLOW)
        if self._transport is not None and self._slow_timer is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None
        self._go_for(Stop.SLOW)

    def _watch_reader(self) -> None:
        """Close the client if ``write_timeout`` from now it has read nothing more."""
        taken = self._written - self._unread()

        def look() -> None:
            if self._written - self._unread() > taken:
                self._watch_reader()
            else:
                self._abort("write timeout")

        self._slow_timer = self.service.loop.call_later(self.service.limits.write_timeout, look)

    def _unread(self) -> int:
        """Bytes that wait in this process for the client to read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _stop_for(self, reason: Stop) -> None:
        if not self._stop and self._transport is not None:
            self._transport.pause_reading()
        self._stop |= reason
        self.stopped = True

    def _go_for(self, reason: Stop) -> None:
        if not self._stop & reason:
            return
        self._stop &= ~reason
        self.stopped = bool(self._stop)
        if self.stopped or self._transport is None:
            return
        self._transport.resume_reading()
        if self._kept is not None:
            self._continue(self._kept)
        if self._awaiting_drain:
            self._after_output()


def _address(name: object, listener: object) -> str:
    """An address as Redis shows it: ``ip:port``, ``[v6]:port``, ``/path:0`` for a unix socket."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = name or listener
    return f"{path.decode() if isinstance(path, bytes) else path}:0"
