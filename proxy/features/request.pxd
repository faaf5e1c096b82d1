from proxy.engine.sink cimport Sink
from proxy.engine.window cimport ReplyWindow
from proxy.metrics cimport CommandCounter


cdef class Request:
    cdef readonly object fact
    cdef readonly list args
    cdef readonly bytes frame
    cdef readonly double now


cdef class PendingReply:
    cdef ReplyWindow _window
    cdef CommandCounter _counter
    cdef bint _answered
    cdef readonly bint muted
    cdef public Sink sink
    cdef readonly Py_ssize_t token

    cpdef PendingReply reserve(self)
    cpdef object unmute(self)
    cpdef object answer(self, bytes reply)
