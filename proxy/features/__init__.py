"""The modes of a client (transaction, subscriptions ...), and commands that take more than one request to one server.

Each feature has a narrow interface: it uses its client and the servers, and never the connection of another client.

::

    host               the parts of its client, and of the objects shared by clients, that a feature may use
    state              the modes that one client is in
    request            one parsed request, and the reply that its client waits for
    commands           the table of the proxy's own commands, and the choice of the feature that takes a command
    own_dispatch       how one of the proxy's own commands is answered, for EXEC and the slow path
    login              passwords whose digest takes long to compute
    transactions       MULTI, EXEC, DISCARD, WATCH and UNWATCH
    watch              the keys that a client watches
    exec_reply         the reply to EXEC, including the replies that the proxy makes itself
    blocking           commands that block
    wait               WAIT and WAITAOF
    subscriptions      the subscriptions of one client
    pending_changes    the commands of one client that subscribe or unsubscribe, until they are confirmed
    publish            the commands of pub/sub
    tracking           CLIENT TRACKING and CLIENT CACHING
    tracking_client    one client with CLIENT TRACKING on, and its connections
    tracking_redirect  the connections that receive invalidations for clients in RESP2
    monitor            MONITOR
    pause              the commands that a CLIENT PAUSE holds
    unshared           requests that a server may answer with more than one frame
    scan               pages of SCAN whose cursor does not fit into a client's cursor
    slotgate           SLOTGATE, for administrators
    reload           SLOTGATE RELOAD: the configuration is read again
    script_watch     SLOTGATE SCRIPTS: what scripts use beyond their declared keys
    script_kill        SCRIPT KILL, FUNCTION KILL and FUNCTION STATS
    unseen_scripts   calls of scripts that the proxy does not know and that declare no key
    slow_scripts       the avoidance of connections on which a script runs long
"""
