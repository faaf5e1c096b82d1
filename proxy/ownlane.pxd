import cython

from proxy.conversation cimport Conversation
from proxy.engine.window cimport ReplyWindow
from proxy.metrics cimport CommandCounter
from proxy.session cimport Session
from proxy.turn cimport Turn

cdef bytes _NOTHING
cdef bytes _NOAUTH
cdef int _OWN


cdef class Call:
    cdef readonly str name
    cdef readonly Py_ssize_t arity
    cdef readonly CommandCounter counter
    cdef readonly bint no_auth
    cdef readonly object run
    cdef readonly bint fixed
    cdef readonly bint changing
    cdef readonly bint secret
    cdef public dict subcommands


cdef class OwnLane:
    cdef readonly dict calls
    cdef public double now
    cdef readonly bytes text
    cdef public bint authenticated
    cdef readonly Call call
    cdef readonly list args
    cdef readonly bytes reply
    cdef readonly bint refused

    cpdef object forget(self)
    cpdef object keep(self, bytes text, Call call, list args, bytes reply, bint refused)


@cython.locals(
    lane=OwnLane, text=bytes, session=Session, size=Py_ssize_t, step=Py_ssize_t, call=Call, window=ReplyWindow,
    fixed=bytes,
)
cpdef Py_ssize_t repeat(Conversation client, bytes data, Py_ssize_t pos, Turn turn, bint more) except -1


@cython.locals(reply=bytes, authenticated=bint, db=Py_ssize_t, protocol=int, reads_replicas=bint, moved=bint)
cdef bint carry_out(Conversation client, Session session, Call call, list args) except -1


@cython.locals(
    lane=OwnLane, args=list, call=Call, count=Py_ssize_t, session=Session, arity=Py_ssize_t, refusal=bytes, keeps=bint,
    reply=bytes,
)
cpdef bint answer(Conversation client, bytes frame, bint inline) except -1
