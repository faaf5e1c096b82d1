import cython

from proxy.backends.routes cimport Routes
from proxy.client.client cimport Client
from proxy.engine.sink cimport Sink
from proxy.features.request cimport PendingReply, Request


@cython.locals(routes=Routes, sink=Sink, token=Py_ssize_t, args=list, frame=bytes, now=double, pending=PendingReply)
cpdef bint send(Client client, Request request) except -1
cdef bint _passed(Client client, bint done) except -1
