"""CLIENT TRACKING: what a client that keeps a cache is told."""

TRACKING = {
    "the default mode": r"""
        a: CLIENT TRACKING ON
        a: CLIENT TRACKINGINFO
        a: GET %k
        b: SET %k 1
        a< 1
        b: SET %k 2
        a: GET %k
        a: MGET %k %l
        b: DEL %k
        a< 1
        b: SET %l 1
        a< 1
        a: CLIENT TRACKING OFF
        a: GET %k
        b: SET %k 3
        a: CLIENT TRACKINGINFO
    """,
    "BCAST": r"""
        a: CLIENT TRACKING ON BCAST PREFIX {t PREFIX other:
        a: CLIENT TRACKINGINFO
        b: SET %k 1
        a< 1
        b: SET not-{t-this 1
        b: SET %k 2
        a< 1
        a: CLIENT TRACKING ON BCAST PREFIX {
        a: CLIENT TRACKING OFF
        a: CLIENT TRACKING ON BCAST
        b: SET %k 3
        a< 1
    """,
    "OPTIN": r"""
        a: CLIENT CACHING YES
        a: CLIENT TRACKING ON OPTIN
        a: CLIENT TRACKINGINFO
        a: GET %k
        b: SET %k 1
        a: CLIENT CACHING YES
        a: GET %k
        a: GET %l
        b: SET %l 1
        b: SET %k 2
        a< 1
        a: CLIENT CACHING NO
        a: CLIENT CACHING WHAT
    """,
    "OPTOUT": r"""
        a: CLIENT TRACKING ON OPTOUT
        a: CLIENT CACHING NO
        a: GET %k
        a: GET %l
        b: SET %k 1
        b: SET %l 1
        a< 1
        a: CLIENT CACHING YES
    """,
    "NOLOOP": r"""
        a: CLIENT TRACKING ON NOLOOP
        a: GET %k
        a: SET %k 1
        a: GET %k
        b: SET %k 2
        a< 1
    """,
    "what is wrong": r"""
        a: CLIENT TRACKING
        a: CLIENT TRACKING WHAT
        a: CLIENT TRACKING ON WHAT
        a: CLIENT TRACKING ON PREFIX x
        a: CLIENT TRACKING ON OPTIN OPTOUT
        a: CLIENT TRACKING ON BCAST OPTIN
        a: CLIENT TRACKING ON REDIRECT
        a: CLIENT TRACKING ON REDIRECT x
        a: CLIENT TRACKING ON REDIRECT 999999999
        a: CLIENT TRACKING ON BCAST PREFIX a PREFIX ab
        a: CLIENT TRACKING ON OPTIN
        a: CLIENT TRACKING ON OPTOUT
        a: CLIENT TRACKING ON BCAST
        a: CLIENT TRACKINGINFO
        a: CLIENT TRACKING OFF
        a: CLIENT CACHING YES
        a: CLIENT GETREDIR
        a: CLIENT TRACKINGINFO
    """,
    "everything is gone": r"""
        a: SET %k 1
        a: CLIENT TRACKING ON
        a: GET %k
        b: FLUSHALL
        a< 1
    """,
    "on while it is on": r"""
        a: CLIENT TRACKING ON
        a: GET %k
        a: CLIENT TRACKING ON
        b: SET %k 1
        a< 1
        a: GET %k
        a: CLIENT TRACKING ON OPTOUT
        b: SET %k 2
        a< 1
        a: GET %k
        a: CLIENT TRACKING ON OPTOUT NOLOOP
        a: SET %k 3
        a: CLIENT TRACKINGINFO
    """,
    "REDIRECT comes and goes": r"""
        a: CLIENT TRACKING ON
        a: GET %k
        a: GET %l
        a: CLIENT TRACKING ON REDIRECT @r
        b: SET %k 1
        r< 1
        a: GET %k
        a: CLIENT TRACKING ON REDIRECT @s
        b: SET %k 2
        s< 1
        a: CLIENT TRACKING ON
        b: SET %l 1
        a< 1
        a: CLIENT TRACKING ON REDIRECT @a
        a: GET %l
        b: SET %l 2
        a< 1
    """,
    "another database": r"""
        a: CLIENT TRACKING ON
        a: GET %k
        a: GET %l
        a: SELECT 1
        b: SET %k 1
        a< 1
        a: GET %k
        a: SET %l 5
        a< 1
        a: GET %k
        b: SET %k 2
        a< 1
        a: SELECT 0
        a: GET %k
        b: SET %k 3
        a< 1
        a: SELECT 1
        a: GET %l
        b: FLUSHALL
        a< 1
    """,
    "another database with BCAST": r"""
        a: CLIENT TRACKING ON BCAST
        a: SELECT 1
        a: GET %k
        a: SELECT 2
        b: SET %k 1
        a< 1
        a: SELECT 0
        a: GET %k
        b: SET %k 2
        a< 1
        b: SELECT 1
        b: DEL %k
        b: SET %k 3
        a< 1
        a: CLIENT TRACKING OFF
        b: SET %k 4
    """,
    "another protocol": r"""
        a: CLIENT TRACKING ON
        a: GET %k
        a: GET %l
        a: HELLO 2
        b: SET %k 1
        a: GET %k
        a: HELLO 3
        b: SET %k 2
        a< 1
        b: SET %l 1
        a< 1
        a: HELLO 3
        a: GET %k
        a: HELLO 2
        a: HELLO 3
        b: SET %k 3
        a< 1
        b: FLUSHALL
        a< 1
    """,
    "another protocol with BCAST and NOLOOP": r"""
        a: HELLO 2
        a: CLIENT TRACKING ON BCAST NOLOOP
        a: SET %k 1
        a: HELLO 3
        b: SET %k 2
        a< 1
        a: SET %k 3
        a: HELLO 2
        b: SET %k 4
        a: HELLO 3
        b: SET %k 5
        a< 1
        a: CLIENT TRACKINGINFO
    """,
    "another database and protocol by EXEC": r"""
        a: CLIENT TRACKING ON BCAST
        a: MULTI
        a: SELECT 3
        a: EXEC
        a: SET %k 1
        a< 1
        a: MULTI
        a: SELECT 0
        a: HELLO 2
        a: PING
        a: EXEC
        b: SET %k 2
        a: GET %k
        a: MULTI
        a: HELLO 3
        a: EXEC
        a: GET %k
        b: SET %k 3
        a< 1
    """,
    "off and on": r"""
        a: CLIENT TRACKING ON
        a: GET %k
        a: CLIENT TRACKING OFF
        b: SET %k 1
        a: CLIENT TRACKING ON BCAST
        b: SET %k 2
        a< 1
        a: RESET
        a: HELLO 3
        a: CLIENT TRACKING ON
        b: SET %k 3
        a: GET %k
        b: SET %k 4
        a< 1
    """,
    "by its own commands": r"""
        a: CLIENT TRACKING ON
        a: HSET %h f 1
        a: HGET %h f
        a: HDEL %h f
        a< 1
        a: MSET %k 1 %l 2
        a: MGET %k %l
        a: MULTI
        a: INCR %k
        a: GET %l
        a: EXEC
        a< 1
        a: EVAL "redis.call('SET', KEYS[1], 'x') return redis.call('GET', KEYS[1])" 1 %l
        a< 1
    """,
    "unblocked": r"""
        a: RPUSH %l a
        a: CLIENT TRACKING ON
        a: LRANGE %l 0 -1
        a> BLMOVE %k %l LEFT LEFT 0
        * blocked_clients:1
        b: RPUSH %k foo
        a< 2
        a: LRANGE %l 0 -1
        a> BLPOP %k 0
        * blocked_clients:1
        b: RPUSH %l bar
        a< 1
        b: RPUSH %k bar
        a< 1
    """,
    "not answered": r"""
        a: CLIENT TRACKING ON
        a: GET %k
        a> CLIENT REPLY OFF
        b: SET %k 1
        a< 1
        a> HELLO 2
        a> HELLO 3
        a> SELECT 1
        a> GET %k
        a: CLIENT REPLY ON
        b: SET %k 2
        a< 1
    """,
}

TRACKING_2 = {
    "REDIRECT": r"""
        r: SUBSCRIBE __redis__:invalidate
        a: CLIENT TRACKING ON REDIRECT @r
        a: CLIENT GETREDIR
        a: CLIENT TRACKINGINFO
        a: GET %k
        b: SET %k 1
        r< 1
        a: CLIENT TRACKING OFF
        a: CLIENT GETREDIR
    """,
    "REDIRECT over protocols and databases": r"""
        r: SUBSCRIBE __redis__:invalidate
        a: CLIENT TRACKING ON REDIRECT @r
        a: GET %k
        a: GET %l
        a: HELLO 3
        b: SET %k 1
        r< 1
        a: GET %k
        a: SELECT 1
        b: SET %k 2
        r< 1
        b: SET %l 2
        r< 1
        a: HELLO 2
        a: GET %k
        b: SET %k 3
        r< 1
        a: CLIENT TRACKING ON REDIRECT @r
        a: CLIENT TRACKING ON
        a: GET %k
        a: HELLO 3
        b: SET %k 4
        a< 1
        a: GET %k
        b: FLUSHALL
        a< 1
    """,
    "REDIRECT to itself": r"""
        a: CLIENT TRACKING ON BCAST REDIRECT @a
        a: SUBSCRIBE __redis__:invalidate
        b: SET %k 1
        a< 1
        b: DEL %k
        a< 1
    """,
    "RESP2 needs REDIRECT": r"""
        a: CLIENT TRACKING ON
        a: CLIENT TRACKINGINFO
        a: CLIENT TRACKING OFF
    """,
}
