"""What becomes of a command, decided once. Pure: bytes and facts in, a frozen plan out; nothing here sends anything.

The planner chooses between Forward, Pin, Scatter and Reject. The other modules say how the replies of parts become one
reply, and what a server's error means for a request that is to be sent again.

::

    planner          Forward, Pin, Scatter or Reject
    inspector        what a request is that was sent
    scatter          a command that is sent in parts, and how its replies become one
    split            cuts requests with many keys by shard
    scan_cursor      the cursor of a SCAN over all shards
    merge            combines the replies of parts: one function for each way
    merge_context    what a merge may say of the proxy itself, of its clients and of its servers
    merge_info       INFO and CONFIG GET of several servers
    merge_stats      LATENCY, MEMORY STATS, FUNCTION STATS and texts of several servers
    merge_keys       replies merged by key (MGET), and time series by name
    server_facts     what servers have said of themselves, for answers that are about all of them
    exec_block       a transaction as bytes: MULTI, the queued commands, EXEC, and its replies
    xread_ends       the ``$`` of an XREAD that may have to be sent twice
    channels         channels, patterns and shard channels: how they are spelled, and on which servers they stand
    reply_counts     requests that a server may answer with more frames than one
    key_slots        the slots of a request of very many keys, found in slices
    query_limit      how much of one connection's requests a server keeps
    retry_rules      what becomes of unanswered requests when their connection is lost
    refusals         errors that say that a request was not carried out: MOVED, ASK, TRYAGAIN, READONLY ...
    proof            whether an error that looks like a refusal is one, or the words of a script
"""
