from proxy.backends.connection cimport ServerConnection
from proxy.transport.write_batch cimport Turn


cdef class ReconnectingConnection(ServerConnection):
    cdef Turn _turn
    cdef object _loop
    cdef object _gate
    cdef object _runner
    cdef bint _closing
    cdef double _down_since
    cdef str _reason
    cdef readonly object state
    cdef readonly bint ready
    cdef readonly str unfit
