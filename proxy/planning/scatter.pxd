cdef class Part:
    cdef readonly Py_ssize_t shard
    cdef readonly bytes frame
    cdef readonly list positions


cdef class Way:
    cdef readonly str name
    cdef readonly str merge
    cdef readonly Py_ssize_t shards
    cdef readonly bint read
    cdef readonly bint changes
    cdef readonly bint replicas
    cdef readonly Py_ssize_t tail
    cdef readonly bint cluster


cdef class Scatter:
    cdef readonly Way way
    cdef readonly object parts
    cdef readonly object options
