import cython

from proxy.engine.window cimport ReplyWindow

cdef Py_ssize_t _AT_LEAST
cdef Py_ssize_t _STREAM_FROM


cdef class Pacing:
    cdef readonly Py_ssize_t reply_size
    cdef Py_ssize_t _head_before
    cdef Py_ssize_t _written_before

    @cython.locals(size=Py_ssize_t, answered=Py_ssize_t)
    cpdef Py_ssize_t fit(self, ReplyWindow window, object limits, Py_ssize_t most) except -1
    cpdef Py_ssize_t expected(self, Py_ssize_t replies) except -1
