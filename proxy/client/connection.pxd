import cython

from proxy.client.client cimport Conversation
from proxy.engine.window cimport ReplyWindow
from proxy.client.fast_path cimport run as run_fast_lane
from proxy.transport.flow_control cimport Flow
from proxy.metrics cimport Counters
from proxy.client.own_fast_path cimport answer, repeat
from proxy.resp.requests cimport RequestFramer
from proxy.transport.write_batch cimport Turn


cdef int _SLOW
cdef int _ORDER
cdef int _FULL
cdef int _BLOCKED
cdef int _PACED
cdef int _TURN
cdef int _SLOW_COST
cdef int _OWN
cdef int _BYTES_SHIFT
cdef int _PIECE


cdef class ClientConnection(Conversation):
    cdef Counters _counters
    cdef Turn _turn
    cdef object _backlog
    cdef object _clients
    cdef object _transport
    cdef bint _ending
    cdef readonly bint closing
    cdef object _kept
    cdef Py_ssize_t _kept_from
    cdef bint _more
    cdef Py_ssize_t _reply_size
    cdef Py_ssize_t _head_before
    cdef Py_ssize_t _written_before

    @cython.locals(now=double)
    cpdef object data_received(self, bytes data)
    @cython.locals(size=Py_ssize_t, flow=Flow)
    cpdef object flush(self)
    @cython.locals(
        framer=RequestFramer, flow=Flow, turn=Turn, window=ReplyWindow, size=Py_ssize_t, end=Py_ssize_t,
        before=Py_ssize_t, begun=Py_ssize_t, taken=Py_ssize_t,
        view="const unsigned char *", frame=bytes,
    )
    cdef object _process(self, bytes data, Py_ssize_t pos, double now)
    @cython.locals(careful=bint)
    cdef object _process_large(self, bytes request, double now)
    cdef object _keep(self, bytes data, Py_ssize_t pos)
    @cython.locals(framer=RequestFramer, size=Py_ssize_t, end=Py_ssize_t, taken=Py_ssize_t, large=Py_ssize_t)
    cpdef object _continue(self, double now)
    cpdef object _wait(self)
    @cython.locals(window=ReplyWindow, most=Py_ssize_t, size=Py_ssize_t, answered=Py_ssize_t)
    cdef object _fit(self)
    cpdef object next_share(self)
    @cython.locals(now=double)
    cpdef object go_on(self)
    @cython.locals(window=ReplyWindow, flow=Flow)
    cdef object _after_output(self)
    @cython.locals(framer=RequestFramer)
    cdef bint _lands(self, Py_ssize_t got) except -1
