import cython

from proxy.client.client cimport Client
from proxy.features.request cimport PendingReply, Request
from proxy.session.session cimport Session


@cython.locals(session=Session)
cpdef object run(Client client, Request request)
cdef object _run_verified(Client client, Request request, object row)
@cython.locals(session=Session, moved=bint)
cdef object _run(Client client, Request request, object row, PendingReply pending, object mode)
cdef object _run_on_all_workers(Client client, Request request, object row)
