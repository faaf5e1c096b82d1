import cython

from proxy.engine.receiver cimport Receiver

cdef Py_ssize_t _RECORD
cdef Py_ssize_t _FED
cdef int _CHUNK
cdef int _BURST
cdef Py_ssize_t _EMPTY_MOST


cdef class ClientTls(Receiver):
    cdef object _settings
    cdef object _factory
    cdef object _raw
    cdef object _inner
    cdef Receiver _receiver
    cdef bint _buffered
    cdef object _tls
    cdef object _incoming
    cdef object _outgoing
    cdef object _give
    cdef object _read
    cdef object _encrypt
    cdef object _take
    cdef object _send
    cdef bint _open
    cdef bint _busy
    cdef object _early
    cdef bytes _given
    cdef bint _wanted
    cdef bint _reading
    cdef object _later
    cdef bint _partial
    cdef Py_ssize_t _empty
    cdef bint _over
    cdef object _kept
    cdef Py_ssize_t _at
    cdef Py_ssize_t _kept_size
    cdef bint _held
    cdef bint _slow
    cdef Py_ssize_t _high
    cdef bint _scheduled
    cdef bint _closing

    cpdef object data_received(self, bytes data)
    @cython.locals(piece=bytes, data=bytes, pieces=list, over=bint, most=Py_ssize_t)
    cdef object _decrypt(self, Py_ssize_t fed)
    @cython.locals(size=Py_ssize_t)
    cpdef object write(self, bytes data)
    @cython.locals(piece=bytes)
    cpdef object writelines(self, object pieces)
    @cython.locals(first=bytes, whole=bytes, piece=bytes, left=Py_ssize_t, at=Py_ssize_t, pieces=list)
    cdef object _next_record(self)
    @cython.locals(size=Py_ssize_t)
    cdef object _weigh(self)
