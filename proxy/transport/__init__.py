"""Sockets, and turns of the event loop. It carries bytes, and knows neither clients nor servers nor commands.

::

    transports       connections as the event loop makes them
    epoll            connections over an epoll of their own (Linux, compiled)
    epoll_transport  one of those connections, and the epoll descriptor
    sockets          settings of TCP sockets
    tls              TLS to the servers, and what a failed handshake means
    listeners        listening sockets
    addresses        the addresses behind a server's name
    descriptors      how the file descriptors of a process are divided, and the one that is kept in reserve
    flow_control     when a client is read from, and what happens to one that does not read
    write_batch      one turn of the event loop: the share of each client, and the writes that end it
    job_runner       carries out long work in slices, a few milliseconds a turn
    clock            the clock of a worker, which counts the time in which the process ran, and its deadlines
"""
