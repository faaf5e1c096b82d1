import cython

from proxy.sharding.colocation cimport Colocation
from proxy.planning.scatter cimport Part
from proxy.sharding.slots cimport span_slot

cdef int _CR
cdef int _LF
cdef int _DOLLAR
cdef int _ZERO
cdef int _LONGEST_DIGITS
cdef tuple _COUNTS
cdef list _NOWHERE


cdef class Cut:
    cdef readonly list parts
    cdef readonly Py_ssize_t end


cpdef bytes array_header(Py_ssize_t count)


@cython.locals(view="const unsigned char *", size=Py_ssize_t, length=Py_ssize_t, digits=int, digit=int)
cpdef Py_ssize_t skip_bulks(bytes data, Py_ssize_t at, Py_ssize_t count)


@cython.locals(
    view="const unsigned char *", found=Py_ssize_t, at=Py_ssize_t, size=Py_ssize_t, count=Py_ssize_t,
)
cpdef Py_ssize_t count_requests(bytes data) except -1


@cython.locals(view="const unsigned char *", at=Py_ssize_t, count=Py_ssize_t, digit=int)
cpdef Py_ssize_t count_of(bytes data, Py_ssize_t start, Py_ssize_t end)


cdef class Cutter:
    cdef bytes _data
    cdef bytes _heading
    cdef Py_ssize_t _step
    cdef tuple _slot_shard
    cdef bint _by_slot
    cdef Colocation _rules
    cdef list _groups
    cdef list _places
    cdef list _order
    cdef dict _slots
    cdef list _owners
    cdef Py_ssize_t _position
    cdef Py_ssize_t _tail
    cdef readonly Py_ssize_t at

    cpdef object begin(
        self, bytes data, Py_ssize_t name, Py_ssize_t at, Py_ssize_t step, tuple slot_shard, Py_ssize_t shards,
        bint by_slot, Colocation rules,
    )
    @cython.locals(
        data=bytes, view="const unsigned char *", step=Py_ssize_t, rules=Colocation, slot_shard=tuple, by_slot=bint,
        groups=list, places=list, slots=dict, owners=list, at=Py_ssize_t, last=Py_ssize_t, position=Py_ssize_t,
        begin=Py_ssize_t, start=Py_ssize_t, shard=Py_ssize_t, slot=Py_ssize_t, group=list,
    )
    cpdef bint more(self, Py_ssize_t count) except -1
    cpdef bint end(self, Py_ssize_t tail) except -1
    cpdef list groups(self)
    @cython.locals(parts=list, shard=Py_ssize_t, group=list, arguments=Py_ssize_t)
    cpdef Cut cut(self)


@cython.locals(cutter=Cutter)
cpdef Cut cut(
    bytes data, Py_ssize_t name, Py_ssize_t at, Py_ssize_t count, Py_ssize_t step, tuple slot_shard, Py_ssize_t shards,
    bint by_slot, Colocation rules, Py_ssize_t tail=*,
)


@cython.locals(view="const unsigned char *", found=list, start=Py_ssize_t, end=Py_ssize_t)
cpdef tuple some_bulks(bytes data, Py_ssize_t at, Py_ssize_t count)
