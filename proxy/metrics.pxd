import cython

cdef int _FINE_PER_SECOND
cdef double _FINE_UPTO


cdef class CommandCounter:
    cdef readonly str name
    cdef public long long calls
    cdef public long long failed
    cdef public long long rejected


cdef class Counters:
    cdef readonly bint measure
    cdef public long long accepted
    cdef public long long bytes_in
    cdef public long long bytes_out
    cdef public dict commands
    cdef public long long crossslots
    cdef list _coarse
    cdef list _fine
    cdef public double latency_sum
    cdef public long long lease_refusals
    cdef public dict redirections
    cdef public dict refreshes
    cdef public double confirmed
    cdef public dict refused
    cdef public dict rejected
    cdef public dict stopped
    cdef public long long retries
    cdef public long long splits
    cdef public long long timeouts
    cdef public long long too_large
    cdef public long long uncertain

    @cython.locals(index=int)
    cpdef object observe(self, double seconds, long long count)
    cpdef CommandCounter command(self, str name)
