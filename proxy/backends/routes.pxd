cdef class Routes:
    cdef readonly object key
    cdef object _fitness
    cdef object _pool
    cdef object _topology
    cdef readonly tuple slot_shard
    cdef readonly list primaries
    cdef readonly list writers
    cdef readonly list readers
