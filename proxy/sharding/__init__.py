"""The mapping of keys to slots, and of slots to servers. No I/O; ``discovery`` makes topologies, which never change.

::

    slots       the slot of a key (CRC16, hash tags)
    colocation  the slot of a key where rules choose the part that is hashed
    topology    shards, primaries, replicas and slots: one immutable snapshot, swapped whole
"""
