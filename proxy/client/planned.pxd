import cython

from proxy.backends.routes cimport Routes
from proxy.client.client cimport Client
from proxy.engine.sink cimport Sink


@cython.locals(routes=Routes, sink=Sink, token=Py_ssize_t)
cpdef bint send(Client client, object fact, list args, bytes frame, double now) except -1
cdef bint _passed(Client client, bint done) except -1
