"""One client's connection: its bytes in, its replies out, and what becomes of its requests.

::

    connection        the connection: bytes in, replies out, and when it is read from
    kept_input        what is received and not carried out yet
    request_loop      takes each request to the first path that carries it out
    fast_path         forwards plain commands without decoding them
    fast_paths        what both fast paths know, renewed with the servers and the topology
    fast_commands     what the fast path knows of commands
    own_fast_path     answers the proxy's own commands without decoding them
    own_answers       what that path knows of commands
    slow_path         every other request: parsed, and answered, planned or refused
    own_commands      answers the proxy's own commands, on the slow path
    planned           sends requests as they are planned, on the slow path
    client            the state of one client, and its replies
    pacing            how many requests may be in flight, by the size of the replies
    read_your_writes  which reads go to the primary, after a write of the client
    large_request     reads one large request to where it will lie
    services          what a client uses of its worker
    backlog           what waits for clients that do not read, and its bounds
    registry          the clients of a worker
    admission         who may come in
    timeouts          closes clients that leave the proxy waiting
    shared_counts     what is counted over all workers: ids, connected and blocked clients
"""
