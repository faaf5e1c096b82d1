cdef class QueryLimit:
    cdef readonly Py_ssize_t limit
    cdef readonly Py_ssize_t large
    cdef readonly Py_ssize_t unanswered
