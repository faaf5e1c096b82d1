import cython

from proxy.engine.inflight cimport InFlight
from proxy.metrics cimport Counters
from proxy.resp.replies cimport ReplyFramer, short_end

cdef int _ERROR
cdef int _PUSH


cdef class ReplyReader:
    cdef InFlight _inflight
    cdef Counters _counters
    cdef object _on_error
    cdef object _on_push
    cdef ReplyFramer _framer
    cdef object _kept
    cdef bint _long
    cdef object _stream
    cdef list _pieces
    cdef Py_ssize_t _size
    cdef bytes _tail
    cdef Py_ssize_t _most
    cdef object _on_large

    @cython.locals(
        inflight=InFlight, view="const unsigned char *", size=Py_ssize_t, pos=Py_ssize_t, end=Py_ssize_t, kind=int,
        since=double, came=double, run=Py_ssize_t, measure=bint,
    )
    cpdef object feed(self, bytes data, double now)
