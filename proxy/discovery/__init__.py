"""Finds the topology and follows its changes, and asks the servers for their facts. Each change makes a new snapshot.

::

    discovery       what a worker finds out about its servers, and which source a configuration asks for
    source          the contract of a source of topologies
    cluster         the source for a Redis Cluster, whose nodes are asked regularly
    clusterview     one node's view of its cluster, from its replies
    clusterplaces   the replies to CLUSTER SHARDS and CLUSTER SLOTS
    clustermembers  the views of a cluster that count: those of its members
    clustermap      decides from several views which node owns which slots
    clusternews     the changes between two maps, for the log
    sentinel        the source for masters that sentinels monitor
    sentinelview    the reports and events of sentinels, from their replies
    sentinelchart   decides from several reports which server is the primary of each master
    sentineltrust   decides which sentinels are believed
    subscription    the subscription to a sentinel's events
    roles           the source for static shards whose servers change their roles
    replication     decides from the servers' roles which one is the primary of a shard
    role_watch      checks that the servers in use as primaries still are primaries
    monitor         measures the lag of replicas, several times a second
    learn           asks servers for their commands, version and limits
    functions       finds function libraries that a primary lacks
    odd             unreadable parts of servers' replies: they are skipped, and logged once
"""
