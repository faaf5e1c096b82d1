"""Transactions: what is queued, what is refused, and what EXEC answers."""

TRANSACTIONS = {
    "transactions": r"""
        MULTI
        SET %k 1
        INCR %k
        GET %k
        EXEC
        MULTI
        EXEC
        EXEC
        DISCARD
        MULTI
        SET %k 5
        DISCARD
        GET %k
        multi
        rpush %l a b c
        lrange %l 0 -1
        hset %h f v
        hgetall %h
        zadd %z 1 a
        zscore %z a
        smembers %none
        get %none
        exec
        MULTI
        LPUSH %k x
        SET %other 1
        EXEC
        GET %other
        MULTI
        SET %k
        SET %other 2
        EXEC
        GET %other
        MULTI
        NOSUCH a b
        EXEC
        MULTI
        CLIENT NOSUCH
        PING
        EXEC
        MULTI x
        DISCARD x
        EXEC x
        MULTI
        EXEC x
        EXEC
        MULTI
        DISCARD x
        SET %other 3
        EXEC
        MULTI
        DISCARD
        UNWATCH
        UNWATCH x
        WATCH
        MULTI
        SET %a 1
        MSET %a 2 %b 3
        MGET %a %b %c
        DEL %a %b
        EXISTS %a %b %k
        EXEC
        MULTI
        EVAL "return redis.call('incrby', KEYS[1], ARGV[1])" 1 %n 5
        EVAL "return {1,{2,'x'},redis.status_reply('fine')}" 0
        EVAL "return redis.call('nosuch')" 1 %n
        EXEC
        MULTI
        BLPOP %none 0
        BRPOP %l 0
        BLMOVE %l %l2 LEFT RIGHT 0
        BZPOPMIN %z 0
        XADD %s 1-1 f v
        XREAD BLOCK 0 STREAMS %s 0
        XREAD BLOCK 0 STREAMS %s $
        WAIT 0 0
        EXEC
        MULTI
        SORT %l BY nosort GET #
        EXEC
        RESET
    """,
    "transactions with what the proxy answers": r"""
        MULTI
        PING
        PING x
        ECHO x
        CLIENT SETNAME me
        CLIENT GETNAME
        UNWATCH
        EXEC
        MULTI
        SET %k 1
        ECHO x
        GET %k
        CLIENT SETNAME you
        CLIENT GETNAME
        CLIENT NO-EVICT on
        GET %k
        ACL WHOAMI
        EXEC
        CLIENT GETNAME
        MULTI
        CLIENT SETNAME nobody
        NOSUCH
        EXEC
        CLIENT GETNAME
        MULTI
        CLIENT SETNAME nobody
        DISCARD
        CLIENT GETNAME
        MULTI
        SELECT 2
        SET %k two
        GET %k
        SELECT 0
        GET %k
        SELECT 99
        SELECT x
        SELECT 2
        EXEC
        GET %k
        MULTI
        SELECT 0
        EXEC
        GET %k
        MULTI
        AUTH x
        AUTH x y
        GET %k
        EXEC
        MULTI
        RESET
        GET %k
        EXEC
    """,
    "watching": r"""
        WATCH %k
        GET %k
        MULTI
        SET %k 1
        EXEC
        WATCH %k
        SET %k 2
        MULTI
        SET %k 3
        EXEC
        GET %k
        MULTI
        SET %k 4
        EXEC
        WATCH %k %k2
        WATCH %k3
        SET %k3 1
        MULTI
        EXEC
        WATCH %k
        SET %k 5
        UNWATCH
        MULTI
        GET %k
        EXEC
        WATCH %k
        SET %k 6
        MULTI
        DISCARD
        MULTI
        GET %k
        EXEC
        WATCH %k
        MULTI
        NOSUCH
        EXEC
        WATCH %k
        SET %k 7
        MULTI
        NOSUCH
        EXEC
        MULTI
        GET %k
        EXEC
        WATCH %k
        MULTI
        EXEC
        WATCH %k
        MULTI
        PING
        EXEC
        WATCH %k
        SELECT 1
        SET %k elsewhere
        MULTI
        GET %k
        SELECT 0
        GET %k
        EXEC
        WATCH %k
        SELECT 1
        WATCH %k
        SET %k again
        MULTI
        GET %k
        EXEC
        SELECT 0
        WATCH %k
        SET %k 8
        RESET
        MULTI
        GET %k
        EXEC
        WATCH %k
        UNWATCH x
        SET %k 9
        MULTI
        UNWATCH
        EXEC
        WATCH %gone
        DEL %gone
        MULTI
        SET %gone 1
        EXEC
        WATCH %gone
        PEXPIRE %gone 100000
        MULTI
        EXEC
    """,
}
