import cython

from proxy.client.client cimport Client
from proxy.client.fast_path cimport run as run_fast_path
from proxy.client.own_fast_path cimport answer, repeat
from proxy.client.pacing cimport Pacing
from proxy.client.slow_path cimport carry_out, carry_out_nothing
from proxy.engine.window cimport ReplyWindow
from proxy.resp.requests cimport RequestFramer
from proxy.transport.flow_control cimport Flow
from proxy.transport.write_batch cimport Turn

cdef int _FULL
cdef int _TURN
cdef int _SLOW_COST
cdef int _OWN
cdef int _BYTES_SHIFT


@cython.locals(
    framer=RequestFramer, flow=Flow, window=ReplyWindow, size=Py_ssize_t, end=Py_ssize_t, before=Py_ssize_t,
    begun=Py_ssize_t, taken=Py_ssize_t, view="const unsigned char *", frame=bytes,
)
cpdef Py_ssize_t carry_out_all(
    Client client, bytes data, Py_ssize_t pos, double now, Turn turn, bint more
) except? -2
@cython.locals(pacing=Pacing)
cpdef object pace(Client client)
cpdef object wait(Client client, Turn turn)
