"""What users with ``admin = true`` may do: sent to all servers, answered as one answers."""

ADMINISTRATION = {
    "CONFIG": r"""
        a: CONFIG SET maxmemory-samples 7
        a: CONFIG GET maxmemory-samples
        a: CONFIG SET maxmemory-samples 5 hz 200
        a: CONFIG SET maxmemory-samples x
        a: CONFIG SET nosuch 1
        a: CONFIG SET maxmemory-samples
        a: CONFIG RESETSTAT
        a: CONFIG RESETSTAT x
        a: CONFIG REWRITE
    """,
    "OBJECT FREQ": r"""
        a: CONFIG SET maxmemory-policy allkeys-lfu
        a: SET %k v
        a: OBJECT FREQ %k
        a: OBJECT FREQ %none
        a: OBJECT IDLETIME %k
        a: CONFIG SET maxmemory-policy noeviction
        a: OBJECT FREQ %k
    """,
    "data on disk": r"""
        a: SAVE
        a: BGSAVE WHAT
        a: SAVE x
        a: BGREWRITEAOF x
        a: BGSAVE
        * rdb_bgsave_in_progress:0
        a: BGREWRITEAOF
        * aof_rewrite_in_progress:0
    """,
    "what never stands in a transaction": r"""
        a: MULTI
        a: SAVE
        a: EXEC
        a: MULTI
        a: SAVE x
        a: SHUTDOWN NOSUCH
        a: PSYNC a b
        a: DISCARD
    """,
    "databases change places": r"""
        a: SET %k zero
        a: SELECT 3
        a: SET %k three
        a: SWAPDB 0 3
        a: GET %k
        a: SELECT 0
        a: GET %k
        a: SWAPDB 0 99
        a: SWAPDB x 1
        a: SWAPDB 0
    """,
    "what looks into servers": r"""
        a: MODULE LIST
        a: MODULE NOSUCH
        a: PFADD %h x
        a: PFDEBUG ENCODING %h
        a: PFDEBUG WHAT %h
        a: PFDEBUG ENCODING %none
        a: DEBUG SLEEP 0
        a: DEBUG SET-ACTIVE-EXPIRE 1
        a: DEBUG CHANGE-REPL-ID x
        a: DEBUG NOSUCH
        a: DEBUG
    """,
}
