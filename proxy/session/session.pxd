cdef class Load:
    cdef readonly Py_ssize_t in_flight
    cdef readonly Py_ssize_t unread
    cdef readonly Py_ssize_t parked
    cdef readonly Py_ssize_t kept
    cdef readonly Py_ssize_t queued
    cdef readonly Py_ssize_t written
    cdef readonly Py_ssize_t commands


cdef class Session:
    cdef public object world
    cdef readonly object listener
    cdef public Py_ssize_t id
    cdef public str address
    cdef public str local_address
    cdef public double created
    cdef public double last_active
    cdef public bint closing
    cdef public bint blocked
    cdef public bint calls_scripts
    cdef public str lib_name
    cdef public str lib_ver
    cdef public str user
    cdef public bint authenticated
    cdef public str full
    cdef public bint unrestricted
    cdef public Py_ssize_t db
    cdef public int protocol
    cdef public str name
    cdef public bint reads_replicas
    cdef public object tracking
    cdef public object reply_mode
    cdef public bint no_evict
    cdef public bint no_touch
    cdef public str last_command
    cdef public Py_ssize_t queued
    cdef public Py_ssize_t watched
    cdef public tuple listening

    cpdef object start_over(self)
    cpdef str log_in(self, bytes user, bytes password, bytes command)
    cpdef bint muted(self) except -1
