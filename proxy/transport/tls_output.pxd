import cython

from proxy.transport.tls_input cimport TlsInput

cdef Py_ssize_t _RECORD
cdef int _CHUNK
cdef int _BURST


cdef class TlsOutput(TlsInput):
    cdef object _kept
    cdef Py_ssize_t _at
    cdef Py_ssize_t _kept_size
    cdef bint _held
    cdef bint _slow
    cdef Py_ssize_t _high

    @cython.locals(size=Py_ssize_t)
    cpdef object write(self, bytes data)
    @cython.locals(piece=bytes)
    cpdef object writelines(self, object pieces)
    cpdef object _go_on(self)
    @cython.locals(first=bytes, whole=bytes, piece=bytes, left=Py_ssize_t, at=Py_ssize_t, pieces=list)
    cdef object _next_record(self)
    @cython.locals(size=Py_ssize_t)
    cdef object _weigh(self)
    cpdef object _finish(self)
