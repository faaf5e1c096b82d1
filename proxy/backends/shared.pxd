import cython

from proxy.engine.inflight cimport InFlight
from proxy.backends.reconnecting cimport ReconnectingConnection
from proxy.engine.reply_reader cimport ReplyReader
from proxy.engine.sink cimport Sink
from proxy.planning.query_limit cimport QueryLimit

cdef bytes _MULTI


cdef class Backend(ReconnectingConnection):
    # for good
    cdef QueryLimit _query
    cdef bint _large
    # over connections
    cdef readonly InFlight inflight
    cdef readonly bint dirty
    cdef public int reconnects
    cdef ReplyReader _reader
    cdef dict _holders
    cdef readonly bint retired
    cdef object _lost_requests
    cdef object _errors
    cdef object _owner
    cdef bint _withheld
    cdef readonly bint left
    cdef double _used
    # of one connection
    cdef bint _paused
    cdef bint _full
    cdef bint _blocked
    cdef bint _rested
    cdef object _hurry
    cdef bint _hurried
    cdef double _heard
    cdef double _greeted

    cpdef object send(self, Sink sink, Py_ssize_t token, bytes frame, double since, object holder)
    cpdef object schedule(self, object holder)
    cpdef object flush(self)
    cdef Py_ssize_t _most(self) except -1

    @cython.locals(now=double)
    cpdef object data_received(self, bytes data)
