import cython


cdef class Rule:
    cdef readonly bytes prefix
    cdef readonly int slot
    cdef readonly int fields
    cdef readonly int separator


cdef class Colocation:
    cdef list _rules

    cpdef int slot(self, bytes key)

    @cython.locals(
        found=Rule, rule=Rule, view="const unsigned char *", opened=Py_ssize_t, at=Py_ssize_t, left=int,
    )
    cpdef int span_slot(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
