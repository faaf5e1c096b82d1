import cython

from proxy.session.session cimport Session


@cython.locals(name=Py_ssize_t, user=Py_ssize_t, at=Py_ssize_t, count=Py_ssize_t, option=bytes)
cdef tuple _hello_options(object args)
