from libc.stdint cimport uint32_t, uint64_t

from proxy.engine.receiver cimport Receiver

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


cdef inline long long monotonic_ns() noexcept nogil:
    """The monotonic clock, in nanoseconds."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <long long> now.tv_sec * 1000000000 + now.tv_nsec


cdef class Poller:
    cdef object loop
    cdef int epoll
    # The transports by the numbers under which epoll reports their events.
    cdef dict transports
    # The transports whose `connection_lost` is still to be called.
    cdef object ended
    # Whether events are being handled: `end` follows at the end of the turn.
    cdef bint busy
    cdef bint _end_scheduled
    # The buffer of one read; the bytes passed on are copied from it.
    cdef char* buffer
    # How many bytes were handled since the clock was read.
    cdef Py_ssize_t work
    # How many pieces beyond the usual may still be read in this turn, from connections that are set to `hurry`.
    cdef int more

    cpdef object end(self)
    cdef object schedule_end(self)
    cdef int control(self, int operation, int fd, uint32_t events, uint64_t number) except -1


cdef class EpollTransport:
    cdef Poller poller
    cdef uint64_t number
    cdef int fd
    # The events that epoll reports for the socket.
    cdef uint32_t mask
    cdef bint client
    # The events of an earlier turn that had no time for them.
    cdef uint32_t due
    cdef bint reading
    cdef bint ending
    cdef object _protocol
    cdef Receiver _receiver
    cdef bint _buffered
    cdef bint _plenty
    cdef bint _eof
    cdef bint _closing
    cdef bint _slow
    cdef bint _hurried
    # Whether little is read in a turn, because the bytes take long; and whether they are known to take little time.
    cdef bint _narrow
    cdef bint _wide
    # Whether little is read for good, because the connection is one of messages.
    cdef bint _messages
    cdef object _error
    cdef dict _extra
    # The bytes that could not be sent yet: the pieces from `_first` on, the first of them from `_sent` on. The last
    # `_loose` pieces are small ones, which are joined when they are many.
    cdef list _kept
    cdef Py_ssize_t _first
    cdef Py_ssize_t _loose
    cdef Py_ssize_t _sent
    cdef Py_ssize_t _kept_size
    cdef Py_ssize_t _high

    cdef int take(self, Poller poller, uint64_t number, int fd, bint client) except -1
    cdef object read(self)
    cdef int _watch(self) except -1
    cdef int _keep_from(self, Py_ssize_t sent) except -1
    cdef int _keep(self, bytes data) except -1
    cdef object _keep_on(self)
    cdef object send_kept(self)
    cdef object fail(self, error)
    cdef object _end(self)
    cdef object finish(self)
