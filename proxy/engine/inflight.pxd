from cpython.ref cimport PyObject

from proxy.engine.sink cimport Sink


cdef struct Request:
    PyObject* sink
    Py_ssize_t token
    Py_ssize_t offset
    Py_ssize_t length
    double since


cdef struct Piece:
    PyObject* data
    Py_ssize_t left


cdef class InFlight:
    # A ring of requests: the written ones, then the unwritten ones.
    cdef Request* _requests
    cdef Py_ssize_t _head
    cdef Py_ssize_t _count
    cdef Py_ssize_t _mask
    # A ring of the pieces that the requests lie in, each with the number of its unanswered requests.
    cdef Piece* _pieces
    cdef Py_ssize_t _first
    cdef Py_ssize_t _held
    cdef Py_ssize_t _piece_mask
    cdef Py_ssize_t _unwritten_pieces
    # The bytes of the requests pushed since the last piece, which will be the next one.
    cdef char* _open
    cdef Py_ssize_t _open_size
    cdef Py_ssize_t _open_room
    cdef Py_ssize_t _open_count
    cdef readonly Py_ssize_t written
    cdef readonly Py_ssize_t unanswered

    cpdef object push(self, Sink sink, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end, double since)
    cpdef object write_to(self, object transport)
    cpdef object write_upto(self, object transport, Py_ssize_t most)
    cpdef double answer(self, bytes data, Py_ssize_t start, Py_ssize_t end) except? -1.0
    cdef Py_ssize_t _unsent_bytes(self)
    cdef int _grow(self) except -1
    cdef int _seal(self) except -1
    cdef int _add_piece(self, bytes piece, Py_ssize_t count) except -1
    cdef int _release_one(self) except -1
    cdef int _clear(self) except -1
