"""Connections to servers, and the requests on them. Clients are not known here: a reply is delivered to a sink.

::

    connection         the base of every connection to a server: handshake, the reason of its loss
    reconnecting       a connection that connects again whenever it is lost, with its states as a table
    shared             one connection that many clients share
    pool               all shared connections of a worker
    routes             the connection that serves a slot
    dispatch           carries out plans over shared connections
    settings           the place of a connection, and the settings and events that all connections share
    handshake          the first commands on a new connection, and the checks of their replies
    connect_gate       limits the attempts to connect to a server that is down
    query              requests to a server outside of the data path
    dedicated          one connection that one client has for itself for a while
    dedicated_server   the dedicated connections to one server, and the claims that wait for one
    dedicated_pool     all dedicated connections of a worker
    dedicated_request  the base of requests over dedicated connections: retries, deadlines, -UNCERTAIN
    monitored          a connection with MONITOR on, which shows all commands of a server
    single_request     one request over a dedicated connection that is then closed
    blocking_request   one request that may block, over a dedicated connection
    exec_request       WATCH, or the block of a transaction, over a dedicated connection
    redirections       sends refused requests to the server that takes them, in order
    refused_requests   the states of refused requests and of the requests in flight behind them
    script_errors      decides whether a server's error is a refusal, which a script may imitate
    long_replies       remembers the requests that had very long replies lately
    error_replies      judges errors that arrive over a shared connection: refusals, and all others
    lost_requests      retries or answers the requests of a lost connection
    upstream           the servers behind one interface: routes, connections, held shards
    upstream_events    handles the events of the connections, and decides about the requests on them
    replica_lag        measures how far a replica is behind, and decides whether it may serve reads
"""
