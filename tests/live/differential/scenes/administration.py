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
        a: BGSAVE SCHEDULE
        a: SAVE x
        a: BGREWRITEAOF
        a: BGREWRITEAOF x
    """,
    "DEBUG": r"""
        a: DEBUG SLEEP 0
        a: DEBUG
    """,
}
