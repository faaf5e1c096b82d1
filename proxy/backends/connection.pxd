from proxy.engine.receiver cimport Receiver


cdef class ServerConnection(Receiver):
    cdef readonly object place
    cdef public object _settings
    cdef public object _transport
    cdef public object _greeting
    cdef public object _lost
