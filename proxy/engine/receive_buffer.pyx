"""Twin of receive_buffer.py: the transport reads into the ``bytes`` that will be the request, so nothing is copied."""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy


cdef class Room:
    """A buffer of ``size`` bytes that begins with ``begun``; the transport reads the rest into ``buffer()``."""

    def __cinit__(self, Py_ssize_t size, bytes begun):
        if size < PyBytes_GET_SIZE(begun):
            raise ValueError("more is begun than there is room for")
        # The bytes object may be written to, since nothing else refers to it yet.
        self._data = PyBytes_FromStringAndSize(NULL, size)
        memcpy(PyBytes_AS_STRING(self._data), PyBytes_AS_STRING(begun), PyBytes_GET_SIZE(begun))
        self.left = size - PyBytes_GET_SIZE(begun)

    def __getbuffer__(self, Py_buffer* view, int flags):
        cdef char* end = PyBytes_AS_STRING(self._data) + PyBytes_GET_SIZE(self._data)
        PyBuffer_FillInfo(view, self, end - self.left, self.left, 0, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass

    def buffer(self):
        """A writable view of the part that is still to be filled."""
        return self

    def filled(self, Py_ssize_t count):
        """Record that ``count`` more bytes were written. Raises ``ValueError`` if there was no room for them."""
        if count < 0 or count > self.left:
            raise ValueError("more is filled than there is room for")
        self.left -= count

    def take(self):
        """The whole request, which is taken once. Raises ``ValueError`` if the buffer is not full."""
        if self.left:
            raise ValueError("it is not full")
        whole, self._data = self._data, b""
        return whole
