"""Where keys live. Pure: no I/O; ``discovery`` makes the topology, and nobody edits it.

::

    slots       the slot of a key (CRC16, hash tags)
    colocation  the slot of a key where rules say which part of it is hashed
    topology    shards, primaries, replicas and slots: one immutable snapshot, swapped whole
"""
