"""The transport of one connection over epoll, and the epoll descriptor that all transports of a worker share.

An ``EpollTransport`` has the methods of ``asyncio.Transport`` that the proxy uses, with the same semantics
(https://docs.python.org/3/library/asyncio-protocol.html), and serves an ``asyncio.BufferedProtocol`` too. Data is sent
when it is written; what the socket does not take is kept and sent when the socket is writable.

The ``Poller`` is the base class of ``EpollTransports`` (epoll.pyx), which listens, connects, and calls the transports
when epoll reports events; the transports know the base class only.
"""

import logging
import os
import socket
from collections import deque

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from proxy.engine.receiver cimport Receiver

cdef extern from * nogil:
    """
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <unistd.h>
    """
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    int MSG_NOSIGNAL
    ssize_t recv(int fd, void* buffer, size_t size, int flags)
    ssize_t send(int fd, const void* buffer, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    int c_close "close"(int fd)

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(char* data, Py_ssize_t size)
    int resize_bytes "_PyBytes_Resize"(PyObject** data, Py_ssize_t size) except -1

log = logging.getLogger(__name__)

cdef enum:
    _CHUNK = 256 * 1024
    _CHUNKS = 4
    _FIRST = 64 * 1024  # bytes of a read before a connection has sent large pieces, or if its bytes take long
    _LONG = 4000000  # nanoseconds that a piece of many small replies or messages may take without being narrowed
    _PLENTY = 64 * 1024
    _VECTORS = 64
    _SENDS = 8
    _SMALL = 1024
    _TOGETHER = 256
    _LEFT_AT_ONCE = 64
    _HIGH = 64 * 1024


cdef class Poller:
    """An epoll descriptor, and what its transports share. It is created inside the loop that they run in."""

    def __cinit__(self, loop):
        self.loop = loop
        self.transports, self.ended = {}, deque()
        self.epoll = -1
        self.buffer = <char*> PyMem_Malloc(_CHUNK)
        if self.buffer == NULL:
            raise MemoryError
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        if self.epoll >= 0:
            c_close(self.epoll)

    cpdef object end(self):
        """Call ``connection_lost`` of closed connections; of many connections, some in each turn."""
        cdef int left = _LEFT_AT_ONCE
        self._end_scheduled = False
        while self.ended and left:
            (<EpollTransport> self.ended.popleft()).finish()
            left -= 1
        if self.ended:
            self.schedule_end()

    cdef object schedule_end(self):
        """Schedule ``end`` for the next turn."""
        if not self._end_scheduled:
            self._end_scheduled = True
            self.loop.call_soon(self.end)

    cdef int control(self, int operation, int fd, uint32_t events, uint64_t number) except -1:
        """Change the events that epoll reports for ``fd``, and the number that they carry. Raises ``OSError``."""
        cdef epoll_event event
        event.events = events
        event.data.u64 = number
        if epoll_ctl(self.epoll, operation, fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        return 0


cdef class EpollTransport:
    """The transport of one connection."""

    def __dealloc__(self):
        if self.fd >= 0 and self.poller is not None:
            c_close(self.fd)

    cdef int take(self, Poller poller, uint64_t number, int fd, bint client) except -1:
        """Serve the socket ``fd``, whose ``poller`` calls it ``number``; ``client`` says that it was accepted."""
        self.poller = poller
        self.number = number
        self.fd = fd
        self.client = client
        self.reading = True
        self._high = _HIGH
        poller.transports[number] = self
        return 0

    def __repr__(self):
        return f"EpollTransport({self.number} fd={self.fd} closing={self._closing} unsent={self._kept_size})"

    # ---- reading

    cdef object read(self):
        cdef ssize_t size, most
        cdef Py_buffer room
        cdef PyObject* whole
        cdef bytes data
        cdef long long begun
        cdef int chunks = _CHUNKS
        while chunks or (self._hurried and self.poller.more):
            if chunks:
                chunks -= 1
            else:
                self.poller.more -= 1
            if self._buffered:
                PyObject_GetBuffer(self._protocol.get_buffer(-1), &room, PyBUF_WRITABLE)
                try:
                    size = recv(self.fd, room.buf, room.len, 0)
                    if size > 0:
                        self.poller.work += size
                        self._protocol.buffer_updated(size)
                finally:
                    PyBuffer_Release(&room)
            else:
                if self._plenty and not self._narrow:
                    # After large reads the next one goes into the bytes object itself; small ones are cheaper to copy.
                    most = _CHUNK
                    whole = new_bytes(NULL, _CHUNK)
                    if whole == NULL:
                        raise MemoryError
                    size = recv(self.fd, PyBytes_AS_STRING(<object> whole), _CHUNK, 0)
                    if size > 0:
                        resize_bytes(&whole, size)
                        data = <bytes> whole
                        Py_DECREF(data)
                    else:
                        # Freeing does not touch errno (POSIX 2024, glibc since 2.33).
                        Py_DECREF(<object> whole)
                else:
                    most = _CHUNK if self._wide and not self.client and not self._narrow else _FIRST
                    size = recv(self.fd, self.poller.buffer, most, 0)
                    if size > 0:
                        data = PyBytes_FromStringAndSize(self.poller.buffer, size)
                if size > 0:
                    self._plenty = size >= _PLENTY
                    self.poller.work += size
                    begun = monotonic_ns() if size >= _PLENTY else 0
                    if self._receiver is not None:
                        self._receiver.data_received(data)
                    else:
                        self._protocol.data_received(data)
                    if begun:
                        begun = monotonic_ns() - begun
                        self._narrow = self._messages or begun > (_LONG if not self._narrow else _LONG // 4)
                        self._wide = begun < _LONG // 4
                    if size < most or self._narrow:
                        return
            if size == 0:
                self.reading = False
                self._eof = True
                if not self._protocol.eof_received():
                    self.close()
                if not self.ending:
                    self._watch()
                return
            if size < 0:
                if errno != EAGAIN and errno != EINTR:
                    self.fail(OSError(errno, os.strerror(errno)))
                return
            if not self.reading:
                return

    def pause_reading(self):
        """Stop reading until ``resume_reading``."""
        self.reading = False
        self._watch()

    def resume_reading(self):
        """Read again."""
        if not self._closing and not self._eof:
            self.reading = True
            self._watch()

    def narrow(self):
        """Read little in a turn from now on: each message of the connection takes long to pass on."""
        self._narrow = self._messages = True

    def hurry(self, bint on):
        """Set whether more than usual is read in a turn, because a client waits for a reply behind a long one."""
        self._hurried = on

    cdef int _watch(self) except -1:
        """Tell epoll which events to report in the present state."""
        cdef uint32_t mask = 0
        if self.fd < 0:
            return 0
        mask = (EPOLLIN if self.reading else 0) | (EPOLLOUT if self._kept_size else 0)
        if mask == self.mask:
            return 0
        if not mask:
            self.poller.control(EPOLL_CTL_DEL, self.fd, 0, 0)
        elif not self.mask:
            self.poller.control(EPOLL_CTL_ADD, self.fd, mask, self.number)
        else:
            self.poller.control(EPOLL_CTL_MOD, self.fd, mask, self.number)
        self.mask = mask
        return 0

    def set_protocol(self, protocol):
        """Give received data to ``protocol``, an ``asyncio.Protocol`` or ``asyncio.BufferedProtocol``, from now on."""
        self._protocol = protocol
        self._receiver = protocol if isinstance(protocol, Receiver) else None
        self._buffered = self._receiver is None and hasattr(protocol, "get_buffer")

    # ---- writing

    def write(self, bytes data):
        """Send ``data``, now or as soon as the socket takes it."""
        cdef ssize_t size = 0
        cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
        if self.ending or self._closing or not length:
            return
        if not self._kept_size:
            size = send(self.fd, PyBytes_AS_STRING(data), length, MSG_NOSIGNAL)
            if size == length:
                return
            if size < 0:
                if errno != EAGAIN and errno != EINTR:
                    self.fail(OSError(errno, os.strerror(errno)))
                    return
                size = 0
            self._keep_from(size)
        self._keep(data)
        self._kept_size -= size
        self._keep_on()

    def writelines(self, list pieces):
        """Send ``pieces``, now or as soon as the socket takes them."""
        cdef bint first = not self._kept_size
        cdef bytes piece
        if self.ending or self._closing:
            return
        if first:
            self._keep_from(0)
        for piece in pieces:
            if piece:
                self._keep(piece)
        if first:
            self.send_kept()
        if self._kept_size:
            self._keep_on()

    cdef int _keep_from(self, Py_ssize_t sent) except -1:
        """Prepare to keep pieces, of the first of which ``sent`` bytes have been sent."""
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
        """Wait until the socket is writable, and call ``pause_writing`` if many bytes are kept."""
        self._watch()
        if self._kept_size > self._high and not self._slow:
            self._slow = True
            self._protocol.pause_writing()

    cdef object send_kept(self):
        """Send as many kept bytes as the socket takes, up to a bound, so that other connections get their turn."""
        cdef iovec vectors[_VECTORS]
        cdef msghdr message
        cdef ssize_t size
        cdef Py_ssize_t at, index, length
        cdef int count
        cdef int sends = _SENDS
        cdef bytes piece
        while self._kept_size and self.fd >= 0 and sends:
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
            size = sendmsg(self.fd, &message, MSG_NOSIGNAL)
            if size < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    self.fail(OSError(errno, os.strerror(errno)))
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
                # At this size of the sent part, each piece is moved once on average.
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
        """Call ``pause_writing`` when more than ``high`` bytes are kept, and ``resume_writing`` at a quarter of it."""
        self._high = _HIGH if high is None else high

    def get_write_buffer_size(self):
        """How many bytes are kept because the socket does not take them yet."""
        return self._kept_size

    # ---- the end

    def is_closing(self):
        """Whether the connection is closed, or will be once the kept bytes are sent."""
        return self._closing

    def close(self):
        """Stop reading, send the kept bytes, and close the connection."""
        if self._closing:
            return
        self._closing = True
        self.reading = False
        if self._kept_size:
            self._watch()
        else:
            self._end()

    def abort(self):
        """Close the connection at once; kept bytes are lost."""
        self._closing = True
        self._end()

    cdef object fail(self, error):
        if self._error is None:
            self._error = error
        self.abort()

    cdef object _end(self):
        """Stop reading and sending; ``connection_lost`` is called at the end of this turn."""
        if self.ending:
            return
        self.ending = True
        self.reading = False
        self._kept, self._kept_size = None, 0
        self.poller.ended.append(self)
        if not self.poller.busy:
            self.poller.schedule_end()

    cdef object finish(self):
        cdef object protocol = self._protocol
        self.poller.transports.pop(self.number, None)
        c_close(self.fd)
        self.fd = -1
        self._protocol = self._receiver = None
        if protocol is not None:
            try:
                protocol.connection_lost(self._error)
            except Exception:
                log.exception("the cleanup of a closed connection failed")

    def fileno(self):
        """The socket's descriptor; -1 when it is closed."""
        return self.fd

    def set_extra_info(self, dict extra):
        """Have ``get_extra_info`` return what is in ``extra``, such as the addresses that a balancer tells."""
        self._extra = extra

    def get_extra_info(self, name, default=None):
        """What ``set_extra_info`` has set; else the socket's ``peername`` or ``sockname``, or ``default``."""
        if self._extra is not None and name in self._extra:
            return self._extra[name]
        if self.fd < 0 or name not in ("peername", "sockname"):
            return default
        link = socket.socket(fileno=self.fd)
        try:
            return link.getpeername() if name == "peername" else link.getsockname()
        except OSError:
            return default
        finally:
            link.detach()
