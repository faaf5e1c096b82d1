from proxy.transport.clock cimport Clock

cdef int _LOOK
cdef int _SHARE_LOOKS
cdef double _SHARE
cdef int _TURN_LOOKS
cdef double _TURN


cdef class Turn:
    cdef readonly Clock clock
    cdef object _loop
    cdef double _now
    cdef list _items
    cdef object _waiting
    cdef bint _armed
    cdef bint _opened
    cdef bint _spent
    cdef double _turn_ends
    cdef int _looks
    cdef double _share_ends
    cdef int _share_looks
    cdef public Py_ssize_t credit

    cpdef double now(self) except? -1.0
    cpdef object add(self, object item)
    cpdef double share(self) except? -2.0
    cpdef bint over(self) except -1
    cpdef object wait(self, object client)
    cdef object _arm(self)
    cdef object _open(self)
    cdef object _go_on(self)
    cdef object _flush(self)
    cdef double _look(self) except? -1.0
