from proxy.engine.receiver cimport Receiver


cdef class Backoff:
    cdef double _shortest
    cdef double _longest
    cdef double _next


cdef class ServerConnection(Receiver):
    cdef readonly object place
    cdef object _settings
    cdef object _transport
    cdef object _greeting
    cdef object _lost
