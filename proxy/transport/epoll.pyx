"""``Transports`` (transports.py) for Linux: all sockets are behind one epoll descriptor, which the event loop watches.

    loop ──readable──▶ EpollTransports._ready ──epoll_wait──▶ EpollTransport.read ──recv──▶ protocol.data_received
                               │ sockets of servers at once; of clients in rotation, as many as a turn has time for
                                                   └▶ accept4 ──▶ EpollTransport, protocol.connection_made
    protocol ──write──▶ EpollTransport ──send at once; the rest is kept until the socket is writable──▶ socket
"""

import logging
import os
import socket

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t

from proxy.transport.epoll_transport cimport (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EpollTransport,
    Poller,
    epoll_event,
    epoll_wait,
    monotonic_ns,
)

from proxy.transport.descriptors import NO_ROOM, Spare
from proxy.transport.sockets import MOST_ACCEPTS, is_readable, keep_alive

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/socket.h>
    extern int accept4(int, struct sockaddr *, socklen_t *, int);
    """
    int SOCK_NONBLOCK, SOCK_CLOEXEC, IPPROTO_TCP, TCP_NODELAY
    int accept4(int fd, void* address, void* length, int flags)
    int setsockopt(int fd, int level, int name, const void* value, unsigned int size)

log = logging.getLogger(__name__)

cdef enum:
    _EVENTS = 256
    _ACCEPTS = 64
    _CHUNKS_HURRIED = 16

_FULL_PAUSE = 1.0

# The nanoseconds that one turn has for the sockets of clients, and the bytes after which the clock is read. An event
# counts as 256 bytes, since it takes some microseconds however small it is.
cdef enum:
    _TURN = 4000000
    _LOOK = 4096
    _EVENT = 256


cdef class EpollTransports(Poller):
    """All connections of a worker, to clients and to servers. It is created inside the worker's running loop."""

    cdef dict _listeners
    cdef set _resting
    cdef epoll_event* _events
    cdef uint64_t _numbered
    cdef object _spare
    # The transports of clients whose sockets wait for the next turn, in order.
    cdef list _late
    cdef long long _turn_ends

    def __cinit__(self, loop):
        self._late = []
        self._listeners = {}
        self._resting = set()
        self._spare = Spare()
        self._events = <epoll_event*> PyMem_Malloc(_EVENTS * sizeof(epoll_event))
        if self._events == NULL:
            raise MemoryError
        loop.add_reader(self.epoll, self._ready)

    def __dealloc__(self):
        PyMem_Free(self._events)

    async def listen(self, listener, factory, int backlog, turn_away):
        """Accept connections from ``listener``; each gets a protocol made by ``factory``. A connection for which no
        descriptor is left gets the bytes that ``turn_away`` returns, and is closed."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._numbered += 1
        self._listeners[self._numbered] = (listener, factory, listener.family != socket.AF_UNIX, turn_away)
        self.control(EPOLL_CTL_ADD, listener.fileno(), EPOLLIN, self._numbered)

    async def connect(self, host, int port, protocol):
        """Connect ``protocol`` to ``host:port``, or to the unix socket ``host`` if ``port`` is 0. Raises
        ``OSError``."""
        if port:
            found = await self.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            places = [(family, address) for family, _, _, _, address in found]
        else:
            places = [(socket.AF_UNIX, host)]
        failure = OSError(f"{host} has no address")
        for family, address in places:
            link = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                await self.loop.sock_connect(link, address)
            except OSError as error:
                link.close()
                failure = error
            except BaseException:
                link.close()
                raise
            else:
                if port:
                    keep_alive(link)
                self._adopt(link.detach(), port != 0, protocol, False)
                return
        raise failure

    def stop_listening(self):
        """Accept the connections that wait, and then no more; open ones stay open."""
        for listening in list(self._listeners.values()):
            listener = listening[0]
            # A connection that waits in a socket that is closed would be reset.
            for _ in range(MOST_ACCEPTS):
                if listener in self._resting or not is_readable(listener):
                    break
                self._accept(listening)
            if listener not in self._resting:
                self.control(EPOLL_CTL_DEL, listener.fileno(), 0, 0)
            listener.close()
        self._listeners.clear()

    def _ready(self):
        """Handle the events of the sockets, for a bounded time, so that the other tasks of the loop get their turn.

        The sockets of servers are handled at once. The sockets of clients are handled as long as this turn has time
        for them; the remaining ones come first in the next turn. They stay readable, so the loop calls this again.
        """
        cdef int count = epoll_wait(self.epoll, self._events, _EVENTS, 0)
        cdef int index
        cdef EpollTransport transport
        cdef list late = self._late
        self._late = []
        self._turn_ends = monotonic_ns() + _TURN
        self.work = 0
        self.more = _CHUNKS_HURRIED
        self.busy = True
        try:
            for transport in late:
                if self._over():
                    self._late.append(transport)
                else:
                    self._handle(transport, transport.due)
            for index in range(count):
                found = self.transports.get(self._events[index].data.u64)
                if found is None:
                    # The connection was closed in the meantime, or this is a listening socket.
                    listening = self._listeners.get(self._events[index].data.u64)
                    if listening is not None:
                        self._accept(listening)
                    continue
                transport = <EpollTransport> found
                if not transport.client:
                    self._handle(transport, self._events[index].events)
                elif transport.due:
                    transport.due |= self._events[index].events
                elif self._over():
                    transport.due = self._events[index].events
                    self._late.append(transport)
                else:
                    self._handle(transport, self._events[index].events)
        finally:
            self.busy = False
            self.end()

    cdef bint _over(self) noexcept:
        """Whether the time of this turn for the sockets of clients is used up."""
        if self.work >= _LOOK and self._turn_ends:
            self.work = 0
            if monotonic_ns() >= self._turn_ends:
                self._turn_ends = 0
        return self._turn_ends == 0

    cdef int _handle(self, EpollTransport transport, uint32_t events) except -1:
        self.work += _EVENT
        transport.due = 0
        try:
            if events & EPOLLOUT or (events & (EPOLLERR | EPOLLHUP) and not transport.reading):
                transport.send_kept()
            if events & (EPOLLIN | EPOLLERR | EPOLLHUP) and transport.reading:
                transport.read()
        except Exception as error:
            log.exception("a connection failed")
            transport.fail(error)
        return 0

    cdef object _accept(self, tuple listening):
        listener, factory, tcp, turn_away = listening
        cdef int fd, failure
        cdef EpollTransport transport
        cdef int accepting = listener.fileno()
        for _ in range(_ACCEPTS):
            fd = accept4(accepting, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                failure = errno
                if failure == EINTR or failure == ECONNABORTED:
                    continue
                if failure in NO_ROOM:
                    if self._spare.turn_away(listener, turn_away):
                        continue
                    self._rest(listener, os.strerror(failure))
                elif failure != EAGAIN:
                    log.error("accept failed reason=%r", os.strerror(failure))
                return
            transport = self._adopt(fd, tcp, factory(), True)
            if transport.ending:
                # Connections beyond the limit are closed one by one, so that only one has a descriptor at a time.
                self.ended.remove(transport)
                transport.finish()

    cdef EpollTransport _adopt(self, int fd, bint tcp, protocol, bint client):
        """Make the transport of the connection ``fd`` for ``protocol``; ``client`` says that it was accepted."""
        cdef int one = 1
        cdef EpollTransport transport = EpollTransport.__new__(EpollTransport)
        if tcp:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        self._numbered += 1
        transport.take(self, self._numbered, fd, client)
        try:
            self.control(EPOLL_CTL_ADD, fd, EPOLLIN, self._numbered)
            transport.mask = EPOLLIN
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
        except Exception as error:
            log.exception("a new connection failed")
            transport.fail(error)
        return transport

    def _rest(self, listener, reason):
        """Pause ``listening`` for a while because no descriptors are left, instead of trying again at once."""
        log.error("can not accept connections reason=%r", reason)
        self.control(EPOLL_CTL_DEL, listener.fileno(), 0, 0)
        self._resting.add(listener)

        def again():
            self._resting.discard(listener)
            for number, (other, _, _, _) in self._listeners.items():
                if other is listener:
                    self.control(EPOLL_CTL_ADD, listener.fileno(), EPOLLIN, number)

        self.loop.call_later(_FULL_PAUSE, again)
