"""``Transports`` (transports.py) for Linux: all sockets behind an epoll of their own, which the loop sees as one
descriptor.

    loop ──readable──▶ EpollTransports._ready ──epoll_wait──▶ EpollTransport.read ──recv──▶ protocol.data_received
                               │ servers' at once; clients' in rotation, as many as a turn has time for
                                                   └▶ accept4 ──▶ EpollTransport, protocol.connection_made
    protocol ──write──▶ EpollTransport ──send at once; what does not go is kept, and sent when there is room──▶ socket
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
)

from proxy.transport.descriptors import NO_ROOM, Spare
from proxy.transport.sockets import keep_alive

cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* time)

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

# Nanoseconds that clients' sockets are handled in one turn, and bytes after which the clock is read: an event, which
# takes some microseconds however small it is, counts as 256.
cdef enum:
    _TURN = 4000000
    _LOOK = 4096
    _EVENT = 256


cdef inline long long _clock() noexcept nogil:
    """Nanoseconds that only grow."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <long long> now.tv_sec * 1000000000 + now.tv_nsec


cdef class EpollTransports(Poller):
    """All connections of a worker, to clients and to servers. Made inside its running loop."""

    cdef dict _listeners
    cdef set _resting
    cdef epoll_event* _events
    cdef uint64_t _numbered
    cdef object _spare
    # Clients whose sockets wait for the next turn, in order.
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
        """Take connections from ``listener``; each gets a protocol made by ``factory``. Where no descriptor is left for
        it, it is told what ``turn_away`` says, and closed."""
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
        """Take no more connections; those that stand go on."""
        for listener, _, _, _ in self._listeners.values():
            if listener not in self._resting:
                self.control(EPOLL_CTL_DEL, listener.fileno(), 0, 0)
            listener.close()
        self._listeners.clear()

    def _ready(self):
        """Something has happened on the sockets: handle it, up to a bound, so that the loop's others get their turn.

        What servers say is handled at once. Clients' sockets are handled for as long as this turn has time for them;
        the others come first in the next one. They stay readable, so that the loop calls this again.
        """
        cdef int count = epoll_wait(self.epoll, self._events, _EVENTS, 0)
        cdef int index
        cdef EpollTransport transport
        cdef list late = self._late
        self._late = []
        self._turn_ends = _clock() + _TURN
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
                    # Closed meanwhile, or a listening socket.
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
        """Whether clients' sockets have had the time that there is for them in this turn."""
        if self.work >= _LOOK and self._turn_ends:
            self.work = 0
            if _clock() >= self._turn_ends:
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
                # Of those that are one too many only one has a descriptor at a time.
                self.ended.remove(transport)
                transport.finish()

    cdef EpollTransport _adopt(self, int fd, bint tcp, protocol, bint client):
        """A connection stands on ``fd``, and is ``protocol``'s; ``client``: it was accepted."""
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
            log.exception("a connection could not be taken in")
            transport.fail(error)
        return transport

    def _rest(self, listener, reason):
        """No descriptors are left: try again in a while, not at once for ever."""
        log.error("can not accept connections reason=%r", reason)
        self.control(EPOLL_CTL_DEL, listener.fileno(), 0, 0)
        self._resting.add(listener)

        def again():
            self._resting.discard(listener)
            for number, (other, _, _, _) in self._listeners.items():
                if other is listener:
                    self.control(EPOLL_CTL_ADD, listener.fileno(), EPOLLIN, number)

        self.loop.call_later(_FULL_PAUSE, again)
