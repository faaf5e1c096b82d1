import cython

from proxy.session.session cimport Load, Session

cdef Py_ssize_t _READ_AT_ONCE
cdef Py_ssize_t _REPLY_LEAST
cdef Py_ssize_t _REPLY_MOST
cdef Py_ssize_t _ITSELF
cdef Py_ssize_t _COMMAND
cdef Py_ssize_t _SMALL_END
cdef list _SMALL


cdef class Plan:
    cdef list _parts
    cdef bytes _places
    cdef readonly object fields

    @cython.locals(parts=list, at=Py_ssize_t, place=cython.uchar)
    cpdef str line(self, list values)


cdef Plan _plan


cpdef str line(Session session, double now, object asking=*)


@cython.locals(
    channels=Py_ssize_t, patterns=Py_ssize_t, shard_channels=Py_ssize_t, arguments=Py_ssize_t, framed=Py_ssize_t,
    count=Py_ssize_t, size=Py_ssize_t, query=Py_ssize_t, free=Py_ssize_t, waiting=Py_ssize_t, buffer=Py_ssize_t,
    first=Py_ssize_t, rest=Py_ssize_t, blocks=Py_ssize_t, total=Py_ssize_t, age=Py_ssize_t, idle=Py_ssize_t, used=str,
)
cdef list _values(Session session, double now, Load load, object asking)


cdef str _number(Py_ssize_t value)


@cython.locals(found=Py_ssize_t)
cdef Py_ssize_t _digits(Py_ssize_t number) except -1


@cython.locals(channels=Py_ssize_t, patterns=Py_ssize_t, shard_channels=Py_ssize_t, flags=str)
cdef str _flags(Session session)
