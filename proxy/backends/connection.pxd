from proxy.engine.receiver cimport Receiver


cdef class Backoff:
    cdef double _shortest
    cdef double _longest
    cdef double _next


cdef class ServerConnection(Receiver):
    cdef readonly object place
    cdef public object _settings
    cdef public object _transport
    cdef public object _greeting
    cdef public object _lost
