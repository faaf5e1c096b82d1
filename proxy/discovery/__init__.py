"""Where the topology comes from, over time, and what is learned from the servers. It hands out
snapshots, and edits none.

::

    discovery       what a worker finds out about its servers, and which source a configuration asks for
    source          the contract of a source of topologies
    cluster         a Redis Cluster, asked again and again
    clusterview     what one node of a cluster says
    clusterplaces   the replies to CLUSTER SHARDS and CLUSTER SLOTS
    clustermembers  whose views of a cluster count
    clustermap      who has which slots, by what several nodes say
    clusternews     what has changed between two maps, for the log
    sentinel        masters that sentinels watch
    sentinelview    what sentinels say
    sentinelchart   who is the primary of each master, by what several sentinels say
    sentineltrust   which sentinels are believed
    subscription    what a sentinel publishes
    roles           static shards whose servers change their roles
    replication     who is the primary of a shard, by what its servers say
    role_watch      whether the servers in use as primaries still are
    monitor         how far replicas are behind, asked several times a second
    learn           the commands, the version and the limits of the servers
    functions       function libraries that a primary lacks
    odd             odd parts of what servers say: passed over, and logged once
"""
