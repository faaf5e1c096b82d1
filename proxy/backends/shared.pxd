import cython

from proxy.engine.inflight cimport InFlight
from proxy.backends.connection cimport ServerConnection
from proxy.engine.reply_reader cimport ReplyReader
from proxy.engine.sink cimport Sink
from proxy.planning.query_limit cimport QueryLimit
from proxy.transport.write_batch cimport Turn

cdef bytes _MULTI


cdef class Backend(ServerConnection):
    # for good
    cdef QueryLimit _query
    cdef bint _large
    cdef Turn _turn
    cdef object _loop
    # over connections
    cdef readonly object state
    cdef readonly bint ready
    cdef readonly InFlight inflight
    cdef readonly bint dirty
    cdef public int reconnects
    cdef ReplyReader _reader
    cdef dict _holders
    cdef double _down_since
    cdef str _reason
    cdef object _runner
    cdef bint _closing
    cdef readonly bint retired
    cdef object _lost_requests
    cdef object _owner
    cdef bint _withheld
    cdef readonly bint left
    cdef object _gate
    cdef double _used
    cdef readonly str unfit
    # of one connection
    cdef bint _paused
    cdef bint _full
    cdef bint _blocked
    cdef bint _rested
    cdef object _hurry
    cdef bint _hurried
    cdef double _heard
    cdef double _greeted
    cdef bytes _rejected

    cpdef object send(self, Sink sink, Py_ssize_t token, bytes frame, double since, object holder)
    cpdef object schedule(self, object holder)
    cpdef object flush(self)
    cdef Py_ssize_t _most(self) except -1

    @cython.locals(now=double)
    cpdef object data_received(self, bytes data)
