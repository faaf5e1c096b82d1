import cython

from proxy.engine.window cimport ReplyWindow

cdef int _QUOTA
cdef Py_ssize_t _PLENTY
cdef Py_ssize_t _CREDIT


cdef class TokenBucket:
    cdef readonly double rate
    cdef double _left
    cdef double _at

    cpdef double left(self, double now) except? -1.0
    cpdef object take(self, double tokens)
    cpdef double wait(self, double tokens) except? -1.0


cdef class Allowance:
    cdef readonly str kind
    cdef readonly str name
    cdef object _worker
    cdef TokenBucket _commands
    cdef TokenBucket _bytes
    cdef Py_ssize_t _most_in_flight
    cdef Py_ssize_t _in_flight
    cdef double _counted_at
    cdef readonly bint delays
    cdef readonly dict clients
    cdef readonly dict waiting
    cdef bint _waking
    cdef bint _soon
    cdef object _timer
    cdef tuple _latest

    @cython.locals(most=Py_ssize_t, left=double)
    cpdef Py_ssize_t allowed(self, double now) except -1
    @cython.locals(pending=Py_ssize_t)
    cdef Py_ssize_t _free(self, double now) except? -1
    cpdef object take(self, Py_ssize_t commands, Py_ssize_t size, Py_ssize_t in_flight)
    cpdef object answered(self)
    @cython.locals(seconds=double)
    cdef double _seconds(self) except? -1.0
