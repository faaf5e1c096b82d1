import cython

from proxy.engine.receiver cimport Receiver
from proxy.engine.window cimport ReplyWindow
from proxy.transport.flow_control cimport Flow
from proxy.client.fast_commands cimport Lookups
from proxy.metrics cimport CommandCounter
from proxy.client.pacing cimport Pacing
from proxy.client.own_answers cimport OwnAnswers
from proxy.client.read_your_writes cimport OwnWrites
from proxy.resp.requests cimport RequestFramer
from proxy.backends.routes cimport Routes
from proxy.session.session cimport Session


cdef int _OWN
cdef int _LONG_WAY


cdef class Client(Receiver):
    # for good
    cdef readonly object service
    cdef readonly object listener
    cdef readonly Lookups lookups
    cdef readonly OwnAnswers own_answers
    cdef readonly ReplyWindow window
    cdef readonly Py_ssize_t number
    cdef readonly Py_ssize_t most
    cdef public Py_ssize_t output_hard
    cdef readonly Pacing pacing
    # of the connection
    cdef readonly double created
    cdef readonly double last_active
    cdef readonly Flow flow
    cdef readonly Routes routes
    cdef readonly bint closing
    cdef readonly OwnWrites own_writes
    cdef RequestFramer _framer
    # of its requests
    cdef Session _session
    cdef readonly object modes
    cdef public CommandCounter latest
    cdef public unsigned long long wrote
    cdef readonly bint plain
    cdef readonly int own
    cdef readonly bytes said
    cdef tuple _usual
    cdef readonly bint held

    cpdef object set_up(self)
    cpdef Session known_session(self)
    @cython.locals(framer=RequestFramer)
    cpdef RequestFramer framer(self)
    cpdef object next_share(self)
    cpdef object changed(self, bint moved)
    @cython.locals(mode=int)
    cdef int _mode(self, Session session) except -1
    @cython.locals(session=Session, on=bint, framer=RequestFramer, usual=tuple)
    cpdef object adopt_session(self)
    @cython.locals(plain=list)
    cpdef object begin(self, Py_ssize_t number, Flow flow, double now)
