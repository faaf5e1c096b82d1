import cython

cdef int _STAR
cdef int _ANY
cdef int _OPEN
cdef int _CLOSE
cdef int _BACKSLASH
cdef int _NOT
cdef int _TO
cdef Py_ssize_t _MOST_STEPS


@cython.locals(
    view="const unsigned char *", other="const unsigned char *", size=Py_ssize_t, length=Py_ssize_t, steps=Py_ssize_t,
    at=Py_ssize_t, place=Py_ssize_t, star=Py_ssize_t, after=Py_ssize_t, following=Py_ssize_t, char=int, first=int,
)
cpdef bint matches(bytes pattern, bytes text) except -1


@cython.locals(
    view="const unsigned char *", size=Py_ssize_t, negated=bint, found=bint, first=int, last=int,
)
cdef Py_ssize_t _class(bytes pattern, Py_ssize_t at, int char)
