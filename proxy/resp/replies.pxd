import cython

cdef int _CR
cdef int _LF
cdef int _ZERO
cdef int _ONE
cdef int _NINE
cdef int _DOLLAR
cdef int _STAR
cdef int _LONGEST
cdef int _PLUS
cdef int _COLON
cdef int _UNDERSCORE
cdef int _HASH
cdef int _MINUS


@cython.locals(view="const unsigned char *", size=Py_ssize_t, first=int, second=int, third=int, null=bint)
cpdef Py_ssize_t short_end(bytes data, Py_ssize_t at)


cdef class ReplyFramer:
    cdef Py_ssize_t _at
    cdef Py_ssize_t _left
    cdef Py_ssize_t _searched
    cdef bint _cut
    cdef bint _in_line
    cdef readonly Py_ssize_t need
    cdef readonly bint whole

    @cython.locals(
        view="const unsigned char *", size=Py_ssize_t, at=Py_ssize_t, left=Py_ssize_t, after=Py_ssize_t,
        end=Py_ssize_t, length=Py_ssize_t, count=Py_ssize_t, kind=int, most=Py_ssize_t,
    )
    cpdef Py_ssize_t frame(self, object data, Py_ssize_t start) except -2
    @cython.locals(size=Py_ssize_t, end=Py_ssize_t)
    cpdef Py_ssize_t through(self, bytes data, Py_ssize_t start) except -1
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t)
    cdef Py_ssize_t _within(self, bytes data, Py_ssize_t start) except -1
    cpdef object reset(self)
    cdef Py_ssize_t _more(self, Py_ssize_t at, Py_ssize_t left, Py_ssize_t need)


@cython.locals(size=Py_ssize_t)
cdef Py_ssize_t _line_so_far(bytes data) except -1


cdef Py_ssize_t _length(object data, Py_ssize_t at, Py_ssize_t end) except -2


@cython.locals(framer=ReplyFramer, at=Py_ssize_t, after=Py_ssize_t, count=Py_ssize_t, found=list, view="const unsigned char *")
cpdef list elements(bytes frame)


@cython.locals(framer=ReplyFramer, after=Py_ssize_t, found=list, view="const unsigned char *")
cpdef tuple some_elements(bytes frame, Py_ssize_t at, Py_ssize_t count)
