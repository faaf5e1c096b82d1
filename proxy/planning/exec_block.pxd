import cython


cdef class QueuedKind:
    cdef readonly object fact
    cdef readonly Py_ssize_t count
    cdef readonly bint own
    cdef readonly bint odd
    cdef readonly bint scripting


cdef class Queued:
    cdef readonly object fact
    cdef readonly list args
    cdef readonly bytes frame
    cdef readonly object whole
    cdef readonly bint own
    cdef public object run
    cdef public bytes denied
    cdef public bytes along
    cdef readonly Py_ssize_t size


cdef class Queue:
    cdef readonly bint answered
    cdef readonly list items
    cdef readonly set slots
    cdef readonly list frames
    cdef readonly dict kinds
    cdef QueuedKind _kind
    cdef readonly list calls
    cdef readonly Py_ssize_t own
    cdef readonly Py_ssize_t wholes
    cdef readonly bint odd
    cdef readonly Py_ssize_t size
    cdef readonly object state
    cdef readonly bint spoiled
    cdef public object allowed_by
    cdef Py_ssize_t _counted
    cdef Py_ssize_t _held

    cpdef object allow(self, object permissions)
    @cython.locals(kind=QueuedKind)
    cpdef object add(self, Queued item, object slots)
