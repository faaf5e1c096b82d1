import cython

from proxy.planning.merge_keys cimport merge_by_key
from proxy.planning.scatter cimport Scatter, Way


@cython.locals(way=Way, reply=bytes)
cpdef bytes merge(Scatter plan, list replies, object context)
