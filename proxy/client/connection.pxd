import cython

from proxy.client.holdings cimport HoldingClient
from proxy.engine.window cimport ReplyWindow
from proxy.transport.flow_control cimport Flow
from proxy.client.kept_input cimport KeptInput
from proxy.client.pacing cimport Pacing
from proxy.client.quota cimport Quota
from proxy.client.registry cimport Clients
from proxy.client.request_loop cimport carry_out_all, pace, wait
from proxy.metrics cimport Counters
from proxy.resp.requests cimport RequestFramer
from proxy.transport.write_batch cimport Turn


cdef int _SLOW
cdef int _ORDER
cdef int _FULL
cdef int _BLOCKED
cdef int _PACED
cdef int _QUOTA
cdef int _LOGIN
cdef int _LARGE


cdef class ClientConnection(HoldingClient):
    cdef Counters _counters
    cdef Turn _turn
    cdef object _backlog
    cdef Clients _clients
    cdef object _transport
    cdef bint _ending
    cdef bint _leaving
    cdef bint _more

    @cython.locals(now=double, size=Py_ssize_t)
    cpdef object data_received(self, bytes data)
    @cython.locals(size=Py_ssize_t, flow=Flow)
    cpdef object flush(self)
    @cython.locals(taken=Py_ssize_t)
    cdef object _process(self, bytes data, Py_ssize_t pos, double now)
    @cython.locals(careful=bint)
    cdef object _process_large(self, bytes request, double now)
    @cython.locals(kept=KeptInput, size=Py_ssize_t, taken=Py_ssize_t, large=Py_ssize_t, piece=bytes)
    cpdef object _continue(self, double now)
    @cython.locals(now=double)
    cpdef object go_on(self)
    @cython.locals(window=ReplyWindow, flow=Flow, pacing=Pacing)
    cdef object _after_output(self)
    @cython.locals(framer=RequestFramer)
    cdef bint _lands(self, Py_ssize_t got) except -1
