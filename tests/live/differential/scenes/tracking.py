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
    "RESP2 needs REDIRECT": r"""
        a: CLIENT TRACKING ON
        a: CLIENT TRACKINGINFO
        a: CLIENT TRACKING OFF
    """,
}
