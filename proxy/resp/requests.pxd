import cython

cdef int _CR
cdef int _LF
cdef int _STAR
cdef int _DOLLAR
cdef int _ZERO
cdef int _NINE
cdef int _SHORTEST


cdef class RequestFramer:
    cdef Py_ssize_t _most_arguments
    cdef Py_ssize_t _most_bulk
    cdef Py_ssize_t _most_inline
    cdef Py_ssize_t _most_request
    cdef Py_ssize_t _strict_arguments
    cdef Py_ssize_t _strict_bulk
    cdef bint _authenticated
    cdef Py_ssize_t _at
    cdef Py_ssize_t _left
    cdef readonly Py_ssize_t need
    cdef readonly bint last
    cdef readonly bint inline
    cdef readonly bint empty
    cdef readonly bint ragged

    cpdef object set_authenticated(self, bint authenticated)
    @cython.locals(
        view="const unsigned char *", size=Py_ssize_t, at=Py_ssize_t, left=Py_ssize_t, after=Py_ssize_t,
        end=Py_ssize_t, length=Py_ssize_t, first=int, second=int,
    )
    cpdef Py_ssize_t frame(self, object data, Py_ssize_t start) except -2
    @cython.locals(end=Py_ssize_t)
    cdef Py_ssize_t _inline(self, object data, Py_ssize_t start, Py_ssize_t at) except -2
    cdef Py_ssize_t _more(self, Py_ssize_t at, Py_ssize_t left, Py_ssize_t need)
    cdef Py_ssize_t _done(self, Py_ssize_t end)


@cython.locals(
    view="const unsigned char *", size=Py_ssize_t, count=Py_ssize_t, at=Py_ssize_t, length=Py_ssize_t, start=Py_ssize_t,
    args=list,
)
cpdef list split_short(bytes frame)
