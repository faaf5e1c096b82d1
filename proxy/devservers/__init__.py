"""Real local servers, for ``slotgate demo`` and for the tests. Nothing that is served imports them.

::

    servers        redis-server and valkey-server as child processes
    cluster        a Redis Cluster of them
    sentinel       sentinels that watch them
    process_guard  child processes that do not outlive this one
    demosite       the servers of ``slotgate demo``
    demo           ``slotgate demo`` itself
"""
