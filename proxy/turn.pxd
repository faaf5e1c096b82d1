from proxy.clock cimport Clock


cdef class Turn:
    cdef readonly Clock clock
    cdef object _loop
    cdef double _now
    cdef list _items

    cpdef double now(self) except? -1.0
    cpdef object add(self, object item)
