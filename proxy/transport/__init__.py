"""Sockets, and turns of the event loop. The package carries bytes; it knows no clients, no servers and no commands.

::

    transports       connections over the event loop's own transports
    epoll            connections over an epoll descriptor of the proxy (Linux, compiled)
    epoll_transport  the transport of one such connection, and the epoll descriptor
    sockets          settings of TCP sockets
    tls              TLS to the servers, and the words for a failed handshake
    client_tls       TLS on a client's connection: the handshake, and what the connection is made of
    tls_input        its reading half
    tls_output       its writing half
    tls_listener     the certificates of the listeners, renewed from their files
    log_rate         keeps a flood of events from filling the log
    watched_files    tells when certificates, keys or the configuration file have changed
    handshakes       carries out TLS handshakes in a thread
    listeners        listening sockets
    proxy_header     the header of the PROXY protocol as bytes
    proxy_protocol   reads the header of a new connection, ahead of the connection's own protocol
    addresses        the IP addresses of a server's name
    descriptors      the division of a process's file descriptors, and the spare one
    flow_control     the reasons to stop reading from a client, and the timeout of a client that does not read
    write_batch      one turn of the event loop: the share of each client, and the writes that end it
    job_runner       runs long jobs in slices, a few milliseconds a turn
    clock            the clock of a worker, which counts only the time in which the process ran, and its deadlines
"""
