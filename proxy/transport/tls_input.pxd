import cython

from proxy.engine.receiver cimport Receiver

cdef Py_ssize_t _RECORD
cdef Py_ssize_t _FED
cdef Py_ssize_t _EMPTY_MOST
cdef Py_ssize_t _UNREAD_MOST


cdef class TlsInput(Receiver):
    cdef object _settings
    cdef object _raw
    cdef object _inner
    cdef Receiver _receiver
    cdef bint _buffered
    cdef bint _open
    cdef bint _closing
    cdef object _tls
    cdef object _incoming
    cdef object _outgoing
    cdef object _give
    cdef object _read
    cdef object _encrypt
    cdef object _take
    cdef object _send
    cdef bint _reading
    cdef object _later
    cdef bint _scheduled
    cdef bint _partial
    cdef Py_ssize_t _empty
    cdef bint _over
    cdef bint _ended

    cdef object received(self, bytes data)
    @cython.locals(piece=bytes, data=bytes, pieces=list, over=bint, most=Py_ssize_t)
    cdef object _decrypt(self, Py_ssize_t fed)
    cpdef object end_records(self)
    cpdef object close(self)
    cpdef object _fail(self, object error)
