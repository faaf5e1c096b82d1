import cython

from proxy.engine.sink cimport ForwardingSink, Sink
from proxy.engine.window cimport ReplyWindow
from proxy.transport.write_batch cimport Turn


cdef class Written(Sink):
    cdef ReplyWindow _window
    cdef Turn _turn
    cdef double _seconds
    cdef readonly Py_ssize_t unanswered
    cdef readonly double until

    cpdef object answered(self)
    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef object deliver_pieces(self, Py_ssize_t token, list pieces)
    cpdef bint accepts_stream(self, Py_ssize_t token) except -1
    cpdef object stream(self, Py_ssize_t token, bytes data, bint last)
    cpdef bint holds_back(self, object resume) except -1
    cpdef object abort_stream(self, Py_ssize_t token)


cdef class Relay(ForwardingSink):
    cdef list _written

    @cython.locals(written=Written)
    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(written=Written)
    cpdef object deliver_pieces(self, Py_ssize_t token, list pieces)
    cpdef Py_ssize_t kept(self, Py_ssize_t token, Py_ssize_t size) except -1
    cpdef bint accepts_stream(self, Py_ssize_t token) except -1
    cpdef object stream(self, Py_ssize_t token, bytes data, bint last)
    cpdef object abort_stream(self, Py_ssize_t token)


cdef class OwnWrites:
    cdef ReplyWindow _window
    cdef Turn _turn
    cdef double _seconds
    cdef tuple _slot_shard
    cdef list _shards
    cdef list _earlier

    @cython.locals(written=Written)
    cpdef bint lately(self, Py_ssize_t shard, tuple slot_shard, double now) except -1
    @cython.locals(written=Written)
    cpdef Sink sink(self, Py_ssize_t shard, tuple slot_shard)
    @cython.locals(written=Written)
    cpdef Sink relay(self, object shards, tuple slot_shard, Sink sink)
    cdef Written _written(self, Py_ssize_t shard, tuple slot_shard)
    cdef object _renumber(self, tuple slot_shard)
