"""Twin of window.py: the same methods over C memory, without a Python object for a reply in its turn.

A reply in turn is copied behind the output (``_open``), which becomes one ``bytes`` when it is written; a large reply
is a piece of its own. An early reply is one ``bytes``, or a list of pieces, in a ring indexed by its token. Memory is
freed when the client waits for no reply.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.string cimport memcpy

from proxy.engine.sink cimport Sink

LARGE = 4096
cdef enum:
    _LARGE = 4096
    _FIRST_ROOM = 256
    _FEWEST = 16


cdef inline bytes _cut(bytes data, Py_ssize_t start, Py_ssize_t end):
    if start == 0 and end == PyBytes_GET_SIZE(data):
        return data
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


def _nobody():
    """Stand in for ``wake`` in a closed window."""


cdef class ReplyWindow(Sink):
    """Writes the replies of one client in the order of its requests, whatever order they arrive in."""

    def __cinit__(self, wake, Py_ssize_t limit):
        self._wake = wake
        self._limit = limit
        self._open = NULL
        self._parked = NULL
        self._mask = -1

    def __dealloc__(self):
        self._drop()

    def __repr__(self):
        return f"ReplyWindow(next {self.head} of {self.issued}, {self._parked_count} parked)"

    @property
    def overflowing(self):
        """Whether more bytes are parked than the limit: no more requests should be taken until some are written."""
        return self.parked_bytes > self._limit

    @property
    def pending(self):
        """How many requests have no reply in the output yet."""
        return self.issued - self.head

    @property
    def idle(self):
        """Whether every request has its reply, and every reply has been written."""
        return self.head == self.issued and not self._ready

    cpdef Py_ssize_t reserve(self):
        """Take the next sequence number, for a new request."""
        cdef Py_ssize_t token = self.issued
        self.issued = token + 1
        return token

    cpdef object deliver(self, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end):
        """Take the reply at ``data[start:end]`` of request ``token``; an empty reply writes nothing."""
        if token == self.head:
            if not self._ready:
                if self.issued == token + 1 and self.direct is not None and not self.gathers:
                    self.head = token + 1
                    self.written += end - start
                    self.direct(_cut(data, start, end))
                    return
                self._wake()
            self._append(data, start, end)
            self.head = token + 1
            if self._parked_count:
                self._unpark()
        elif not self._closed:
            self._park(token, _cut(data, start, end))
            if end - start > _LARGE:
                self.parked_bytes += end - start
                if self.parked_bytes > self._limit:
                    self._wake()

    cpdef object deliver_pieces(self, Py_ssize_t token, list pieces):
        """Take the reply of request ``token``, which came in pieces."""
        cdef bytes piece
        if token == self.head:
            if not self._ready:
                self._wake()
            self._extend(pieces)
            self.head = token + 1
            if self._parked_count:
                self._unpark()
        elif not self._closed:
            if self._keeping is not None:
                self._keeping.pop(token, None)
            self._park(token, pieces)
            for piece in pieces:
                self.parked_bytes += PyBytes_GET_SIZE(piece)
            if self.parked_bytes > self._limit:
                self._wake()

    cpdef object answer(self, bytes frame):
        """Take a sequence number for a request whose reply, ``frame``, is known already."""
        self.deliver(self.reserve(), frame, 0, len(frame))

    cpdef object push(self, bytes frame):
        """Send the push message ``frame``, behind the replies in the output and in front of those still to come."""
        if self._closed:
            return
        if self._streaming:
            if self._late is None:
                self._late = []
            self._late.append(frame)
            self._late_bytes += PyBytes_GET_SIZE(frame)
            self.parked_bytes += PyBytes_GET_SIZE(frame)
            if self.parked_bytes > self._limit:
                self._wake()
            return
        if not self._ready:
            self._wake()
        self.pushed += PyBytes_GET_SIZE(frame)
        self._append(frame, 0, PyBytes_GET_SIZE(frame))

    def halt(self):
        """Take no more requests from the client until all that it has sent are answered."""
        if self.on_halt is not None:
            self.on_halt()

    cpdef Py_ssize_t kept(self, Py_ssize_t token, Py_ssize_t size) except -1:
        """Record that ``size`` bytes of the reply for ``token`` are kept until all of it has come."""
        if not self._closed:
            if self._keeping is None:
                self._keeping = {}
            self._keeping[token] = size
        return size

    def keeping(self):
        """The bytes that are kept of replies that are still arriving."""
        if self._keeping is None:
            return 0
        for token in [token for token in self._keeping if token < self.head]:
            del self._keeping[token]
        return sum(self._keeping.values())

    cpdef bint accepts_stream(self, Py_ssize_t token) except -1:
        """Whether the reply of ``token`` is in turn, so that it can be passed on piece by piece."""
        return token == self.head or self._closed

    cpdef object stream(self, Py_ssize_t token, bytes data, bint last):
        """Pass on the next piece of the reply in turn."""
        if self._closed:
            return
        self._streaming = not last
        if not self._ready and self.direct is not None and not (last and self._parked_count):
            self.written += len(data)
            self.direct(data)
        else:
            if not self._ready:
                self._wake()
            self._append(data, 0, len(data))
        if last:
            if self._late is not None:
                self._say_late()
            self.head = token + 1
            if self._parked_count:
                self._unpark()

    @property
    def ready(self):
        """Whether replies wait to be written."""
        return self._ready

    @property
    def streaming(self):
        """Whether a reply is being passed on piece by piece."""
        return self._streaming

    cpdef bint holds_back(self, object resume) except -1:
        """Whether the client reads slowly; then ``resume`` is called when it has caught up or disconnected."""
        if self._slow:
            self._resume = resume
        return self._slow

    def set_slow(self, bint slow):
        """Record that the client reads slowly, or that it has caught up."""
        self._slow = slow
        if not slow and self._resume is not None:
            resume, self._resume = self._resume, None
            resume()

    cpdef object abort_stream(self, Py_ssize_t token):
        """Abort the streamed reply in turn: the client could read nothing that follows, so it must be closed."""
        self._streaming = True
        wake = self._wake
        self.close()
        wake()

    @property
    def broken(self):
        """Whether a streamed reply was aborted in the middle."""
        return self._closed and self._streaming

    def unwritten(self):
        """Return how many bytes wait to be written."""
        return self._open_size + (0 if self._pieces is None else sum(map(len, self._pieces)))

    cpdef Py_ssize_t write_to(self, object transport) except -1:
        """Write the output to ``transport``; return how many bytes that were."""
        cdef Py_ssize_t size = 0
        cdef list pieces
        cdef bytes piece
        if not self._ready:
            return 0
        self._ready = False
        if self._pieces is None:
            size = self._open_size
            piece = PyBytes_FromStringAndSize(self._open, size) if size else None
        else:
            self._seal()
            pieces = self._pieces
            self._pieces = None
            for piece in pieces:
                size += PyBytes_GET_SIZE(piece)
            piece = None
        self._open_size = 0
        PyMem_Free(self._open)
        self._open = NULL
        self._open_room = 0
        if not self._parked_count and self._mask >= _FEWEST:
            PyMem_Free(self._parked)
            self._parked = NULL
            self._mask = -1
        self.written += size
        if piece is not None:
            transport.write(piece)
        elif size:
            transport.writelines(pieces)
        return size

    def close(self):
        """Drop the replies that are kept, and those that will still come."""
        self._closed = True
        self._wake = _nobody
        self.direct = None
        self.on_halt = None
        self.head = -1
        self.parked_bytes = 0
        self._keeping = None
        self._drop()
        self.set_slow(False)

    # ---- memory

    cdef int _append(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
        """Append ``data[start:end]`` to the output."""
        cdef Py_ssize_t length = end - start
        cdef Py_ssize_t room
        cdef char* grown
        self._ready = True
        if not length:
            return 0
        if length > _LARGE:
            self._seal()
            if self._pieces is None:
                self._pieces = []
            self._pieces.append(_cut(data, start, end))
            return 0
        if self._open_size + length > self._open_room:
            room = self._open_room * 2 if self._open_room else _FIRST_ROOM
            while room < self._open_size + length:
                room *= 2
            grown = <char*> PyMem_Realloc(self._open, room)
            if grown == NULL:
                raise MemoryError
            self._open = grown
            self._open_room = room
        memcpy(self._open + self._open_size, PyBytes_AS_STRING(data) + start, length)
        self._open_size += length
        return 0

    cdef int _extend(self, list pieces) except -1:
        """Append ``pieces`` to the output."""
        cdef bytes piece
        self._ready = True
        for piece in pieces:
            self._append(piece, 0, PyBytes_GET_SIZE(piece))
        return 0

    cdef int _seal(self) except -1:
        """Make a piece of the copied replies."""
        if self._open_size:
            if self._pieces is None:
                self._pieces = []
            self._pieces.append(PyBytes_FromStringAndSize(self._open, self._open_size))
            self._open_size = 0
        return 0

    cdef int _park(self, Py_ssize_t token, object reply) except -1:
        """Keep ``reply``, or its pieces, until its turn."""
        cdef Py_ssize_t size, index
        cdef PyObject** grown
        if token - self.head > self._mask:
            size = self._mask + 1 if self._mask >= 0 else _FEWEST
            while token - self.head >= size:
                size *= 2
            grown = <PyObject**> PyMem_Calloc(size, sizeof(PyObject*))
            if grown == NULL:
                raise MemoryError
            for index in range(self.head, self.head + self._mask + 1):
                grown[index & (size - 1)] = self._parked[index & self._mask]
            PyMem_Free(self._parked)
            self._parked = grown
            self._mask = size - 1
        Py_INCREF(reply)
        self._parked[token & self._mask] = <PyObject*> reply
        self._parked_count += 1
        return 0

    cdef int _say_late(self) except -1:
        """Send the push messages that waited for the end of a stream."""
        cdef list late = self._late
        cdef bytes frame
        self._late = None
        self.parked_bytes -= self._late_bytes
        self._late_bytes = 0
        for frame in late:
            self.push(frame)
        return 0

    cdef int _unpark(self) except -1:
        """Append the parked replies whose turn has come to the output."""
        cdef PyObject* kept
        cdef object early
        cdef bytes reply
        while self._parked_count:
            kept = self._parked[self.head & self._mask]
            if kept == NULL:
                break
            self._parked[self.head & self._mask] = NULL
            self._parked_count -= 1
            self.head += 1
            early = <object> kept
            Py_DECREF(early)
            if type(early) is list:
                self._extend(<list> early)
                for reply in <list> early:
                    self.parked_bytes -= PyBytes_GET_SIZE(reply)
                continue
            reply = <bytes> early
            self._append(reply, 0, PyBytes_GET_SIZE(reply))
            if self.parked_bytes and PyBytes_GET_SIZE(reply) > _LARGE:
                self.parked_bytes -= PyBytes_GET_SIZE(reply)
        return 0

    cdef int _drop(self) except -1:
        """Forget the output and the parked replies."""
        cdef Py_ssize_t index
        self._ready = False
        self._pieces = None
        self._late = None
        self._late_bytes = 0
        PyMem_Free(self._open)
        self._open = NULL
        self._open_size = self._open_room = 0
        if self._parked_count:
            for index in range(self._mask + 1):
                if self._parked[index] != NULL:
                    Py_DECREF(<object> self._parked[index])
        self._parked_count = 0
        PyMem_Free(self._parked)
        self._parked = NULL
        self._mask = -1
        return 0
