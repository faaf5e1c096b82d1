from proxy.transport.tls_output cimport TlsOutput


cdef class ClientTls(TlsOutput):
    cdef object _factory
    cdef bint _busy
    cdef object _early
    cdef bytes _given
    cdef Py_ssize_t _taken
    cdef bint _wanted

    cpdef object data_received(self, bytes data)
