"""RESP on the wire: bytes in, offsets out. No I/O, and no knowledge of what a command means.

::

    requests        frames and splits what clients send
    replies         frames what servers send, and finds the elements of an aggregate
    bounded_reader  decodes the replies to the proxy's own questions, within bounds
    encode          writes requests, and replies in RESP2 and RESP3
    info            the fields of an INFO document
    role            what a server replies to ROLE
    limits          bounds of a request, by default those of Redis
    numbers         parses integers as Redis's string2ll does
    glob            matches Redis's glob patterns in bounded time
"""
