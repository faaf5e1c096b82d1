from cpython.ref cimport PyObject

from proxy.engine.sink cimport Sink


cdef class ReplyWindow(Sink):
    cdef readonly Py_ssize_t head
    cdef readonly Py_ssize_t issued
    cdef readonly Py_ssize_t parked_bytes
    cdef readonly Py_ssize_t written
    cdef readonly Py_ssize_t pushed
    cdef public object direct
    cdef public bint gathers
    cdef public object on_halt
    cdef object _wake
    cdef Py_ssize_t _limit
    cdef bint _closed
    cdef bint _streaming
    cdef bint _slow
    cdef object _resume
    # The output: pieces, and behind them the bytes that will be the next piece.
    cdef bint _ready
    cdef list _pieces
    cdef list _late
    cdef dict _keeping
    cdef Py_ssize_t _late_bytes
    cdef char* _open
    cdef Py_ssize_t _open_size
    cdef Py_ssize_t _open_room
    # The early replies: a ring of bytes objects, indexed by token.
    cdef PyObject** _parked
    cdef Py_ssize_t _parked_count
    cdef Py_ssize_t _mask

    cpdef Py_ssize_t reserve(self)
    cpdef object answer(self, bytes frame)
    cpdef object push(self, bytes frame)
    cpdef Py_ssize_t write_to(self, object transport) except -1
    cdef int _append(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    cdef int _extend(self, list pieces) except -1
    cdef int _seal(self) except -1
    cdef int _park(self, Py_ssize_t token, object reply) except -1
    cdef int _say_late(self) except -1
    cdef int _unpark(self) except -1
    cdef int _drop(self) except -1
