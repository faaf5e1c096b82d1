cdef class SharedCounts:
    cdef object _cells
    cdef readonly Py_ssize_t workers
    cdef Py_ssize_t _listeners
    cdef readonly Py_ssize_t index

    cpdef Py_ssize_t next_number(self) except -1
    cpdef Py_ssize_t rank(self, Py_ssize_t number) except -1
    cpdef object connected(self, Py_ssize_t count)
    cpdef Py_ssize_t total(self) except -1
