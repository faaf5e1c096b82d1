import cython

from proxy.multikey cimport merge_by_key
from proxy.scatter cimport Scatter, Way


@cython.locals(way=Way, reply=bytes)
cpdef bytes merge(Scatter plan, list replies, object context)
