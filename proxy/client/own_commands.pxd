import cython

from proxy.client.client cimport Client
from proxy.features.request cimport Request
from proxy.session.session cimport Session


@cython.locals(session=Session, moved=bint, args=list, now=double)
cpdef object run(Client client, Request request)
@cython.locals(token=Py_ssize_t)
cpdef object run_on_all_workers(Client client, Request request)
