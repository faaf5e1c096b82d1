import cython

from proxy.client.client cimport Client
from proxy.client.fast_path cimport run as run_fast_path
from proxy.client.own_fast_path cimport answer, repeat
from proxy.client.pacing cimport Pacing
from proxy.client.slow_path cimport carry_out, carry_out_nothing, refuse
from proxy.client.quota cimport Quota
from proxy.engine.window cimport ReplyWindow
from proxy.features.state cimport Modes
from proxy.resp.requests cimport RequestFramer
from proxy.transport.flow_control cimport Flow
from proxy.transport.write_batch cimport Turn

cdef int _FULL
cdef int _TURN
cdef int _SLOW_COST
cdef int _OWN
cdef int _BYTES_SHIFT
cdef Py_ssize_t _PLENTY
cdef Py_ssize_t _REPEATED


cpdef Py_ssize_t carry_out_all(
    Client client, bytes data, Py_ssize_t pos, double now, Turn turn, bint more
) except? -2


@cython.locals(size=Py_ssize_t, flow=Flow, quota=Quota, allowed=Py_ssize_t, begun=Py_ssize_t, part=Py_ssize_t, error=str)
cdef Py_ssize_t _carry_out_limited(
    Client client, bytes data, Py_ssize_t pos, double now, Turn turn, bint more
) except? -2


@cython.locals(framer=RequestFramer, end=Py_ssize_t)
cdef Py_ssize_t _refuse_one(
    Client client, bytes data, Py_ssize_t pos, Turn turn, bint more, str error
) except? -2


cdef object _close(Client client, str error)




@cython.locals(
    framer=RequestFramer, flow=Flow, window=ReplyWindow, size=Py_ssize_t, end=Py_ssize_t, before=Py_ssize_t,
    begun=Py_ssize_t, taken=Py_ssize_t, view="const unsigned char *", frame=bytes,
)
cdef Py_ssize_t _carry_out(
    Client client, bytes data, Py_ssize_t pos, double now, Turn turn, bint more, Py_ssize_t allowed
) except? -2
@cython.locals(pacing=Pacing)
cpdef object pace(Client client)
cpdef object wait(Client client, Turn turn)
