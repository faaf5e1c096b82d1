"""Commands that wait: served at once, served by another connection, timed out, and what is wrong with them."""

BLOCKING = {
    "BLPOP and BRPOP at once": r"""
        a: RPUSH %l one two three four
        a: BLPOP %none %l 0
        a: BRPOP %none %l 0
        a: BLPOP %l 1.5
        a: BRPOP %l 1
        a: BLPOP %l 0.05
        a: BRPOP %none %l 0.001
    """,
    "what is wrong with BLPOP": r"""
        a: SET %text x
        a: BLPOP %text 0
        a: BLPOP %none %text 0
        a: BLPOP %none x
        a: BLPOP %none -1
        a: BLPOP %none 1e400
        a: BLPOP %none inf
        a: BLPOP %none 99999999999999999999
        a: BLPOP %none
        a: BLPOP
        a: BRPOP %text 0
        a: BRPOP %none nan
    """,
    "BLPOP served by another": r"""
        a> BLPOP %x %y 10
        * blocked_clients:1
        b: RPUSH %y one two
        a< 1
        b: LRANGE %y 0 -1
    """,
    "BRPOP served by another": r"""
        a> BRPOP %x %y 0
        * blocked_clients:1
        b: RPUSH %x one two
        a< 1
        b: LRANGE %x 0 -1
    """,
    "served by a transaction and a script": r"""
        a> BLPOP %l 10
        * blocked_clients:1
        b: MULTI
        b: RPUSH %l one
        b: RPUSH %l two
        b: EXEC
        a< 1
        a> BLPOP %m 10
        * blocked_clients:1
        b: EVAL "return redis.call('rpush', KEYS[1], 'x')" 1 %m
        a< 1
    """,
    "first come, first served": r"""
        a> BLPOP %l 10
        * blocked_clients:1
        b> BLPOP %l 10
        * blocked_clients:2
        c: RPUSH %l one
        a< 1
        c: RPUSH %l two
        b< 1
    """,
    "the wrong type does not wake it": r"""
        a> BLPOP %l 10
        * blocked_clients:1
        b: SET %l text
        b: DEL %l
        b: RPUSH %l one
        a< 1
    """,
    "what follows waits in order": r"""
        a> BLPOP %l 10
        a> SET %k after
        a> GET %k
        a> PING
        a> BLPOP %l 10
        * blocked_clients:1
        b: EXISTS %k
        b: RPUSH %l one
        a< 4
        * blocked_clients:1
        b: RPUSH %l two
        a< 1
    """,
    "BLMOVE": r"""
        a: RPUSH %l one two three
        a: BLMOVE %l %m LEFT RIGHT 0
        a: BLMOVE %l %m RIGHT LEFT 0.5
        a: LRANGE %m 0 -1
        a: BLMOVE %none %m LEFT LEFT 0.01
        a: BLMOVE %l %m UP LEFT 0
        a: BLMOVE %l %m LEFT LEFT x
        a: BLMOVE %l %m LEFT LEFT
        a: SET %text x
        a: BLMOVE %l %text LEFT LEFT 0
        a: BLMOVE %text %l LEFT LEFT 0
        a> BLMOVE %none %m LEFT RIGHT 10
        * blocked_clients:1
        b: LPUSH %none pushed
        a< 1
        b: LRANGE %m 0 -1
    """,
    "BRPOPLPUSH": r"""
        a: RPUSH %l one two
        a: BRPOPLPUSH %l %m 0
        a: BRPOPLPUSH %l %l 1
        a: BRPOPLPUSH %none %m 0.01
        a: BRPOPLPUSH %l %m -1
        a> BRPOPLPUSH %none %m 10
        * blocked_clients:1
        b: LPUSH %none pushed
        a< 1
    """,
    "BLMPOP": r"""
        a: RPUSH %l one two three four
        a: BLMPOP 0 2 %none %l LEFT
        a: BLMPOP 0 1 %l RIGHT COUNT 2
        a: BLMPOP 0.01 1 %none LEFT
        a: BLMPOP x 1 %l LEFT
        a: BLMPOP -1 1 %l LEFT
        a: BLMPOP 0 0 %l LEFT
        a: BLMPOP 0 x %l LEFT
        a: BLMPOP 0 1 %l UP
        a: BLMPOP 0 1 %l LEFT COUNT 0
        a: BLMPOP 0 5 %l LEFT
        a: BLMPOP 0 1 %l
        a> BLMPOP 10 2 %x %y RIGHT COUNT 5
        * blocked_clients:1
        b: RPUSH %y 1 2 3
        a< 1
    """,
    "BZPOPMIN and BZPOPMAX": r"""
        a: ZADD %z 1 one 2.5 two 3 three
        a: BZPOPMIN %none %z 0
        a: BZPOPMAX %z 0.5
        a: BZPOPMAX %z 0
        a: BZPOPMIN %z 0.01
        a: BZPOPMIN %z x
        a: BZPOPMAX %z -2
        a: BZPOPMAX %z
        a: SET %text x
        a: BZPOPMIN %text 0
        a> BZPOPMIN %x %y 10
        * blocked_clients:1
        b: ZADD %y 1 one 1.5 two
        a< 1
        a> BZPOPMAX %x 10
        * blocked_clients:1
        b: ZADD %x 1 one 1.5 two
        a< 1
    """,
    "BZMPOP": r"""
        a: ZADD %z 1 one 2 two 3 three 4 four
        a: BZMPOP 0 2 %none %z MIN
        a: BZMPOP 1.5 1 %z MAX COUNT 2
        a: BZMPOP 0.01 1 %none MIN
        a: BZMPOP 0 1 %z WHAT
        a: BZMPOP 0 0 %z MIN
        a: BZMPOP x 1 %z MIN
        a: BZMPOP 0 1 %z
        a> BZMPOP 10 1 %x MAX COUNT 2
        * blocked_clients:1
        b: ZADD %x 1 one 1.5 two 2 three
        a< 1
    """,
    "XREAD": r"""
        a: XADD %s 1-1 f v
        a: XREAD BLOCK 0 STREAMS %s 0
        a: XREAD COUNT 1 BLOCK 10 STREAMS %s $
        a: XREAD BLOCK x STREAMS %s $
        a: XREAD BLOCK -1 STREAMS %s $
        a: XREAD BLOCK 0 STREAMS %s
        a> XREAD BLOCK 10000 STREAMS %s %t $ $
        * blocked_clients:1
        b: XADD %t 1-1 f v
        a< 1
        a> XREAD COUNT 5 BLOCK 0 STREAMS %s 1-1
        * blocked_clients:1
        b: XADD %s 2-1 f v g w
        a< 1
    """,
    "XREADGROUP": r"""
        a: XGROUP CREATE %s g $ MKSTREAM
        a: XREADGROUP GROUP g alice BLOCK 10 STREAMS %s >
        a: XREADGROUP GROUP none alice BLOCK 10 STREAMS %s >
        a> XREADGROUP GROUP g alice BLOCK 10000 STREAMS %s >
        * blocked_clients:1
        b: XADD %s 1-1 f v
        a< 1
        a: XREADGROUP GROUP g alice BLOCK 0 STREAMS %s 0
        a> XREADGROUP GROUP g alice NOACK BLOCK 0 STREAMS %s >
        * blocked_clients:1
        b: XGROUP DESTROY %s g
        a< 1
    """,
    "CLIENT UNBLOCK": r"""
        b: CLIENT UNBLOCK @a
        a> BLPOP %l 0
        * blocked_clients:1
        b: CLIENT UNBLOCK @a
        a< 1
        a> BLPOP %l 0
        * blocked_clients:1
        b: CLIENT UNBLOCK @a ERROR
        a< 1
        a> XREAD BLOCK 0 STREAMS %s $
        * blocked_clients:1
        b: CLIENT UNBLOCK @a TIMEOUT
        a< 1
        a> BLMOVE %l %m LEFT LEFT 0
        * blocked_clients:1
        b: CLIENT UNBLOCK @a
        a< 1
        b: CLIENT UNBLOCK @a
        b: CLIENT UNBLOCK @a WHAT
        b: CLIENT UNBLOCK
        b: RPUSH %l kept
        b: LRANGE %l 0 -1
    """,
    "a client that goes away takes nothing": r"""
        a> BLPOP %l 0
        * blocked_clients:1
        b: CLIENT KILL ID @a
        * blocked_clients:0
        b: RPUSH %l kept
        b: LRANGE %l 0 -1
        a closed
    """,
    "replies not wanted": r"""
        a> CLIENT REPLY OFF
        a> BLPOP %l 10
        * blocked_clients:1
        b: RPUSH %l one two
        a: CLIENT REPLY ON
        b: LRANGE %l 0 -1
    """,
    "of another database": r"""
        a: SELECT 3
        a> BLPOP %l 10
        * blocked_clients:1
        b: RPUSH %l zero
        b: SELECT 3
        b: RPUSH %l three
        a< 1
        a: SELECT 0
        a: BLPOP %l 1
    """,
    "WAIT": r"""
        a: WAIT 0 0
        a: WAIT 1 10
        a: SET %k v
        a: WAIT 0 0
        a: WAIT 0 10
        a: WAIT 1 10
        a: WAIT x 10
        a: WAIT 1 x
        a: WAIT 1 -1
        a: WAIT -1 10
        a: WAIT 1
        a: WAIT
        a: MULTI
        a: SET %k w
        a: WAIT 1 0
        a: EXEC
        a> WAIT 2 0
        * blocked_clients:1
        b: CLIENT UNBLOCK @a
        a< 1
        a> WAIT 2 0
        * blocked_clients:1
        b: CLIENT UNBLOCK @a ERROR
        a< 1
    """,
    "WAITAOF": r"""
        a: SET %k v
        a: WAITAOF 0 0 10
        a: WAITAOF 0 1 10
        a: WAITAOF 1 0 10
        a: WAITAOF 2 0 10
        a: WAITAOF x 0 10
        a: WAITAOF 0 x 10
        a: WAITAOF 0 0 x
        a: WAITAOF 0 0 -1
        a: WAITAOF 0 -1 10
        a: WAITAOF
    """,
}
