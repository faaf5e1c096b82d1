import cython

from proxy.client.shared_counts cimport SharedCounts
from proxy.client.client cimport Client
from proxy.engine.window cimport ReplyWindow
from proxy.metrics cimport Counters
from proxy.session.session cimport Load, Session
from proxy.planning.exec_block cimport Queue


cdef class Clients:
    cdef object _loop
    cdef object _slices
    cdef Counters _counters
    cdef SharedCounts _shared_counts
    cdef public Py_ssize_t maximum
    cdef public Py_ssize_t own_maximum
    cdef dict _clients
    cdef object _pause
    cdef object _pause_timer
    cdef readonly bint paused
    cdef readonly object backlog
    cdef public object memory
    cdef readonly object monitoring
    cdef public object pausing
    cdef public object admission
    cdef public object delays
    cdef public object user_limits
    cdef Py_ssize_t _blocked

    @cython.locals(shared_counts=SharedCounts, number=Py_ssize_t)
    cpdef Py_ssize_t enter(self, Client client, object peer) except -1
    @cython.locals(session=Session)
    cpdef object begun(self, Client client)
    cpdef object remove(self, Client client)
    @cython.locals(client=Client, window=ReplyWindow, queue=Queue, queued=Py_ssize_t, unread=Py_ssize_t)
    cpdef Load load(self, Session session)
    cdef object _let_go(self, Client client)


@cython.locals(session=Session)
cpdef Session note_latest(Client client)
