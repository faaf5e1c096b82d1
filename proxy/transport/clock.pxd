cdef class Clock:
    cdef readonly object loop
    cdef readonly double settled
    cdef public double read
    cdef readonly object source
    cdef double _skipped
    cdef double _new
    cdef double _most
    cdef object _timer

    cpdef double now(self) except? -1.0
