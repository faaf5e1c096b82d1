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
    cdef object _timer
    cdef tuple _latest

    @cython.locals(most=Py_ssize_t, left=double)
    cpdef Py_ssize_t allowed(self, double now) except -1
    @cython.locals(pending=Py_ssize_t)
    cdef Py_ssize_t _free(self, double now) except? -1
    cpdef object take(self, Py_ssize_t commands, Py_ssize_t size)


cdef class Quota:
    cdef object _client
    cdef object _worker
    cdef ReplyWindow _window
    cdef readonly list allowances
    cdef readonly bint stranger
    cdef Py_ssize_t _most_commands
    cdef Py_ssize_t _most_bytes
    cdef Py_ssize_t _issued
    cdef Py_ssize_t _written
    cdef Py_ssize_t _commands
    cdef Py_ssize_t _received
    cdef Allowance _over

    @cython.locals(window=ReplyWindow, most=Py_ssize_t, some=Py_ssize_t, one=Allowance)
    cpdef Py_ssize_t allowed(self, double now) except -1
    @cython.locals(window=ReplyWindow, commands=Py_ssize_t, written=Py_ssize_t, one=Allowance)
    cpdef object charge(self, Py_ssize_t size)
    cpdef object skip(self)
    cpdef str before_login(self, bint more, Py_ssize_t coming)
