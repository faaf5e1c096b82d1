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


cdef class Poller:
    cdef object loop
    cdef int epoll
    # The transports by the numbers that epoll knows them by.
    cdef dict transports
    # Transports whose protocols have yet to be told that the connection is closed.
    cdef object ended
    # Whether events are being handled: `end` follows at the end of the turn.
    cdef bint busy
    cdef bint _end_scheduled
    # Room for one read. What is handed on is copied from it.
    cdef char* buffer
    # What has been handled since the clock was last read, in bytes.
    cdef Py_ssize_t work
    # How many pieces are read in this turn beyond the usual, of those behind which somebody waits.
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
    # Events of a turn that had no time for them.
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
    cdef object _error
    # What could not be sent yet: bytes objects from `_first` on, of the first only what is behind `_sent`. The last
    # `_loose` are small ones, which become one when they are many.
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
