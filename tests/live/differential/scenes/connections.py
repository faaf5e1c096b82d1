"""What one connection does to itself or to others: closing, pausing, looking on."""

CONNECTIONS = {
    "QUIT": r"""
        a> PING
        a> QUIT
        a> PING
        a closed
    """,
    "CLIENT REPLY": r"""
        a> CLIENT REPLY OFF
        a> SET %k 1
        a> GET %k
        a: CLIENT REPLY ON
        a: GET %k
        a> CLIENT REPLY SKIP
        a> GET %k
        a: PING
    """,
    "CLIENT PAUSE": r"""
        a: CLIENT PAUSE 10000 WRITE
        a: GET %k
        a: CLIENT UNPAUSE
        a: SET %k 1
        a: CLIENT PAUSE 1
        a: PING
        a: CLIENT PAUSE 1 ALL
        a: PING
    """,
    "CLIENT KILL": r"""
        a: PING
        b: CLIENT KILL ID @a
        a closed
        b: CLIENT KILL ID @b SKIPME yes
        b> CLIENT KILL ID @b SKIPME no
        b closed
    """,
    "CLIENT LIST of one": r"""
        a: CLIENT SETNAME me
        b: CLIENT LIST ID @a
        b: CLIENT NO-EVICT ON
        b: CLIENT NO-EVICT OFF
    """,
    "RESET": r"""
        a: SELECT 5
        a: CLIENT SETNAME me
        a: SET %k five
        a: RESET
        a: CLIENT GETNAME
        a: GET %k
        a: HGETALL %none
    """,
    "MONITOR": r"""
        b: PING
        a: MONITOR
        b: SET %k "a \"quoted\" \x01 value"
        a< 1
        b: GET %k
        a< 1
        b: SELECT 2
        a< 1
        b: LPUSH %l x
        a< 1
        a: RESET
        b: GET %k
        a: GET %k
    """,
    "READONLY, READWRITE and ASKING": r"""
        a: READONLY
        a: READWRITE
        a: ASKING
        a: GET %k
    """,
}
