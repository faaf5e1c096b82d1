import cython

from proxy.client.client cimport Client
from proxy.engine.window cimport ReplyWindow
from proxy.features.state cimport Modes
from proxy.metrics cimport CommandCounter
from proxy.client.own_answers cimport Call, OwnAnswers
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
    lookup=OwnAnswers, text=bytes, session=Session, size=Py_ssize_t, step=Py_ssize_t, call=Call, window=ReplyWindow,
    fixed=bytes, counter=CommandCounter, queues=bint,
)
cpdef Py_ssize_t repeat(Client client, bytes data, Py_ssize_t pos, Turn turn, bint more) except -1


@cython.locals(queue=Queue, item=Queued)
cdef bint _queue_again(Client client, Session session, OwnAnswers lookup) except -1


@cython.locals(
    reply=bytes, authenticated=bint, db=Py_ssize_t, protocol=int, reads_replicas=bint, moved=bint, window=ReplyWindow,
    user=str, same=bint,
)
cdef bint carry_out(Client client, Session session, Call call, list args) except -1


@cython.locals(
    mode=int, lookup=OwnAnswers, args=list, call=Call, count=Py_ssize_t, session=Session, arity=Py_ssize_t, refusal=bytes,
    keeps=bint, reply=bytes, window=ReplyWindow,
)
cpdef bint answer(Client client, bytes frame, bint inline) except -1


cdef bint _ends_nothing(Client client, Session session, Call call, list args) except -1


@cython.locals(count=Py_ssize_t, turn=Turn)
cdef bint _lists_at_once(Client client) except -1


@cython.locals(queue=Queue, item=Queued)
cdef bint _enqueue(
    Client client, Session session, OwnAnswers lookup, Call call, list args, bytes frame, bint inline, bint keeps
) except -1


@cython.locals(reply=bytes, queue=Queue)
cdef bint _begin_or_end(Client client, Session session, Call call) except -1


@cython.locals(modes=Modes)
cdef Queue _queue(Client client)


@cython.locals(modes=Modes, session=Session)
cdef object _begin_queue(Client client)


@cython.locals(modes=Modes)
cdef bint _only_queues(Client client) except -1


@cython.locals(modes=Modes, session=Session)
cdef object _end_queue(Client client)


@cython.locals(lookup=OwnAnswers, replies=list, item=Queued)
cdef bytes _execute(Client client, Session session, list items)
