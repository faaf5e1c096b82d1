import cython

from proxy.client.client cimport Client
from proxy.session.session cimport Session


@cython.locals(session=Session, moved=bint)
cpdef object run(Client client, object fact, list args, double now)
@cython.locals(token=Py_ssize_t)
cpdef object run_on_all_workers(Client client, object fact, list args, double now)
