"""One client's connection: receives its requests, carries them out, and sends the replies.

::

    connection        the connection: bytes in, replies out, and when it is read from
    holdings          the memory that a client holds: requests, replies, a transaction, subscriptions
    memory_budget     decides which clients are not read from, or closed, when memory is short
    kept_input        bytes that are received but not carried out yet
    request_loop      gives each request to the first path that carries it out
    fast_path         forwards plain commands without decoding them
    fast_paths        facts that both fast paths use, renewed with the servers and the topology
    fast_commands     facts about commands for the fast path
    own_fast_path     answers the proxy's own commands without decoding them
    own_answers       facts about commands for the own fast path
    slow_path         every other request: parsed, and answered, planned or refused
    own_commands      answers the proxy's own commands, on the slow path
    planned           sends requests as they are planned, on the slow path
    client            the state of one client, and its replies
    pacing            the number of requests that may be in flight, by the size of the replies
    read_your_writes  decides which reads go to the primary after a write of the client
    large_request     reads one large request directly into its buffer
    services          Protocols of what a client uses of its worker
    backlog           the replies that wait for clients that do not read, and their limits
    registry          the clients of a worker
    admission         decides which clients may connect
    allowance         what the clients of one user, or of one address, may do together
    quota             the limits of a client by its user and its address, and before its login
    user_limits       counts the clients of each user, and gives each client its quota
    timeouts          closes clients that leave the proxy waiting
    shared_counts     counters that all workers share: ids, connected and blocked clients
"""
