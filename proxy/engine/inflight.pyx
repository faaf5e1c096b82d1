"""Twin of inflight.py: the same methods over C memory, without a Python object for a request.

A pushed request is copied behind the unwritten ones (``_open``). When they are written they become one ``bytes``, a
piece, which is kept until its last request is answered; a large request is a piece of its own and not copied. Requests
are structs in a ring that hold their offset in their piece; the pieces are in a ring in the same order.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.string cimport memcpy

from proxy.engine.sink cimport Sink

from proxy.engine.entry import Entry
from proxy.engine.sink import DISCARD as _discard
from proxy.engine.sink import UNASKED

cdef Sink DISCARD = _discard

LARGE = 16 * 1024
cdef enum:
    _LARGE = 16 * 1024
    _FIRST_ROOM = 512
    _KEPT_ROOM = 64 * 1024
    _FEWEST = 16
    _KEPT_REQUESTS = 4096
    _ALL, _OVERDUE, _OF_OWNER


cdef class InFlight:
    """Requests in the order they are sent, kept until answered."""

    def __cinit__(self):
        self._requests = NULL
        self._pieces = NULL
        self._open = NULL
        self._head = self._count = self._first = self._held = self._unwritten_pieces = 0
        self._mask = self._piece_mask = -1
        self._open_size = self._open_room = self._open_count = self.written = 0
        self.unanswered = 0

    def __dealloc__(self):
        self._clear()
        PyMem_Free(self._requests)
        PyMem_Free(self._pieces)
        PyMem_Free(self._open)

    def __len__(self):
        return self._count

    def __repr__(self):
        return f"InFlight({self._count} requests, {self.unsent} not written)"

    @property
    def unsent(self):
        """How many requests are not written yet."""
        return self._count - self.written

    cpdef object push(self, Sink sink, Py_ssize_t token, bytes data, Py_ssize_t start, Py_ssize_t end, double since):
        """Add the request at ``data[start:end]``, not written yet."""
        cdef Py_ssize_t length = end - start
        cdef Py_ssize_t room, count
        cdef char* grown
        cdef Request* request
        if self._count > self._mask:
            self._grow()
        request = &self._requests[(self._head + self._count) & self._mask]
        if length >= _LARGE:
            if self._open_size:
                self._seal()
            count = self._open_count + 1  # requests without bytes lie at the beginning of the piece that follows
            self._open_count = 0
            if start == 0 and end == len(data):
                self._add_piece(data, count)
            else:
                self._add_piece(PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, length), count)
            request.offset = 0
        else:
            if self._open_size + length > self._open_room:
                room = self._open_room * 2 if self._open_room else _FIRST_ROOM
                while room < self._open_size + length:
                    room *= 2
                grown = <char*> PyMem_Realloc(self._open, room)
                if grown == NULL:
                    raise MemoryError
                self._open = grown
                self._open_room = room
            if length:
                memcpy(self._open + self._open_size, PyBytes_AS_STRING(data) + start, length)
            request.offset = self._open_size
            self._open_size += length
            self._open_count += 1
        Py_INCREF(sink)
        request.sink = <PyObject*> sink
        request.token = token
        request.length = length
        request.since = since
        self._count += 1

    cpdef object write_to(self, object transport):
        """Write all requests not written yet."""
        cdef Py_ssize_t index
        cdef list pieces
        if self._count == self.written:
            return
        self._seal()
        self.written = self._count
        self.unanswered += self._unsent_bytes()
        index = self._first + self._held - self._unwritten_pieces
        if self._unwritten_pieces == 1:
            self._unwritten_pieces = 0
            transport.write(<object> self._pieces[index & self._piece_mask].data)
            return
        pieces = []
        while self._unwritten_pieces:
            pieces.append(<object> self._pieces[index & self._piece_mask].data)
            index += 1
            self._unwritten_pieces -= 1
        transport.writelines(pieces)

    cpdef object write_upto(self, object transport, Py_ssize_t most):
        """Write requests while at most ``most`` bytes are unanswered; one of any size if none is unanswered."""
        cdef Py_ssize_t size = self.unanswered
        cdef Py_ssize_t index, length
        cdef Py_ssize_t count = 0
        if size + self._unsent_bytes() <= most:
            self.write_to(transport)
            return
        for index in range(self.written, self._count):
            length = self._requests[(self._head + index) & self._mask].length
            size += length
            if size > most and (count or self.written):
                break
            if length:  # a request without bytes goes with the one behind it
                count = index + 1 - self.written
        else:
            count = self._count - self.written
        if not count:
            return
        unsent = self.entries()[self.written:]
        self._drop_unwritten()
        for entry in unsent[:count]:
            self.push(entry.sink, entry.token, entry.frame, 0, len(entry.frame), entry.since)
        self.write_to(transport)
        for entry in unsent[count:]:
            self.push(entry.sink, entry.token, entry.frame, 0, len(entry.frame), entry.since)

    cpdef double answer(self, bytes data, Py_ssize_t start, Py_ssize_t end) except? -1.0:
        """Deliver the reply at ``data[start:end]`` to the oldest request's sink, and return when that request came."""
        cdef Request request
        cdef Sink sink
        if not self.written:
            raise IndexError("no request is written")
        request = self._requests[self._head]
        sink = <Sink> request.sink
        self._release_one()
        sink.deliver(request.token, data, start, end)
        return request.since

    def pop(self):
        """Remove the oldest request, whose reply has come. Raises ``IndexError`` when none is written."""
        if not self.written:
            raise IndexError("no request is written")
        entry = self.peek()
        self._release_one()
        return entry

    def peek(self):
        """The oldest request. Raises ``IndexError`` when there is none."""
        for _, entry in self._walk(_ALL, 0.0, None):
            return entry
        raise IndexError("no request")

    def oldest(self):
        """When the oldest request came whose reply is not discarded, in seconds; None without one."""
        cdef Py_ssize_t index
        for index in range(self._head, self._head + self._count):
            if self._requests[index & self._mask].sink != <PyObject*> DISCARD:
                return self._requests[index & self._mask].since
        return None

    def first(self):
        """When the request came whose reply comes next, discarded or not, in seconds; None without one."""
        return self._requests[self._head].since if self.written else None

    def entries(self):
        """All requests in order, the written ones first."""
        return [entry for _, entry in self._walk(_ALL, 0.0, None)]

    def owners(self):
        """The owners of all requests."""
        cdef Py_ssize_t index
        cdef PyObject* last = NULL
        cdef set found = set()
        for index in range(self._head, self._head + self._count):
            if self._requests[index & self._mask].sink != last:
                last = self._requests[index & self._mask].sink
                if <object> last not in UNASKED:
                    found.add((<object> last).owner)
        return found

    def serves_others(self, owner):
        """Whether a client other than ``owner`` waits for a reply."""
        cdef Py_ssize_t index
        cdef PyObject* last = NULL
        for index in range(self._head, self._head + self._count):
            if self._requests[index & self._mask].sink != last:
                last = self._requests[index & self._mask].sink
                if <object> last not in UNASKED and (<object> last).owner is not owner:
                    return True
        return False

    def of(self, owner):
        """The requests of ``owner``, each with its place in the FIFO."""
        return list(self._walk(_OF_OWNER, 0.0, owner))

    def rewire(self, sinks):
        """Replace the sinks of the requests at the places that are the keys of ``sinks``."""
        cdef Py_ssize_t place
        cdef Request* request
        cdef PyObject* before
        cdef Sink sink
        for place, sink in sinks.items():
            if not 0 <= place < self._count:
                raise IndexError("no request is there")
            request = &self._requests[(self._head + place) & self._mask]
            before = request.sink
            Py_INCREF(sink)
            request.sink = <PyObject*> sink
            Py_DECREF(<object> before)

    def recall(self):
        """Take back the requests that are not written yet."""
        entries = self.entries()[self.written:]
        self._drop_unwritten()
        return [entry for entry in entries if entry.sink is not DISCARD]

    def restart(self, double now):
        """Set the time at which all requests came to ``now``."""
        cdef Py_ssize_t index
        for index in range(self._head, self._head + self._count):
            self._requests[index & self._mask].since = now

    def expire(self, double before):
        """Discard the requests that came before ``before``, and return them: (written ones, unwritten ones)."""
        cdef Py_ssize_t index
        cdef Request* request
        cdef Sink sink
        late = []
        unwritten = []
        for index, entry in list(self._walk(_OVERDUE, before, None)):
            if index >= self.written:
                unwritten.append(entry)
                continue
            late.append(entry)
            request = &self._requests[(self._head + index) & self._mask]
            sink = <Sink> request.sink
            Py_INCREF(DISCARD)
            request.sink = <PyObject*> DISCARD
            request.token = 0
            if request.length > 0:
                request.length = -request.length  # the bytes were written, and are still counted as unanswered
            Py_DECREF(sink)
        if unwritten:
            keep = [entry for entry in self.entries()[self.written:] if entry.since >= before or entry.sink is DISCARD]
            self._drop_unwritten()
            for entry in keep:
                self.push(entry.sink, entry.token, entry.frame, 0, len(entry.frame), entry.since)
        return late, unwritten

    def drain(self):
        """Empty the FIFO; return the requests that are not discarded: (written ones, unwritten ones), each in order."""
        entries = self.entries()
        written = self.written
        self._clear()
        return (
            [entry for entry in entries[:written] if entry.sink is not DISCARD],
            [entry for entry in entries[written:] if entry.sink is not DISCARD],
        )

    # ---- memory

    cdef Py_ssize_t _unsent_bytes(self):
        """How many bytes are not written yet."""
        cdef Py_ssize_t index
        cdef Py_ssize_t size = self._open_size
        for index in range(self._held - self._unwritten_pieces, self._held):
            size += PyBytes_GET_SIZE(<object> self._pieces[(self._first + index) & self._piece_mask].data)
        return size

    cdef int _grow(self) except -1:
        """Double the ring of requests."""
        cdef Py_ssize_t size = (self._mask + 1) * 2 if self._mask >= 0 else _FEWEST
        cdef Py_ssize_t index
        cdef Request* grown = <Request*> PyMem_Malloc(size * sizeof(Request))
        if grown == NULL:
            raise MemoryError
        for index in range(self._count):
            grown[index] = self._requests[(self._head + index) & self._mask]
        PyMem_Free(self._requests)
        self._requests = grown
        self._head = 0
        self._mask = size - 1
        return 0

    cdef int _seal(self) except -1:
        """Make a piece of the copied requests."""
        if not self._open_count:
            return 0
        self._add_piece(PyBytes_FromStringAndSize(self._open, self._open_size), self._open_count)
        self._open_size = self._open_count = 0
        if self._open_room > _KEPT_ROOM:
            PyMem_Free(self._open)
            self._open = NULL
            self._open_room = 0
        return 0

    cdef int _add_piece(self, bytes piece, Py_ssize_t count) except -1:
        """Add a piece that holds ``count`` requests behind the others."""
        cdef Py_ssize_t size, index
        cdef Piece* grown
        if self._held > self._piece_mask:
            size = (self._piece_mask + 1) * 2 if self._piece_mask >= 0 else 4
            grown = <Piece*> PyMem_Malloc(size * sizeof(Piece))
            if grown == NULL:
                raise MemoryError
            for index in range(self._held):
                grown[index] = self._pieces[(self._first + index) & self._piece_mask]
            PyMem_Free(self._pieces)
            self._pieces = grown
            self._first = 0
            self._piece_mask = size - 1
        index = (self._first + self._held) & self._piece_mask
        Py_INCREF(piece)
        self._pieces[index].data = <PyObject*> piece
        self._pieces[index].left = count
        self._held += 1
        self._unwritten_pieces += 1
        return 0

    cdef int _release_one(self) except -1:
        """Forget the oldest request, a written one."""
        cdef PyObject* sink = self._requests[self._head].sink
        cdef Py_ssize_t length
        cdef Piece* piece = &self._pieces[self._first]
        cdef PyObject* data
        length = self._requests[self._head].length
        self.unanswered -= length if length > 0 else -length
        self._head = (self._head + 1) & self._mask
        self._count -= 1
        self.written -= 1
        piece.left -= 1
        if not piece.left:
            data = piece.data
            self._first = (self._first + 1) & self._piece_mask
            self._held -= 1
            Py_DECREF(<object> data)
        Py_DECREF(<object> sink)
        if not self._count and self._mask >= _KEPT_REQUESTS:
            PyMem_Free(self._requests)
            self._requests = NULL
            self._head = 0
            self._mask = -1
        return 0

    def _walk(self, int which, double before, owner):
        """The requests as entries, each with its place: all of them, or those that came before ``before`` and are not
        discarded, or those of ``owner``."""
        cdef Py_ssize_t index, left
        cdef Py_ssize_t piece = self._first
        cdef Request* request
        cdef char* begin
        cdef bytes held
        cdef PyObject* last = NULL
        cdef bint own = False
        left = self._pieces[piece].left if self._held else 0
        for index in range(self._count):
            while not left and piece < self._first + self._held:
                piece += 1
                left = self._pieces[piece & self._piece_mask].left if piece < self._first + self._held else 0
            if left:
                held = <bytes> self._pieces[piece & self._piece_mask].data
                begin = PyBytes_AS_STRING(held)
                left -= 1
            else:
                held = None
                begin = self._open
            request = &self._requests[(self._head + index) & self._mask]
            if which == _OVERDUE:
                if request.since >= before or request.sink == <PyObject*> DISCARD:
                    continue
            elif which == _OF_OWNER:
                if request.sink != last:
                    last = request.sink
                    own = (<object> last).owner is owner
                if not own:
                    continue
            if request.length < 0:
                frame = b""
            elif held is not None and request.length == len(held):
                frame = held
            else:
                frame = PyBytes_FromStringAndSize(begin + request.offset, request.length)
            yield index, Entry(<object> request.sink, request.token, frame, request.since)

    def _drop_unwritten(self):
        """Forget the requests that are not written, and their bytes."""
        cdef Py_ssize_t index
        cdef PyObject* data
        self._open_size = self._open_count = 0
        while self._unwritten_pieces:
            self._unwritten_pieces -= 1
            self._held -= 1
            data = self._pieces[(self._first + self._held) & self._piece_mask].data
            Py_DECREF(<object> data)
        while self._count > self.written:
            self._count -= 1
            index = (self._head + self._count) & self._mask
            Py_DECREF(<object> self._requests[index].sink)

    cdef int _clear(self) except -1:
        """Forget all requests and pieces."""
        cdef PyObject* data
        self._open_size = self._open_count = self._unwritten_pieces = self.written = 0
        self.unanswered = 0
        while self._held:
            self._held -= 1
            data = self._pieces[(self._first + self._held) & self._piece_mask].data
            Py_DECREF(<object> data)
        while self._count:
            self._count -= 1
            data = self._requests[(self._head + self._count) & self._mask].sink
            Py_DECREF(<object> data)
        return 0
