import cython

from proxy.engine.window cimport ReplyWindow
from proxy.resp.requests cimport RequestFramer


cdef class KeptInput:
    cdef readonly object data
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t first

    cpdef Py_ssize_t size(self) except -1
    cpdef bint grows(self) except -1
    cpdef object add(self, bytes data)
    cpdef object put_before(self, bytes request)
    cdef object _make_room(self, bytes begun)
    @cython.locals(size=Py_ssize_t, end=Py_ssize_t, taken=Py_ssize_t)
    cpdef bytes next_piece(self, RequestFramer framer, Py_ssize_t large)
    cpdef object drop(self, Py_ssize_t size)


cdef class SentBytes:
    cdef Py_ssize_t _newer
    cdef Py_ssize_t _older
    cdef Py_ssize_t _until

    cpdef object add(self, Py_ssize_t size, ReplyWindow window)
    cpdef Py_ssize_t size(self, ReplyWindow window) except -1
    cdef object _settle(self, ReplyWindow window)
