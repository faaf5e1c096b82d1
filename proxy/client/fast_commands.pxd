from proxy.sharding.colocation cimport Colocation
from proxy.metrics cimport CommandCounter
from proxy.planning.scatter cimport Way


cdef class Head:
    cdef readonly Py_ssize_t bulks
    cdef readonly bint read
    cdef readonly bint writes
    cdef readonly CommandCounter counter


cdef class Split:
    cdef readonly Way way
    cdef readonly Py_ssize_t step
    cdef readonly CommandCounter counter


cdef class CommandLookup:
    cdef readonly dict heads
    cdef readonly dict splits
    cdef readonly Py_ssize_t shards
    cdef readonly bint by_slot
    cdef readonly bint measure
    cdef readonly Colocation rules
    cdef readonly bytes text
    cdef readonly Head entry
    cdef readonly dict watched
    cdef readonly bint watching


cdef class Lookups:
    cdef public CommandLookup current
    cdef public bint allowed
