"""Connections to servers, and the requests on them. It knows no clients: a reply goes to a sink.

::

    connection         what every connection to a server has: handshake, the reason of its loss
    reconnecting       a connection that is made anew whenever it is lost, with its states as a table
    shared             one connection that many clients share
    pool               all shared connections of a worker
    routes             which connection serves a slot
    dispatch           carries out plans over shared connections
    settings           what the connections of a worker have in common, and what one is for
    handshake          what is said first on a new connection
    connect_gate       how often, and how many at once, a connection to a server is tried
    query              questions to a server outside of the data path
    dedicated          one connection that one client has for itself for a while
    dedicated_server   the dedicated connections to one server, and who waits for one
    dedicated_pool     all dedicated connections of a worker
    dedicated_request  what requests over dedicated connections have in common: retries, deadlines, -UNCERTAIN
    single_request     one request over a dedicated connection that is then closed
    blocking_request   one request that may block, over a dedicated connection
    exec_request       WATCH, or the block of a transaction, over a dedicated connection
    redirections       requests that were refused, on their way to the server that takes them, in order
    refused_requests   requests that were refused, and what their client has in flight behind them
    script_errors      what the errors of servers refuse, and what would prove it
    long_replies       requests that have had very long replies lately
    error_replies      errors that come over a shared connection: refusals, and all others
    lost_requests      requests whose connection was lost
    upstream           the servers behind one face: routes, connections, held shards
    upstream_events    what happens on the connections, and what becomes of the requests on them
    replica_lag        how far a replica is behind, and whether it is fit for reads
"""
