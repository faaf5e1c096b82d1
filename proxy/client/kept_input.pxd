import cython

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
