"""The primitives of the data path: small classes of a few methods, each cheap enough to be called once per command.

Modules with a .pxd beside them are compiled by Cython, here and in the other packages: from the .pyx if there is one
(a twin over C memory, with the same methods), else from the .py itself. Every module also runs uncompiled, more slowly.
The engine handles bytes and tokens. It knows no sockets, no commands and no clients.

::

    entry           one request on its way to a server
    inflight        the FIFO of a connection: the requests still to be written, and those that wait for their replies
    reply_reader    cuts a server's bytes into replies, and delivers each to the sink that waits for it
    receiver        the base class of the protocols that receive the bytes of a connection
    receive_buffer  the buffer of one large request, filled by the transport
    sink            the receiver of a reply
    window          puts the replies of one client back into the order of its requests
    jobs            long computations as generators, which yield where they may be interrupted
"""
