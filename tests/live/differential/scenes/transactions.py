"""Transactions, and keys that are watched."""

TRANSACTIONS = {
    "a transaction": r"""
        a: MULTI
        a: SET %k 1
        a: INCR %k
        a: LPUSH %k x
        a: GET %k
        a: HSET %h f v g 1.5
        a: HGETALL %h
        a: ZADD %z 1.5 m
        a: ZSCORE %z m
        a: EXEC
        a: GET %k
    """,
    "of reads only": r"""
        a: MULTI
        a: GET %none
        a: MGET %none %other
        a: EXISTS %none %other
        a: SMEMBERS %none
        a: EXEC
    """,
    "nothing queued": r"""
        a: MULTI
        a: EXEC
        a: MULTI
        a: DISCARD
        a: EXEC
        a: DISCARD
        a: MULTI x
        a: EXEC x
        a: DISCARD x
        a: EXEC
    """,
    "an unknown command": r"""
        a: SET %k old
        a: MULTI
        a: SET %k new
        a: NOSUCH one two
        a: SET %k newer
        a: EXEC
        a: GET %k
        a: EXEC
    """,
    "wrong arity": r"""
        a: MULTI
        a: SET %k
        a: CONFIG NOSUCH
        a: EXEC
        a: MULTI
        a: GET
        a: DISCARD
        a: EXEC
        a: GET %k
    """,
    "MULTI and WATCH inside": r"""
        a: MULTI
        a: SET %k 1
        a: MULTI
        a: WATCH %k
        a: UNWATCH
        a: EXEC
        a: GET %k
        a: MULTI
        a: WATCH %k
        a: MULTI
        a: DISCARD
        a: PING
    """,
    "discarded": r"""
        a: MULTI
        a: SET %k 1
        a: DISCARD
        a: EXISTS %k
        a: MULTI
        a: INCR %k
        a: EXEC
    """,
    "an error in the middle does not undo": r"""
        a: SET %text words
        a: MULTI
        a: INCR %text
        a: SET %k kept
        a: LPUSH %text x
        a: SET %k
        a: EXEC
        a: MULTI
        a: INCR %text
        a: SET %k kept
        a: EXEC
        a: GET %k
    """,
    "of what needs no key": r"""
        a: MULTI
        a: PING
        a: PING hello
        a: ECHO hello
        a: EXEC
        a: MULTI
        a: PING a b
        a: EXEC
        a: MULTI
        a: ECHO one
        a: SET %k 1
        a: ECHO two
        a: GET %k
        a: PING
        a: EXEC
        a: MULTI
        a: TIME
        a: EXEC
    """,
    "of the connection's own state": r"""
        a: MULTI
        a: CLIENT SETNAME inside
        a: CLIENT GETNAME
        a: EXEC
        a: CLIENT GETNAME
        a: MULTI
        a: CLIENT SETNAME discarded
        a: DISCARD
        a: CLIENT GETNAME
        a: MULTI
        a: CLIENT SETNAME "bad name"
        a: SET %k 1
        a: AUTH nobody wrong
        a: EXEC
        a: GET %k
    """,
    "with SELECT": r"""
        a: SET %k zero
        a: MULTI
        a: SELECT 4
        a: SET %k four
        a: GET %k
        a: SELECT 99
        a: SELECT 0
        a: GET %k
        a: SELECT 4
        a: EXEC
        a: GET %k
        a: SELECT 0
        a: GET %k
        a: MULTI
        a: SELECT 7
        a: DISCARD
        a: GET %k
    """,
    "HELLO inside": r"""
        a: MULTI
        a: HELLO 3
        a: HGETALL %none
        a: EXEC
        a: HGETALL %none
    """,
    "of blocking commands": r"""
        a: RPUSH %l one two
        a: MULTI
        a: BLPOP %none 0
        a: BLPOP %l 0
        a: BRPOPLPUSH %none %dest 0
        a: BLMOVE %l %dest LEFT RIGHT 0
        a: BLMPOP 0 1 %none LEFT
        a: BZPOPMIN %none 0
        a: BZPOPMAX %none 0
        a: BZMPOP 0 1 %none MIN
        a: XREAD BLOCK 0 STREAMS %none $
        a: BLPOP %none x
        a: EXEC
        a: LRANGE %dest 0 -1
    """,
    "of scripts": r"""
        a: SCRIPT LOAD "return redis.call('incr', KEYS[1])"
        a: MULTI
        a: EVAL "return redis.call('set', KEYS[1], ARGV[1])" 1 %k 5
        a: EVALSHA 2bab3b661081db58bd2341920e0ba7cf5dc77b25 1 %k
        a: EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 %k
        a: EVAL "return redis.error_reply('MY error')" 1 %k
        a: EXEC
        a: GET %k
    """,
    "RESET inside": r"""
        a: MULTI
        a: SET %k 1
        a: RESET
        a: EXEC
        a: EXISTS %k
    """,
    "QUIT inside": r"""
        a: MULTI
        a: SET %k 1
        a> QUIT
        a closed
        b: EXISTS %k
    """,
    "CLIENT REPLY around": r"""
        a: MULTI
        a: SET %k 1
        a: GET %k
        a: EXEC
        a> CLIENT REPLY OFF
        a> MULTI
        a> SET %k 2
        a> EXEC
        a: CLIENT REPLY ON
        a: GET %k
    """,
    "in one write": r"""
        a> MULTI
        a> SET %k 1
        a> INCR %k
        a> EXEC
        a> GET %k
        a> MULTI
        a> GET %k
        a> DISCARD
        a> MULTI
        a> NOSUCH
        a> EXEC
        a> SET %k done
        a< 12
    """,
    "not every command is allowed inside": r"""
        a: MULTI
        a: SUBSCRIBE channel
        a: EXEC
        a: GET %k
    """,
}

WATCHES = {
    "nothing changed": r"""
        a: SET %k 1
        a: WATCH %k %l
        a: GET %k
        a: MULTI
        a: SET %k 2
        a: GET %k
        a: EXEC
        a: GET %k
    """,
    "changed by another": r"""
        a: SET %k 1
        a: WATCH %k
        b: SET %k theirs
        a: MULTI
        a: SET %k mine
        a: EXEC
        a: GET %k
        a: MULTI
        a: SET %k mine
        a: EXEC
        a: GET %k
    """,
    "changed by itself": r"""
        a: WATCH %k
        a: SET %k 1
        a: MULTI
        a: GET %k
        a: EXEC
    """,
    "made or deleted": r"""
        a: WATCH %k
        b: SET %k 1
        a: MULTI
        a: PING
        a: EXEC
        a: WATCH %k
        b: DEL %k
        a: MULTI
        a: EXEC
        a: WATCH %k
        b: DEL %k
        a: MULTI
        a: EXEC
    """,
    "another key changed": r"""
        a: WATCH %k
        b: SET %other 1
        a: MULTI
        a: SET %k 1
        a: EXEC
    """,
    "changed after MULTI": r"""
        a: WATCH %k
        a: MULTI
        a: SET %k mine
        b: SET %k theirs
        a: EXEC
        a: GET %k
    """,
    "unwatched": r"""
        a: WATCH %k
        b: SET %k theirs
        a: UNWATCH
        a: MULTI
        a: SET %k mine
        a: EXEC
        a: UNWATCH
        a: WATCH
        a: UNWATCH x
    """,
    "DISCARD and EXEC let go": r"""
        a: WATCH %k
        a: MULTI
        a: DISCARD
        b: SET %k theirs
        a: MULTI
        a: SET %k mine
        a: EXEC
        b: SET %k theirs
        a: MULTI
        a: GET %k
        a: EXEC
    """,
    "an aborted EXEC lets go": r"""
        a: WATCH %k
        a: MULTI
        a: NOSUCH
        a: EXEC
        b: SET %k theirs
        a: MULTI
        a: GET %k
        a: EXEC
    """,
    "RESET lets go": r"""
        a: WATCH %k
        a: RESET
        b: SET %k theirs
        a: MULTI
        a: GET %k
        a: EXEC
    """,
    "watched twice": r"""
        a: WATCH %k
        a: WATCH %k %l
        b: SET %l theirs
        a: MULTI
        a: GET %k
        a: EXEC
    """,
    "emptied by all shards' commands": r"""
        a: SET %k 1
        a: WATCH %k
        b: FLUSHALL
        a: MULTI
        a: GET %k
        a: EXEC
    """,
    "in one write": r"""
        a: SET %k 5
        a> WATCH %k
        a> GET %k
        a> MULTI
        a> INCR %k
        a> EXEC
        a> GET %k
        a< 6
    """,
    "nothing to do": r"""
        a: WATCH %k
        b: SET %k theirs
        a: MULTI
        a: EXEC
        a: MULTI
        a: EXEC
    """,
    "other commands meanwhile": r"""
        a: WATCH %k
        a: SET %other 1
        a: GET %other
        a: PING
        a: DEL %other
        a: MULTI
        a: SET %k mine
        a: EXEC
        a: GET %k
    """,
    "of another database": r"""
        a: SELECT 2
        a: WATCH %k
        b: SET %k zero
        a: MULTI
        a: SET %k two
        a: EXEC
        a: WATCH %k
        b: SELECT 2
        b: SET %k theirs
        a: MULTI
        a: SET %k mine
        a: EXEC
        a: GET %k
    """,
}
