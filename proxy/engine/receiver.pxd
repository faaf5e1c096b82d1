cdef class Receiver:
    cpdef object data_received(self, bytes data)
