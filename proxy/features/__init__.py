"""What a client can be in the middle of, and the commands that are more than one request to one server.

Each has a narrow face: it sees its client and the servers, and never the connection of another client.

::

    login          passwords whose digest takes long to compute
    host               what a feature may use of its client, and of what the clients share
    state              what one client is in the middle of
    request            one request, taken apart, and the reply that its client waits for
    commands           the table of the proxy's own commands, and which feature takes a command
    own_dispatch       which handler answers one of them, for EXEC and the slow path
    transactions       MULTI, EXEC, DISCARD, WATCH and UNWATCH
    watch              the keys that a client watches
    exec_reply         the reply to EXEC, with what the proxy answers itself
    blocking           commands that block
    wait               WAIT and WAITAOF
    subscriptions      what one client is subscribed to
    publish            the commands of pub/sub
    tracking           CLIENT TRACKING and CLIENT CACHING
    tracking_client    one client that tracks, and its connections
    tracking_redirect  the connections that hear invalidations for clients in RESP2
    monitor            MONITOR
    pause              what a CLIENT PAUSE holds
    unshared           requests that a server may answer with more than one frame
    scan               pages of SCAN whose cursor does not fit
    slotgate           SLOTGATE, for administrators
    script_kill        SCRIPT KILL, FUNCTION KILL and FUNCTION STATS
    slow_scripts       keeps other callers away from a connection on which a script runs long
"""
