from proxy.client.client cimport Client
from proxy.client.kept_input cimport KeptInput, SentBytes
from proxy.client.pacing cimport Pacing
from proxy.engine.window cimport ReplyWindow


cdef class HoldingClient(Client):
    cdef KeptInput _kept
    cdef object _landing
    cdef SentBytes _sent

    cpdef object hold_nothing(self)
    cpdef object count_sent(self, Py_ssize_t size)
