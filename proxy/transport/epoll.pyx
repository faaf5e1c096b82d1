"""``Wires`` (transports.py) for Linux: all sockets behind an epoll of their own, which the loop sees as one descriptor.

    loop ──readable──▶ EpollWires._ready ──epoll_wait──▶ Wire.read ──recv──▶ protocol.data_received
                               │ servers' at once; clients' in rotation, as many as a turn has time for
                                                   └▶ accept4 ──▶ Wire, protocol.connection_made
    protocol ──write──▶ Wire ──send at once; what does not go is kept, and sent when there is room──▶ socket

A ``Wire`` is one connection's transport: the methods of ``asyncio.Transport`` that are used here, with its semantics
(https://docs.python.org/3/library/asyncio-protocol.html), ``asyncio.BufferedProtocol`` included.
"""

import logging
import os
import socket
from collections import deque

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, PyObject
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from proxy.engine.receiver cimport Receiver

from proxy.transport.transports import NO_ROOM, Spare, keep_alive

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
        EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event* event)
    int epoll_wait(int epfd, epoll_event* events, int maxevents, int timeout)

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
    #include <sys/uio.h>
    #include <unistd.h>
    extern int accept4(int, struct sockaddr *, socklen_t *, int);
    """
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, IPPROTO_TCP, TCP_NODELAY
    int accept4(int fd, void* address, void* length, int flags)
    ssize_t recv(int fd, void* buffer, size_t size, int flags)
    ssize_t send(int fd, const void* buffer, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    int setsockopt(int fd, int level, int name, const void* value, unsigned int size)
    int c_close "close"(int fd)

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(char* data, Py_ssize_t size)
    int resize_bytes "_PyBytes_Resize"(PyObject** data, Py_ssize_t size) except -1

log = logging.getLogger(__name__)

cdef enum:
    _EVENTS = 256
    _ACCEPTS = 64
    _CHUNK = 256 * 1024
    _CHUNKS = 4
    _CHUNKS_HURRIED = 16
    _FIRST = 64 * 1024  # what a client may be read before it has shown what it sends
    _PLENTY = 64 * 1024
    _VECTORS = 64
    _SENDS = 8
    _SMALL = 1024
    _TOGETHER = 256
    _LEFT_AT_ONCE = 64
    _HIGH = 64 * 1024

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


cdef class EpollWires:
    """All connections of a worker, to clients and to servers. Made inside its running loop."""

    cdef object _loop
    cdef int _epoll
    cdef dict _listeners
    cdef set _resting
    cdef dict _wires
    cdef object _ended
    cdef bint _told
    cdef char* _buffer
    cdef epoll_event* _events
    cdef uint64_t _numbered
    cdef bint _busy
    cdef object _spare
    # Clients whose sockets wait for the next turn, in order.
    cdef list _late
    cdef long long _turn_ends
    cdef Py_ssize_t _work
    # How many pieces are read in this turn beyond the usual, of those behind which somebody waits.
    cdef int _more

    def __cinit__(self, loop):
        self._loop = loop
        self._late = []
        self._listeners = {}
        self._resting = set()
        self._wires = {}
        self._ended = deque()
        self._spare = Spare()
        self._buffer = <char*> PyMem_Malloc(_CHUNK)
        self._events = <epoll_event*> PyMem_Malloc(_EVENTS * sizeof(epoll_event))
        if self._buffer == NULL or self._events == NULL:
            raise MemoryError
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, os.strerror(errno))
        loop.add_reader(self._epoll, self._ready)

    def __dealloc__(self):
        PyMem_Free(self._buffer)
        PyMem_Free(self._events)
        if self._epoll >= 0:
            c_close(self._epoll)

    async def listen(self, listener, factory, int backlog, turn_away):
        """Take connections from ``listener``; each gets a protocol made by ``factory``. Where no descriptor is left for
        it, it is told what ``turn_away`` says, and closed."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._numbered += 1
        self._listeners[self._numbered] = (listener, factory, listener.family != socket.AF_UNIX, turn_away)
        self._control(EPOLL_CTL_ADD, listener.fileno(), EPOLLIN, self._numbered)

    async def connect(self, host, int port, protocol):
        """Connect ``protocol`` to ``host:port``, or to the unix socket ``host`` if ``port`` is 0. Raises
        ``OSError``."""
        if port:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            places = [(family, address) for family, _, _, _, address in found]
        else:
            places = [(socket.AF_UNIX, host)]
        failure = OSError(f"{host} has no address")
        for family, address in places:
            link = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                await self._loop.sock_connect(link, address)
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
                self._control(EPOLL_CTL_DEL, listener.fileno(), 0, 0)
            listener.close()
        self._listeners.clear()

    def _ready(self):
        """Something has happened on the sockets: handle it, up to a bound, so that the loop's others get their turn.

        What servers say is handled at once. Clients' sockets are handled for as long as this turn has time for them;
        the others come first in the next one. They stay readable, so that the loop calls this again.
        """
        cdef int count = epoll_wait(self._epoll, self._events, _EVENTS, 0)
        cdef int index
        cdef Wire wire
        cdef list late = self._late
        self._late = []
        self._turn_ends = _clock() + _TURN
        self._work = 0
        self._more = _CHUNKS_HURRIED
        self._busy = True
        try:
            for wire in late:
                if self._over():
                    self._late.append(wire)
                else:
                    self._handle(wire, wire._due)
            for index in range(count):
                found = self._wires.get(self._events[index].data.u64)
                if found is None:
                    # Closed meanwhile, or a listening socket.
                    listening = self._listeners.get(self._events[index].data.u64)
                    if listening is not None:
                        self._accept(listening)
                    continue
                wire = <Wire> found
                if not wire._client:
                    self._handle(wire, self._events[index].events)
                elif wire._due:
                    wire._due |= self._events[index].events
                elif self._over():
                    wire._due = self._events[index].events
                    self._late.append(wire)
                else:
                    self._handle(wire, self._events[index].events)
        finally:
            self._busy = False
            self._end()

    cdef bint _over(self) noexcept:
        """Whether clients' sockets have had the time that there is for them in this turn."""
        if self._work >= _LOOK and self._turn_ends:
            self._work = 0
            if _clock() >= self._turn_ends:
                self._turn_ends = 0
        return self._turn_ends == 0

    cdef int _handle(self, Wire wire, uint32_t events) except -1:
        self._work += _EVENT
        wire._due = 0
        try:
            if events & EPOLLOUT or (events & (EPOLLERR | EPOLLHUP) and not wire._reading):
                wire._send_kept()
            if events & (EPOLLIN | EPOLLERR | EPOLLHUP) and wire._reading:
                wire._read()
        except Exception as error:
            log.exception("a connection failed")
            wire._fail(error)
        return 0

    def _end(self):
        """Tell the protocols of connections that are closed now; where they are many, of some in each turn."""
        cdef int left = _LEFT_AT_ONCE
        self._told = False
        while self._ended and left:
            (<Wire> self._ended.popleft())._finish()
            left -= 1
        if self._ended:
            self._tell_soon()

    cdef object _tell_soon(self):
        """Have ``_end`` called in the next turn."""
        if not self._told:
            self._told = True
            self._loop.call_soon(self._end)

    cdef object _accept(self, tuple listening):
        listener, factory, tcp, turn_away = listening
        cdef int fd, failure
        cdef Wire wire
        cdef int door = listener.fileno()
        for _ in range(_ACCEPTS):
            fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
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
            wire = self._adopt(fd, tcp, factory(), True)
            if wire._ending:
                # Of those that are one too many only one has a descriptor at a time.
                self._ended.remove(wire)
                wire._finish()

    cdef Wire _adopt(self, int fd, bint tcp, protocol, bint client):
        """A connection stands on ``fd``, and is ``protocol``'s; ``client``: it was accepted."""
        cdef int one = 1
        cdef Wire wire = Wire.__new__(Wire)
        if tcp:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        self._numbered += 1
        wire._wires = self
        wire._number = self._numbered
        wire._fd = fd
        wire._client = client
        wire._reading = True
        wire._high = _HIGH
        self._wires[self._numbered] = wire
        try:
            self._control(EPOLL_CTL_ADD, fd, EPOLLIN, self._numbered)
            wire._mask = EPOLLIN
            wire.set_protocol(protocol)
            protocol.connection_made(wire)
        except Exception as error:
            log.exception("a connection could not be taken in")
            wire._fail(error)
        return wire

    def _rest(self, listener, reason):
        """No descriptors are left: try again in a while, not at once for ever."""
        log.error("can not accept connections reason=%r", reason)
        self._control(EPOLL_CTL_DEL, listener.fileno(), 0, 0)
        self._resting.add(listener)

        def again():
            self._resting.discard(listener)
            for number, (other, _, _, _) in self._listeners.items():
                if other is listener:
                    self._control(EPOLL_CTL_ADD, listener.fileno(), EPOLLIN, number)

        self._loop.call_later(_FULL_PAUSE, again)

    cdef int _control(self, int operation, int fd, uint32_t events, uint64_t number) except -1:
        cdef epoll_event event
        event.events = events
        event.data.u64 = number
        if epoll_ctl(self._epoll, operation, fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        return 0


cdef class Wire:
    """The transport of one connection."""

    cdef EpollWires _wires
    cdef uint64_t _number
    cdef int _fd
    cdef uint32_t _mask
    cdef object _protocol
    cdef Receiver _receiver
    cdef bint _client
    # Events of a turn that had no time for them.
    cdef uint32_t _due
    cdef bint _buffered
    cdef bint _plenty
    cdef bint _reading
    cdef bint _eof
    cdef bint _closing
    cdef bint _ending
    cdef bint _slow
    cdef bint _hurried
    cdef object _error
    # What could not be sent yet: bytes objects from ``_first`` on, of the first only what is behind ``_sent``. The last
    # ``_loose`` are small ones, which become one when they are many.
    cdef list _kept
    cdef Py_ssize_t _first
    cdef Py_ssize_t _loose
    cdef Py_ssize_t _sent
    cdef Py_ssize_t _kept_size
    cdef Py_ssize_t _high

    def __dealloc__(self):
        if self._fd >= 0 and self._wires is not None:
            c_close(self._fd)

    def __repr__(self):
        return f"Wire({self._number} fd={self._fd} closing={self._closing} unsent={self._kept_size})"

    # ---- reading

    cdef object _read(self):
        cdef ssize_t size
        cdef ssize_t most
        cdef Py_buffer room
        cdef PyObject* whole
        cdef bytes data
        cdef int chunks = _CHUNKS
        while chunks or (self._hurried and self._wires._more):
            if chunks:
                chunks -= 1
            else:
                self._wires._more -= 1
            if self._buffered:
                PyObject_GetBuffer(self._protocol.get_buffer(-1), &room, PyBUF_WRITABLE)
                try:
                    size = recv(self._fd, room.buf, room.len, 0)
                    if size > 0:
                        self._wires._work += size
                        self._protocol.buffer_updated(size)
                finally:
                    PyBuffer_Release(&room)
            else:
                if self._plenty:
                    # Straight into what is handed on, where the last ones were large; small ones are cheaper to copy.
                    most = _CHUNK
                    whole = new_bytes(NULL, _CHUNK)
                    if whole == NULL:
                        raise MemoryError
                    size = recv(self._fd, PyBytes_AS_STRING(<object> whole), _CHUNK, 0)
                    if size > 0:
                        resize_bytes(&whole, size)
                        data = <bytes> whole
                        Py_DECREF(data)
                    else:
                        # Freeing does not touch errno (POSIX 2024, glibc since 2.33).
                        Py_DECREF(<object> whole)
                else:
                    most = _FIRST if self._client else _CHUNK
                    size = recv(self._fd, self._wires._buffer, most, 0)
                    if size > 0:
                        data = PyBytes_FromStringAndSize(self._wires._buffer, size)
                if size > 0:
                    self._plenty = size >= _PLENTY
                    self._wires._work += size
                    if self._receiver is not None:
                        self._receiver.data_received(data)
                    else:
                        self._protocol.data_received(data)
                    if size < most:
                        return
            if size == 0:
                self._reading = False
                self._eof = True
                if not self._protocol.eof_received():
                    self.close()
                if not self._ending:
                    self._watch()
                return
            if size < 0:
                if errno != EAGAIN and errno != EINTR:
                    self._fail(OSError(errno, os.strerror(errno)))
                return
            if not self._reading:
                return

    def pause_reading(self):
        """Read no more until ``resume_reading``."""
        self._reading = False
        self._watch()

    def resume_reading(self):
        """Read again."""
        if not self._closing and not self._eof:
            self._reading = True
            self._watch()

    def hurry(self, bint on):
        """Read more in a turn, as somebody waits for what is behind a long reply; or no more than usual."""
        self._hurried = on

    cdef int _watch(self) except -1:
        """Have the events reported that matter now."""
        cdef uint32_t mask = 0
        if self._fd < 0:
            return 0
        if self._reading:
            mask |= EPOLLIN
        if self._kept_size:
            mask |= EPOLLOUT
        if mask == self._mask:
            return 0
        if not mask:
            self._wires._control(EPOLL_CTL_DEL, self._fd, 0, 0)
        elif not self._mask:
            self._wires._control(EPOLL_CTL_ADD, self._fd, mask, self._number)
        else:
            self._wires._control(EPOLL_CTL_MOD, self._fd, mask, self._number)
        self._mask = mask
        return 0

    def set_protocol(self, protocol):
        """``protocol`` gets what comes from now on: an ``asyncio.Protocol`` or an ``asyncio.BufferedProtocol``."""
        self._protocol = protocol
        self._receiver = protocol if isinstance(protocol, Receiver) else None
        self._buffered = self._receiver is None and hasattr(protocol, "get_buffer")

    # ---- writing

    def write(self, bytes data):
        """Send ``data``, now or as soon as it goes."""
        cdef ssize_t size = 0
        cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
        if self._ending or self._closing or not length:
            return
        if not self._kept_size:
            size = send(self._fd, PyBytes_AS_STRING(data), length, MSG_NOSIGNAL)
            if size == length:
                return
            if size < 0:
                if errno != EAGAIN and errno != EINTR:
                    self._fail(OSError(errno, os.strerror(errno)))
                    return
                size = 0
            self._keep_from(size)
        self._keep(data)
        self._kept_size -= size
        self._keep_on()

    def writelines(self, list pieces):
        """Send ``pieces``, now or as soon as they go."""
        cdef bint first = not self._kept_size
        cdef bytes piece
        if self._ending or self._closing:
            return
        if first:
            self._keep_from(0)
        for piece in pieces:
            if piece:
                self._keep(piece)
        if first:
            self._send_kept()
        if self._kept_size:
            self._keep_on()

    cdef int _keep_from(self, Py_ssize_t sent) except -1:
        """What comes is kept; of the first piece ``sent`` bytes have been sent."""
        self._kept = []
        self._first = 0
        self._loose = 0
        self._sent = sent
        return 0

    cdef int _keep(self, bytes data) except -1:
        """Keep one more piece."""
        cdef Py_ssize_t last
        self._kept.append(data)
        self._kept_size += PyBytes_GET_SIZE(data)
        if PyBytes_GET_SIZE(data) > _SMALL:
            self._loose = 0
            return 0
        self._loose += 1
        if self._loose == _TOGETHER:
            last = len(self._kept) - _TOGETHER
            if last > self._first:
                self._kept[last:] = [b"".join(self._kept[last:])]
            self._loose = 0
        return 0

    cdef object _keep_on(self):
        """Something is kept: send it when it goes, and have the protocol stop if it is much."""
        self._watch()
        if self._kept_size > self._high and not self._slow:
            self._slow = True
            self._protocol.pause_writing()

    cdef object _send_kept(self):
        """Send of what is kept as much as goes, up to a bound, so that others get their turn."""
        cdef iovec vectors[_VECTORS]
        cdef msghdr message
        cdef ssize_t size
        cdef Py_ssize_t at, index, length
        cdef int count
        cdef int sends = _SENDS
        cdef bytes piece
        while self._kept_size and self._fd >= 0 and sends:
            sends -= 1
            count = 0
            at = self._sent
            index = self._first
            length = len(self._kept)
            while index < length and count < _VECTORS:
                piece = <bytes> self._kept[index]
                vectors[count].iov_base = PyBytes_AS_STRING(piece) + at
                vectors[count].iov_len = PyBytes_GET_SIZE(piece) - at
                at = 0
                count += 1
                index += 1
            memset(&message, 0, sizeof(message))
            message.msg_iov = vectors
            message.msg_iovlen = count
            size = sendmsg(self._fd, &message, MSG_NOSIGNAL)
            if size < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    self._fail(OSError(errno, os.strerror(errno)))
                    return
                break
            self._kept_size -= size
            size += self._sent
            index = self._first
            while index < length:
                piece = <bytes> self._kept[index]
                if size < PyBytes_GET_SIZE(piece):
                    break
                size -= PyBytes_GET_SIZE(piece)
                self._kept[index] = None
                index += 1
            self._first = index
            self._sent = size
            if index > _VECTORS and index > length // 2:
                # So each piece is moved once, on the average.
                del self._kept[:index]
                self._first = 0
        if not self._kept_size:
            self._kept = None
            if self._closing:
                self._end()
                return
        self._watch()
        if self._slow and self._kept_size <= self._high // 4:
            self._slow = False
            self._protocol.resume_writing()

    def set_write_buffer_limits(self, high=None, low=None):
        """``pause_writing`` when more than ``high`` bytes are kept, ``resume_writing`` at a quarter of it."""
        self._high = _HIGH if high is None else high

    def get_write_buffer_size(self):
        """How many bytes are kept because they do not go yet."""
        return self._kept_size

    # ---- the end

    def is_closing(self):
        """Whether it is closed, or will be once everything is sent."""
        return self._closing

    def close(self):
        """Read no more, send what is kept, and close."""
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if self._kept_size:
            self._watch()
        else:
            self._end()

    def abort(self):
        """Close at once."""
        self._closing = True
        self._end()

    def _fail(self, error):
        if self._error is None:
            self._error = error
        self.abort()

    cdef object _end(self):
        """Nothing more is sent or read; the protocol is told at the end of this turn."""
        if self._ending:
            return
        self._ending = True
        self._reading = False
        self._kept = None
        self._kept_size = 0
        self._wires._ended.append(self)
        if not self._wires._busy:
            self._wires._tell_soon()

    cdef object _finish(self):
        cdef object protocol = self._protocol
        self._wires._wires.pop(self._number, None)
        c_close(self._fd)
        self._fd = -1
        self._protocol = None
        self._receiver = None
        if protocol is not None:
            try:
                protocol.connection_lost(self._error)
            except Exception:
                log.exception("a connection could not be let go")

    def fileno(self):
        """The socket's descriptor; -1 when it is closed."""
        return self._fd

    def get_extra_info(self, name, default=None):
        """``peername`` and ``sockname``, as the socket says."""
        if self._fd < 0 or name not in ("peername", "sockname"):
            return default
        link = socket.socket(fileno=self._fd)
        try:
            return link.getpeername() if name == "peername" else link.getsockname()
        except OSError:
            return default
        finally:
            link.detach()
