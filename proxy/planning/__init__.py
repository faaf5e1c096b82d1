"""Decides once how a command is carried out. No I/O: bytes and facts go in, a frozen plan comes out.

The planner chooses between Forward, Pin, Scatter and Reject. The other modules merge the replies to the parts of a
command, and decide what a server's error means for a request and whether the request may be sent again.

::

    planner          chooses Forward, Pin, Scatter or Reject
    inspector        the command, the slots and the flags of a request, from its bytes
    scatter          a command that is sent in parts, and the way to merge their replies
    split            cuts requests with many keys by shard
    scan_cursor      the cursor of a SCAN over all shards
    merge            merges the replies to parts: one function for each way
    merge_context    the facts about the proxy, its clients and its servers that a merge may use
    merge_info       merges INFO and CONFIG GET of several servers
    merge_stats      merges LATENCY, MEMORY STATS, FUNCTION STATS and texts of several servers
    merge_keys       merges replies by key (MGET), and time series by name
    server_facts     versions, modules and settings of the servers, for answers about all of them
    exec_block       a transaction as bytes: MULTI, the queued commands, EXEC, and its replies
    xread_ends       the ``$`` of an XREAD that may have to be sent twice
    channels         channels, patterns and shard channels: their encoding, and the servers to subscribe at
    reply_counts     requests that a server may answer with other than one frame
    key_slots        the slots of the keys of a request, found in slices if there are very many
    query_limit      the bytes of requests that a server keeps for one connection
    retry_rules      which unanswered requests may be sent again when their connection is lost
    refusals         errors of requests that were not carried out: MOVED, ASK, TRYAGAIN, READONLY ...
    script_calls     whether a script may read or write data, from its text
    undeclared_keys  what becomes of scripts that declare no key when there are several shards
    proof            decides whether an error that looks like a refusal comes from the server or from a script
"""
