cdef class Sink:
    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef object deliver_pieces(self, Py_ssize_t token, list pieces)
    cpdef Py_ssize_t kept(self, Py_ssize_t token, Py_ssize_t size) except -1
    cpdef bint accepts_stream(self, Py_ssize_t token) except -1
    cpdef object stream(self, Py_ssize_t token, bytes data, bint last)
    cpdef bint holds_back(self, object resume) except -1
    cpdef object abort_stream(self, Py_ssize_t token)


cdef class ForwardingSink(Sink):
    cdef readonly Sink sink

    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef object forward(self, Py_ssize_t token, bytes reply)
    cpdef Py_ssize_t kept(self, Py_ssize_t token, Py_ssize_t size) except -1
    cpdef bint accepts_stream(self, Py_ssize_t token) except -1
    cpdef object stream(self, Py_ssize_t token, bytes data, bint last)
    cpdef bint holds_back(self, object resume) except -1
    cpdef object abort_stream(self, Py_ssize_t token)


cdef class WholeReplySink(Sink):
    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end)
    cpdef bint accepts_stream(self, Py_ssize_t token) except -1
    cpdef object take(self, Py_ssize_t token, bytes reply)
