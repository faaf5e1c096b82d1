import cython

from proxy.census cimport Census
from proxy.client cimport ClientConnection
from proxy.metrics cimport Counters


cdef class Clients:
    cdef object _loop
    cdef object _slices
    cdef Counters _counters
    cdef Census _census
    cdef public Py_ssize_t maximum
    cdef public Py_ssize_t own_maximum
    cdef dict _clients
    cdef object _pause
    cdef object _pause_timer
    cdef readonly bint paused
    cdef public object on_pause
    cdef Py_ssize_t _blocked

    @cython.locals(census=Census, number=Py_ssize_t)
    cpdef Py_ssize_t enter(self, ClientConnection client) except -1
    cpdef object remove(self, ClientConnection client)
