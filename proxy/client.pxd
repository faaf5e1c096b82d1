import cython

from proxy.conversation cimport Conversation
from proxy.engine.window cimport ReplyWindow
from proxy.fastlane cimport run as run_fast_lane
from proxy.flow cimport Flow
from proxy.metrics cimport Counters
from proxy.resp.requests cimport RequestFramer
from proxy.turn cimport Turn


cdef int _SLOW
cdef int _ORDER
cdef int _FULL
cdef int _BLOCKED


cdef class ClientConnection(Conversation):
    cdef Counters _counters
    cdef Turn _turn
    cdef object _transport
    cdef bint _ending
    cdef readonly bint closing
    cdef object _kept

    cpdef object data_received(self, bytes data)
    @cython.locals(size=Py_ssize_t)
    cpdef object flush(self)
    @cython.locals(framer=RequestFramer, flow=Flow, size=Py_ssize_t, pos=Py_ssize_t, end=Py_ssize_t)
    cdef object _process(self, bytes data, double now)
    @cython.locals(window=ReplyWindow, flow=Flow)
    cdef object _after_output(self)
    @cython.locals(framer=RequestFramer)
    cdef bint _lands(self, Py_ssize_t got) except -1
