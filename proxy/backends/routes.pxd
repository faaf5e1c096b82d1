import cython


cdef class Routes:
    cdef readonly object key
    cdef object _fitness
    cdef object _pool
    cdef object _topology
    cdef readonly tuple slot_shard
    cdef readonly list primaries
    cdef readonly list writers
    cdef readonly list readers


cdef class RouteBook:
    cdef object _topology
    cdef object _pool
    cdef object _fitness
    cdef bint _keep_to_primary
    cdef Py_ssize_t _connections
    cdef dict _routes

    @cython.locals(index=Py_ssize_t, spread=Py_ssize_t)
    cpdef Routes routes(self, int protocol, Py_ssize_t db, str read_from, Py_ssize_t number, bint scripts=*, str user=*)
    @cython.locals(routes=Routes)
    cdef Routes _made(self, tuple key)
