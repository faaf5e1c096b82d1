import cython

cdef int _READ_WHILE_BLOCKED
cdef int _NOT_READ_WHILE_BEHIND


cdef class Flow:
    cdef object _client
    cdef bint _ended
    cdef bint _indirect
    cdef set _held_by
    cdef object _timer
    cdef object _transport
    cdef readonly int reasons
    cdef readonly bint stopped
    cdef readonly bint behind
    cdef public bint lively
    cdef public object quota
    cdef bint _reads
    cdef readonly bint withheld

    cpdef object stop(self, int reason)
    cpdef object go(self, int reason)
    @cython.locals(exempt=int, reads=bint, direct=bint)
    cdef object _settle(self)
    cpdef object withhold(self, bint on)
