"""Twin of receive_buffer.py: the transport reads into the ``bytes`` that will be the request, so nothing is copied."""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy


cdef class Room:
    """``size`` bytes, of which ``begun`` are there already; the transport reads the rest into ``buffer()``."""

    def __cinit__(self, Py_ssize_t size, bytes begun):
        if size < PyBytes_GET_SIZE(begun):
            raise ValueError("more is begun than there is room for")
        # Nobody else has seen it yet, so it may be written to.
        self._data = PyBytes_FromStringAndSize(NULL, size)
        memcpy(PyBytes_AS_STRING(self._data), PyBytes_AS_STRING(begun), PyBytes_GET_SIZE(begun))
        self.left = size - PyBytes_GET_SIZE(begun)

    def __getbuffer__(self, Py_buffer* view, int flags):
        cdef char* end = PyBytes_AS_STRING(self._data) + PyBytes_GET_SIZE(self._data)
        PyBuffer_FillInfo(view, self, end - self.left, self.left, 0, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass

    def buffer(self):
        """What is still to be filled; writable."""
        return self

    def filled(self, Py_ssize_t count):
        """``count`` more bytes are there."""
        if count < 0 or count > self.left:
            raise ValueError("more is filled than there is room for")
        self.left -= count

    def take(self):
        """The whole; it is full, and taken once."""
        if self.left:
            raise ValueError("it is not full")
        whole, self._data = self._data, b""
        return whole
