cdef int _BLOCKED


cdef class Flow:
    cdef object _client
    cdef bint _ended
    cdef set _held_by
    cdef object _timer
    cdef object _transport
    cdef readonly int reasons
    cdef readonly bint stopped

    cpdef object stop(self, int reason)
    cpdef object go(self, int reason)
