"""One client's connection: its bytes in, its replies out, and what is carried out without a detour.

::

    connection        the connection: framing, fairness, and writing
    client            its requests one at a time: answered, planned, or refused
    services          what a client uses of its worker
    fast_path         forwards plain commands without decoding them
    fast_commands     what the fast path knows of commands
    own_fast_path     answers the proxy's own commands without decoding them
    own_answers       what that path knows of commands
    large_request     reads one large request to where it will lie
    read_your_writes  which reads go to the primary, after a write of the client
    backlog           what waits for clients that do not read, and its bounds
    registry          the clients of a worker
    shared_counts     what is counted over all workers: ids, connected and blocked clients
"""
