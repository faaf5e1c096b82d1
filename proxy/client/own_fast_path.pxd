import cython

from proxy.client.client cimport Conversation
from proxy.engine.window cimport ReplyWindow
from proxy.metrics cimport CommandCounter
from proxy.client.own_answers cimport Call, OwnLane
from proxy.session.session cimport Session
from proxy.planning.exec_block cimport Queue, Queued
from proxy.transport.write_batch cimport Turn

cdef bytes _NOAUTH
cdef int _OWN
cdef int _IS_OWN
cdef int _QUEUES
cdef int _SPOILED
cdef int _LISTENS
cdef Py_ssize_t _FEW
cdef Py_ssize_t _LINE
cdef Py_ssize_t _PING_MOST


@cython.locals(
    lane=OwnLane, text=bytes, session=Session, size=Py_ssize_t, step=Py_ssize_t, call=Call, window=ReplyWindow,
    fixed=bytes, counter=CommandCounter, queues=bint,
)
cpdef Py_ssize_t repeat(Conversation client, bytes data, Py_ssize_t pos, Turn turn, bint more) except -1


@cython.locals(queue=Queue, item=Queued)
cdef bint _queue_again(Conversation client, Session session, OwnLane lane) except -1


@cython.locals(
    reply=bytes, authenticated=bint, db=Py_ssize_t, protocol=int, reads_replicas=bint, moved=bint, window=ReplyWindow,
)
cdef bint carry_out(Conversation client, Session session, Call call, list args) except -1


@cython.locals(
    manner=int, lane=OwnLane, args=list, call=Call, count=Py_ssize_t, session=Session, arity=Py_ssize_t, refusal=bytes,
    keeps=bint, reply=bytes, window=ReplyWindow,
)
cpdef bint answer(Conversation client, bytes frame, bint inline) except -1


cdef bint _ends_nothing(Conversation client, Session session, Call call, list args) except -1


@cython.locals(count=Py_ssize_t, turn=Turn)
cdef bint _lists_at_once(Conversation client) except -1


@cython.locals(queue=Queue, item=Queued)
cdef bint _enqueue(
    Conversation client, Session session, OwnLane lane, Call call, list args, bytes frame, bint inline, bint keeps
) except -1


@cython.locals(reply=bytes, queue=Queue)
cdef bint _begin_or_end(Conversation client, Session session, Call call) except -1


@cython.locals(lane=OwnLane, replies=list, item=Queued)
cdef bytes _execute(Conversation client, Session session, list items)
