import cython

from proxy.client.allowance cimport Allowance
from proxy.engine.window cimport ReplyWindow

cdef Py_ssize_t _PLENTY


cdef class Quota:
    cdef Quota _before
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
    @cython.locals(window=ReplyWindow, commands=Py_ssize_t, written=Py_ssize_t, in_flight=Py_ssize_t, one=Allowance)
    cpdef object charge(self, Py_ssize_t size)
    @cython.locals(answered=Py_ssize_t, one=Allowance)
    cpdef object settle(self)
    @cython.locals(window=ReplyWindow)
    cdef Py_ssize_t _answered(self) except -1
    @cython.locals(one=Allowance)
    cpdef object answered(self)
    cpdef object skip(self)
    cpdef str before_login(self, bint more, Py_ssize_t coming)
