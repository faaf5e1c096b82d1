import cython

from proxy.backends.shared cimport Backend
from proxy.engine.sink cimport Sink
from proxy.engine.window cimport ReplyWindow
from proxy.metrics cimport CommandCounter, Counters
from proxy.planning.merge cimport merge
from proxy.backends.routes cimport Routes
from proxy.planning.scatter cimport Part, Scatter


cdef Py_ssize_t LONG


cdef class Gather(Sink):
    cdef object _context
    cdef object _slices
    cdef Counters _counters
    cdef Py_ssize_t _left
    cdef Scatter _plan
    cdef list _replies
    cdef Sink _sink
    cdef Py_ssize_t _token
    cdef Py_ssize_t _total
    cdef Py_ssize_t _most
    cdef dict _sizes
    cdef bint _in_pieces
    cdef bint _dropped

    @cython.locals(view="const char *")
    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef object deliver_pieces(self, Py_ssize_t token, list pieces)
    cpdef Py_ssize_t kept(self, Py_ssize_t token, Py_ssize_t size) except -1
    cdef object _merge(self)
    cdef object _drop(self)
    @cython.locals(counter=CommandCounter)
    cdef object _answer(self, bytes reply)
    cpdef bint accepts_stream(self, Py_ssize_t token) except -1
    cpdef object stream(self, Py_ssize_t token, bytes data, bint last)
    cpdef object abort_stream(self, Py_ssize_t token)


cdef class Muted(Sink):
    cdef ReplyWindow _window

    cpdef object deliver_pieces(self, Py_ssize_t token, list pieces)
    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef object stream(self, Py_ssize_t token, bytes data, bint last)
    cpdef object abort_stream(self, Py_ssize_t token)


cdef class Dispatcher:
    cdef object _context
    cdef Counters _counters
    cdef Py_ssize_t _max_reply
    cdef object _on_error
    cdef object _slices
    cdef object _wait

    cpdef Gather gather(self, Scatter plan, Sink sink, Py_ssize_t token)

    @cython.locals(backend=Backend, refusal=bytes)
    cpdef object send(
        self, Py_ssize_t shard, bint read, bytes frame, Routes routes, object holder, Sink sink, Py_ssize_t token,
        double now,
    )
    @cython.locals(gather=Gather, index=Py_ssize_t, part=Part, backend=Backend, down=bytes)
    cpdef object scatter(
        self, Scatter plan, Routes routes, object holder, Sink sink, Py_ssize_t token, double now,
    )
