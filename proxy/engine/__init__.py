"""The primitives of the data path: small contracts of a few methods, each cheap enough to be called once per command.

Modules with a .pxd beside them are compiled by Cython, here and in the other packages: from the .pyx where there is one
(a twin in the terms of C, with the same methods), and else from the .py itself. Everything also runs as it stands, more
slowly. The engine knows bytes and tokens. It knows no sockets, no commands and no clients.

::

    entry           one request on its way to a server
    inflight        the FIFO of a connection: what is still to be written, and what waits for its reply
    reply_reader    cuts a server's bytes into replies, and gives each to the sink that waits for it
    receiver        the base class of whoever receives the bytes of a connection
    receive_buffer  room for one large request, filled by the transport
    sink            where a reply goes
    window          puts the replies of one client back into the order of its requests
    jobs            long work as generators, which yield where they may be interrupted
"""
