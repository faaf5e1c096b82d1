from proxy.planning.exec_block cimport Queue


cdef class Modes:
    cdef readonly object client
    cdef public object awaited
    cdef public object block
    cdef public object sent
    cdef public Queue queue
    cdef public unsigned long long waited
    cdef public object watch
    cdef public object subscriptions
    cdef public object tracker
