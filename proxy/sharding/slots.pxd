cpdef int key_slot(bytes key)
cpdef int whole_slot(bytes data, Py_ssize_t start, Py_ssize_t stop)
cpdef int span_slot(bytes data, Py_ssize_t start, Py_ssize_t stop)
