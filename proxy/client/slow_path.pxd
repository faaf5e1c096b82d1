import cython

from proxy.client.client cimport Client
from proxy.features.request cimport Request
from proxy.resp.requests cimport RequestFramer
from proxy.session.session cimport Session


@cython.locals(framer=RequestFramer)
cpdef bint carry_out(Client client, bytes frame, double now) except -1
cpdef object carry_out_nothing(Client client, bytes frame)
@cython.locals(framer=RequestFramer, args=list)
cpdef object refuse(Client client, bytes frame, str text)
@cython.locals(session=Session)
cdef bint _parsed(Client client, list args, bytes frame, double now, object denied) except -1
cdef bint _postpone(Client client, Request request) except -1
cdef bint _carry_out_monitored(Client client, Request request) except -1
@cython.locals(session=Session)
cdef bint _carry_out(Client client, Request request) except -1
cdef bint _carry_out_unrecorded(Client client, Request request) except -1
cdef object _take_by_mode(Client client, Request request)
cdef Py_ssize_t _arguments(bytes frame) except -1
