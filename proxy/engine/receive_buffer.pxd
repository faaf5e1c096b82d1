cdef class Room:
    cdef bytes _data
    cdef readonly Py_ssize_t left
