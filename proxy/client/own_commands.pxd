import cython

from proxy.client.client cimport Client
from proxy.features.request cimport PendingReply, Request
from proxy.session.session cimport Session


cpdef object run(Client client, Request request)
@cython.locals(session=Session, moved=bint, pending=PendingReply)
cdef object _run(Client client, Request request, object row)
cdef object _run_on_all_workers(Client client, Request request)
