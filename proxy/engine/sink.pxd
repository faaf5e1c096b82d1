cdef class Sink:
    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef bint accepts_stream(self, Py_ssize_t token) except -1
    cpdef object stream(self, Py_ssize_t token, bytes data, bint last)
    cpdef bint holds_back(self, object resume) except -1
    cpdef object abort_stream(self, Py_ssize_t token)
