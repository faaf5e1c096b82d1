import cython

from proxy.backends.shared cimport Backend
from proxy.sharding.colocation cimport Colocation
from proxy.client.client cimport Client
from proxy.backends.dispatch cimport Dispatcher
from proxy.engine.sink cimport Sink
from proxy.engine.window cimport ReplyWindow
from proxy.client.fast_commands cimport Head, CommandLookup, Split
from proxy.planning.split cimport Cut, Cutter, count_of, cut, skip_bulks
from proxy.client.read_your_writes cimport OwnWrites
from proxy.backends.routes cimport Routes
from proxy.planning.scatter cimport Part, Scatter
from proxy.sharding.slots cimport span_slot

cdef int _CR
cdef int _LF
cdef int _ZERO
cdef int _STAR
cdef int _SHORTEST
cdef int _BYTES
cdef bytes _NO_HEAD


@cython.locals(
    lookup=CommandLookup, measure=bint, rules=Colocation, slot=int, known=dict, window=ReplyWindow, routes=Routes, readers=list, writers=list, slot_shard=tuple,
    view="const unsigned char *", size=Py_ssize_t, last=Py_ssize_t, token=Py_ssize_t, most=Py_ssize_t, text=bytes,
    entry=Head, found=Head, length=Py_ssize_t, digit=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, start=Py_ssize_t,
    stop=Py_ssize_t,
    shard=Py_ssize_t, one="unsigned long long", backend=Backend, own_writes=OwnWrites,
)
cpdef Py_ssize_t run(Client client, bytes data, Py_ssize_t pos, double now, Py_ssize_t credit) except -2


@cython.locals(
    lookup=CommandLookup, view="const unsigned char *", size=Py_ssize_t, at=Py_ssize_t, name_end=Py_ssize_t, entry=Split,
    count=Py_ssize_t, keys=Py_ssize_t, found=Cut, tail=Py_ssize_t, slot_shard=tuple,
)
cpdef Py_ssize_t split(Client client, bytes data, Py_ssize_t pos, double now) except -2


@cython.locals(
    lookup=CommandLookup, window=ReplyWindow, token=Py_ssize_t, parts=list, first=Part, dispatcher=Dispatcher, frame=bytes,
    sink=Sink,
)
cpdef object send_parts(
    Client client, Routes routes, Split entry, Cut found, bytes data, Py_ssize_t pos, double now,
)


@cython.locals(view="const unsigned char *")
cdef Py_ssize_t _line_end(bytes data, Py_ssize_t at, Py_ssize_t last)
