import cython

from proxy.metrics cimport CommandCounter, Counters
from proxy.session.session cimport Session
from proxy.planning.exec_block cimport Queued

cdef bytes _NOTHING


cdef class Call:
    cdef readonly object fact
    cdef readonly str name
    cdef readonly Py_ssize_t arity
    cdef readonly CommandCounter counter
    cdef readonly bint no_auth
    cdef readonly object run
    cdef readonly bint fixed
    cdef readonly object kind
    cdef readonly bint lists
    cdef readonly bint resets
    cdef readonly bint restricted
    cdef readonly bint changing
    cdef readonly bint secret
    cdef readonly bytes ends
    cdef public dict subcommands


cdef class OwnAnswers:
    cdef Counters _counters
    cdef readonly dict calls
    cdef public double now
    cdef public Py_ssize_t most
    cdef readonly bytes text
    cdef readonly int mode
    cdef readonly bint authenticated
    cdef readonly Call call
    cdef readonly CommandCounter counter
    cdef readonly str name
    cdef readonly list args
    cdef readonly bytes reply
    cdef readonly bint refused
    cdef readonly bint queues
    cdef readonly object fact
    cdef readonly bint own
    cdef readonly object run
    cdef readonly bytes frame
    cdef readonly object slots
    cdef readonly object permissions
    cdef readonly object planner

    @cython.locals(counter=CommandCounter)
    cpdef object count(self, object fact)
    cpdef object keep(self, Session session, int mode, bytes text, Call call, list args, bytes reply)
    cpdef object keep_refused(self, Session session, int mode, bytes text, CommandCounter counter, bytes reply)
    cpdef object keep_queued(self, Session session, int mode, bytes text, Queued item, object slots, object planner)
