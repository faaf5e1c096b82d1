import cython

from proxy.planning.scatter cimport Part
from proxy.planning.split cimport array_header
from proxy.resp.replies cimport ReplyFramer, elements, short_end, some_elements

cdef Py_ssize_t _LARGE


@cython.locals(at=Py_ssize_t)
cpdef object place(list placed, list positions, Py_ssize_t begin, list values)


@cython.locals(
    found=list, values=list, placed=list, count=Py_ssize_t, position=Py_ssize_t, index=Py_ssize_t, at=Py_ssize_t,
    part=Part, reply=bytes, positions=list,
)
cpdef bytes merge_by_key(object parts, object replies)


cdef class JoinedPieces:
    cdef readonly list pieces
    cdef list _small
    cdef Py_ssize_t _size

    cpdef object add(self, bytes data)
    cpdef object seal(self)


cdef class ElementReader:
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t _at
    cdef ReplyFramer _framer
    cdef list _pieces
    cdef bytes _piece
    cdef Py_ssize_t _index

    @cython.locals(piece=bytes, end=Py_ssize_t)
    cpdef object move(self, JoinedPieces joined)
    cdef object _next(self, bytes begun)
