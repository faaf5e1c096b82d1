import cython

from proxy.sharding.slots cimport span_slot as plain_slot
from proxy.sharding.slots cimport whole_slot


cdef class Rule:
    cdef readonly bytes prefix
    cdef readonly int slot
    cdef readonly int fields
    cdef readonly int separator
    cdef readonly bint tags


cdef class Colocation:
    cdef list _rules

    cpdef int slot(self, bytes key)

    @cython.locals(
        found=Rule, rule=Rule, view="const unsigned char *", opened=Py_ssize_t, at=Py_ssize_t, left=int,
    )
    cpdef int span_slot(self, bytes data, Py_ssize_t start, Py_ssize_t stop)


cdef class AllowedKeys(Colocation):
    cdef Colocation _inner
    cdef list _prefixes
    cdef bytes _latest
    cdef set _exact

    @cython.locals(allowed=bint, prefix=bytes, latest=bytes, inner=Colocation)
    cpdef int span_slot(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
