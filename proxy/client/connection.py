"""One client's connection::

    bytes ──frame──▶ fast_path ──▶ Backend.push                       (one key, plain session)
                ├──▶ own_fast_path ──▶ ReplyWindow                    (the proxy's own answers)
                └──▶ slow_path: hiredis ──▶ Session | Planner ──▶ Dispatcher ──▶ Backend.push
    bytes ◀──one write per turn── ReplyWindow ◀──deliver── Backend, Gather, Session

Bytes that are read and not yet carried out are kept (``KeptInput``); ``Flow`` decides when the client is read from.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import cast

from proxy import errors
from proxy.client.holdings import HoldingClient
from proxy.client.kept_input import PIECE, KeptInput
from proxy.client.large_request import LANDS_FROM, Landing
from proxy.client.quota import Quota
from proxy.client.registry import Clients
from proxy.client.request_loop import carry_out_all, pace, wait
from proxy.features import commands
from proxy.resp import encode
from proxy.resp.requests import ProtocolError
from proxy.session.client_line import shown_address
from proxy.transport.flow_control import Flow, Stop
from proxy.transport.sockets import is_readable

log = logging.getLogger(__name__)

_SLOW = Stop.SLOW
_ORDER = Stop.ORDER
_FULL = Stop.FULL
_BLOCKED = Stop.BLOCKED
_PACED = Stop.PACED
_QUOTA = Stop.QUOTA
_LOGIN = Stop.LOGIN
_WITH_LOGIN = 16 * 1024
"""Bytes of a client's requests that are read and kept while its login is delayed."""
_LARGE = PIECE
_HELD = 1024 * 1024
"""Bytes of a client's requests that are read and kept while CLIENT PAUSE holds them."""


class ClientConnection(HoldingClient):
    """The ``asyncio.Protocol`` of a client's connection: frames and carries out its requests, answers them in order,
    and reads only while there is room."""

    __slots__ = (
        "_backlog",
        "_clients",
        "_counters",
        "_ending",
        "_leaving",
        "_more",
        "_transport",
        "_turn",
    )

    def set_up(self) -> None:
        """Set the attributes of this class; called by ``Client.__init__``."""
        # for good
        service = self.service
        self._counters = service.counters
        self._turn = service.turn
        # ``ClientServices`` can not name the class: the module of ``Clients`` imports that of ``Client``.
        self._clients: Clients = service.clients  # type: ignore[assignment]  # it is that class: Service makes it
        self._backlog = self._clients.backlog
        # of the connection
        self._transport: asyncio.Transport | None = None
        self._ending = False
        self._leaving = False
        # of its requests
        self.hold_nothing()
        self._more = False
        """Whether more bytes are kept behind the requests that are carried out now."""

    def __repr__(self) -> str:
        if self._transport is None:
            return "ClientConnection(not connected)"
        return f"ClientConnection({self.number} {self.window!r} {self.flow!r})"

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the new client, or refuse it if there are too many."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        transport = cast(asyncio.Transport, transport)
        if refusal := self._clients.refusal(transport, self.listener):
            transport.write(encode.error(refusal))
            transport.close()
            self.closing = True
            return
        self._transport = transport
        # Half of the limit: the transport keeps what it has begun to write until all of it is written, and as much
        # again.
        transport.set_write_buffer_limits(high=self.service.limits.output_soft // 2)
        self.begin(self._clients.enter(self, transport), Flow(self, transport), self._turn.now())
        self._clients.begun(self)

    def certified(self, names: Sequence[str]) -> None:
        """Log in as the user that the client's certificate names, if there is one."""
        if self._transport is not None:
            self.session.certify(names)
            self.adopt_session()

    @property
    def gone(self) -> bool:
        """Whether the client's connection is closed."""
        return self._transport is None

    def addresses(self) -> tuple[str, str]:
        """The client's address and the proxy's own, as CLIENT LIST shows them."""
        if self._transport is None:
            return "", ""
        peer, own = self._transport.get_extra_info("peername"), self._transport.get_extra_info("sockname")
        return shown_address(peer, own), shown_address(own, own)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after a client that is gone; replies to its requests in flight are dropped when they arrive."""
        if self._transport is None:
            return
        self._transport = None
        self.closing = True
        self._kept = self._landing = None
        try:
            if self.modes is not None:
                commands.let_go(self.modes)
        finally:
            # Whatever fails there, a client that is gone must not stay in the list.
            self.flow.close()
            self._backlog.forget(self)
            self.window.close()
            self._counters.bytes_out += self.window.written
            self._clients.remove(self)

    def eof_received(self) -> bool:
        """Answer all requests of a client that sends no more, then close."""
        if self.held or self.flow.reasons & _LOGIN or (self.modes is not None and self.modes.blocked):
            self.close()  # as in Redis, an element must not be given to a client that is gone
            return False
        self._ending, self._leaving = True, False
        self.flow.end()
        self._after_output()
        return True

    def close(self) -> None:
        """Close at once (CLIENT KILL)."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Close when the client is between two requests; until then it is served."""
        if not self._ending:
            self._ending = self._leaving = True
            self.flow.write_no_more_directly()
        self._after_output()

    def drain(self) -> None:
        """Take no more requests, and close when those in flight are answered."""
        self.closing = True
        self._kept = None
        self._ending, self._leaving = True, False
        self.flow.end()
        self.flow.stop(Stop.ENDING)
        if self.modes is not None:
            self.modes.leave()
        self._after_output()

    # ---- requests

    def data_received(self, data: bytes) -> None:
        """Carry out the requests in ``data``, and keep an incomplete one."""
        self._counters.bytes_in += len(data)
        if self._kept is not None:
            self._kept.add(data)
            size = self._kept.size()
            if self.flow.stopped:
                # A blocked client's socket is still read, so that its disconnect is seen; the bytes that it sends
                # meanwhile are bounded. A client that is behind is weighed below.
                if size > self.service.limits.requests.request and self.flow.reasons & _BLOCKED:
                    self.abort("request limit")
                elif (self.held and size > _HELD) or (self.flow.reasons & _LOGIN and size > _WITH_LOGIN):
                    self.flow.stop(_FULL)  # until the pause is over, or the login checked
            elif size >= self.framer().need:
                self.go_on()
        elif self.closing:
            return
        elif self.flow.stopped:
            self._kept = KeptInput(data)
        else:
            now = self._turn.share()
            if now >= 0.0:
                self._process(data, 0, now)
            else:
                self._kept = KeptInput(data)
                wait(self, self._turn)
        if self.flow.behind and not self.closing:
            self.flow.lively = True
            self._backlog.weigh(self)

    def _continue(self, now: float) -> None:
        """Carry out what was kept: in pieces if it is much, as of a client that goes on sending while it is blocked."""
        kept = self._kept
        assert kept is not None
        large = self.service.query.large
        if not kept.grows():
            self._kept = None
            whole = cast(bytes, kept.data)
            if len(whole) < large:
                self._process(whole, kept.start, now)
            else:
                self._process_large(whole[kept.start :], now)
            return
        while not self.flow.stopped:
            try:
                piece = kept.next_piece(self.framer(), large)
            except ProtocolError as error:
                self._protocol_error(error)
                return
            size = kept.size()
            if piece is None:
                if self._lands(size):
                    self._kept = None
                    self._land(bytes(kept.data))
                return
            taken = len(piece)
            self._kept = None
            self._more = taken < size
            if kept.first >= large:
                self._process_large(piece, now)
            else:
                self._process(piece, 0, now)
            self._more = False
            if self.closing or taken == size:
                return
            if self._kept is not None:
                taken -= self._kept.size()
            kept.drop(taken)
            self._kept = kept

    def _process(self, data: bytes, pos: int, now: float) -> None:
        """Carry out the requests in ``data[pos:]``, and keep those that must wait or are incomplete."""
        try:
            taken = pos
            pos = carry_out_all(self, data, pos, now, self._turn, self._more)
        except ProtocolError as error:
            self.window.gathers = False
            self._protocol_error(error)
            return
        if self.closing:
            return
        taken = (pos if pos >= 0 else ~pos) - taken
        if taken >= _LARGE:
            self.count_sent(taken)
        if pos >= 0:
            if pos < len(data):
                self._kept = KeptInput(data, pos)
        elif self._lands(len(data) - ~pos):
            self._land(data[~pos:])
        else:
            self._kept = KeptInput(bytearray(memoryview(data)[~pos:]))

    def take_back(self, frame: bytes) -> None:
        """Keep a request that must wait, ahead of what is kept already."""
        kept = self._kept
        if kept is None:
            kept = self._kept = KeptInput(bytearray())
        kept.put_before(frame)

    def _lands(self, got: int) -> bool:
        """Whether the request, of which ``got`` bytes have arrived, is a large one that no bytes follow yet."""
        framer = self.framer()
        return framer.last and framer.need - got >= LANDS_FROM and not self._ending and not self._more

    def _land(self, begun: bytes) -> None:
        """Read the rest of the request that was ``begun`` directly into its buffer."""
        if self._transport is not None:
            self._landing = Landing(self, self._transport, self.framer().need, begun)
            self.framer().reset()
            self.flow.handed_back()

    def landed(self, request: bytes) -> None:
        """Carry out a large request that is complete."""
        self._landing = None
        if self.closing:
            return
        self.flow.handed_back()
        if self.flow.stopped:
            self._kept = KeptInput(request)
        else:
            self._process_large(request, self._turn.now())

    def _process_large(self, request: bytes, now: float) -> None:
        """Carry out one request that may be large, and that the fast path would send over a connection shared by
        all."""
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

    # ---- replies

    def flush(self) -> None:
        """Write the replies that are next in order."""
        transport = self._transport
        if transport is None:
            return
        size = self.window.write_to(transport)
        flow = self.flow
        if not size or flow.stopped or flow.behind or self._ending:
            self._after_output()

    def _after_output(self) -> None:
        """Check whether the connection can be closed, or the client be read from again."""
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
            pace(self)
            pacing = self.pacing
            if window.streaming or (pacing is not None and pacing.streams):
                flow.stop(_PACED)
            self._backlog.weigh(self)
        if self._ending and window.idle and (self.closing or not flow.reasons & ~_SLOW):
            if not self._leaving or (self.between_requests() and not is_readable(transport)):
                transport.close()
        elif flow.stopped or window.overflowing:
            if flow.reasons & _QUOTA and flow.quota is not None:
                cast(Quota, flow.quota).answered()
            if not window.pending:
                flow.go(_ORDER | _BLOCKED)
            if window.overflowing:
                flow.stop(_FULL)
            elif flow.reasons & _FULL and window.pending <= self.most // 2:
                pace(self)
                flow.go(_FULL)

    def abort(self, reason: str) -> None:
        """Close at once, for a ``reason`` that is logged and counted."""
        self._counters.reject(reason)
        log.warning("client closed address=%s reason=%r", self.session.address, reason)
        self.close()

    def over_limit(self) -> None:
        """Close the connection, as more bytes wait for the client than may."""
        self.abort("output limit" if self.output_hard == self.service.limits.output_hard else "pubsub output limit")

    def stalled(self) -> None:
        """Close the connection, as the client has read nothing for too long."""
        self.abort("write timeout")

    def wake(self) -> None:
        self._turn.add(self)

    # ---- flow control

    def pause_writing(self) -> None:
        """Take notice that the client reads its replies too slowly."""
        self.window.set_slow(True)
        self.flow.slow()
        self._backlog.weigh(self)
        if self.modes is not None:
            self.modes.behind()

    def resume_writing(self) -> None:
        """Take notice that the client has caught up."""
        self._backlog.forget(self)
        self.window.set_slow(False)
        self.flow.caught_up()

    def go_on(self) -> None:
        """Carry out what was kept, as no reason is left not to read from the client."""
        if self._kept is not None:
            now = self._turn.share()
            if now >= 0.0:
                self._continue(now)
            else:
                wait(self, self._turn)
        if self._ending:
            self._after_output()
