"""Real local servers, for ``slotgate demo`` and for the tests. The data path does not import them.

::

    servers        redis-server and valkey-server as child processes
    cluster        a Redis Cluster of such servers
    sentinel       sentinels that monitor such servers
    process_guard  kills child processes when this process ends
    demosite       the servers of ``slotgate demo``
    demo           the command ``slotgate demo``
"""
