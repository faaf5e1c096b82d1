cdef class Request:
    cdef readonly object fact
    cdef readonly list args
    cdef readonly bytes frame
    cdef readonly double now
