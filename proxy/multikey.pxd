import cython

from proxy.colocation cimport Colocation
from proxy.resp.replies cimport ReplyFramer, elements, short_end
from proxy.scatter cimport Part
from proxy.slots cimport span_slot

cdef int _CR
cdef int _LF
cdef int _DOLLAR
cdef int _ZERO
cdef int _LONGEST_DIGITS
cdef tuple _COUNTS
cdef list _NOWHERE
cdef Py_ssize_t _LARGE


cdef class Cut:
    cdef readonly list parts
    cdef readonly Py_ssize_t end


@cython.locals(view="const unsigned char *", size=Py_ssize_t, length=Py_ssize_t, digits=int, digit=int)
cpdef Py_ssize_t skip_bulks(bytes data, Py_ssize_t at, Py_ssize_t count)


@cython.locals(found=Py_ssize_t, at=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t)
cpdef Py_ssize_t count_requests(bytes data) except -1


@cython.locals(view="const unsigned char *", at=Py_ssize_t, count=Py_ssize_t, digit=int)
cpdef Py_ssize_t count_of(bytes data, Py_ssize_t start, Py_ssize_t end)


@cython.locals(
    view="const unsigned char *", heading=bytes, groups=list, places=list, order=list, position=Py_ssize_t,
    begin=Py_ssize_t, start=Py_ssize_t, shard=Py_ssize_t, group=list, parts=list, arguments=Py_ssize_t,
    slot=Py_ssize_t, slots=dict, owners=list,
)
cpdef Cut cut(
    bytes data, Py_ssize_t name, Py_ssize_t at, Py_ssize_t count, Py_ssize_t step, tuple slot_shard, Py_ssize_t shards,
    bint by_slot, Colocation rules,
)


@cython.locals(
    found=list, values=list, placed=list, count=Py_ssize_t, position=Py_ssize_t, index=Py_ssize_t, at=Py_ssize_t,
    part=Part, reply=bytes, positions=list,
)
cpdef bytes merge_by_key(object parts, object replies)


cdef class Joined:
    cdef readonly list pieces
    cdef list _small
    cdef Py_ssize_t _size

    cpdef object add(self, bytes data)
    cpdef object seal(self)


cdef class Elements:
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t _at
    cdef ReplyFramer _framer
    cdef list _pieces
    cdef bytes _piece
    cdef Py_ssize_t _index

    @cython.locals(piece=bytes, end=Py_ssize_t)
    cpdef object move(self, Joined joined)
    cdef object _next(self, bytes begun)


@cython.locals(found=list, part=Part, order=list, index=Py_ssize_t, joined=Joined, each=Elements)
cpdef list merge_pieces_by_key(object parts, object replies)
