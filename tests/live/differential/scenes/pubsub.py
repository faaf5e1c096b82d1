"""Channels, patterns and shard channels. With RESP2 a subscribed connection is for nothing else."""

PUBSUB = {
    "subscribe and publish": r"""
        a: SUBSCRIBE news
        b: PUBLISH news hello
        a< 1
        b: PUBLISH other hello
        b: PUBLISH news ""
        a< 1
        b: PUBLISH news "bytes \x00\r\n\xff"
        a< 1
        a: UNSUBSCRIBE news
        b: PUBLISH news late
        a: PING
    """,
    "several channels": r"""
        a> SUBSCRIBE one two three
        a< 3
        a> SUBSCRIBE two four
        a< 2
        b: PUBLISH one 1
        a< 1
        b: PUBLISH two 2
        a< 1
        b: PUBLISH four 4
        a< 1
        a> UNSUBSCRIBE one nothing
        a< 2
        b: PUBLISH one 1
        b: PUBLISH three 3
        a< 1
        a> UNSUBSCRIBE
        a~ 3
        a: UNSUBSCRIBE
        a: UNSUBSCRIBE nothing
    """,
    "patterns": r"""
        a> PSUBSCRIBE n?ws* h[ae]llo \*literal
        a< 3
        b: PUBLISH news.it 1
        a< 1
        b: PUBLISH hallo 2
        a< 1
        b: PUBLISH hullo 3
        b: PUBLISH *literal 4
        a< 1
        a> PUNSUBSCRIBE n?ws* nothing
        a< 2
        b: PUBLISH news.it 5
        b: PUBLISH hello 6
        a< 1
        a> PUNSUBSCRIBE
        a~ 2
        a: PUNSUBSCRIBE
        b: PUBLISH hello 7
    """,
    "a channel and a pattern": r"""
        a: SUBSCRIBE news
        a: PSUBSCRIBE n*
        b: PUBLISH news 1
        a< 2
        a: UNSUBSCRIBE
        b: PUBLISH news 2
        a< 1
        a: PUNSUBSCRIBE
        a: GET %k
    """,
    "shard channels": r"""
        a: SSUBSCRIBE %c
        b: SPUBLISH %c hello
        a< 1
        b: PUBLISH %c hello
        b: SPUBLISH %other hello
        a> SSUBSCRIBE %c %d
        a< 2
        b: SPUBLISH %d hello
        a< 1
        a: SUNSUBSCRIBE %c
        b: SPUBLISH %c late
        a: SUNSUBSCRIBE
        a: SUNSUBSCRIBE
        a: SUNSUBSCRIBE %none
        a: PING
    """,
    "all three kinds are counted": r"""
        a: SUBSCRIBE %c
        a: SSUBSCRIBE %c
        a: PSUBSCRIBE *
        a: SUBSCRIBE %d
        b: SPUBLISH %c 1
        a< 1
        b: PUBLISH %c 2
        a< 2
        a: SUNSUBSCRIBE
        a> UNSUBSCRIBE
        a~ 2
        a: PUNSUBSCRIBE
    """,
    "several subscribers": r"""
        a: SUBSCRIBE news
        b: SUBSCRIBE news
        c: PSUBSCRIBE news
        d: PUBLISH news 1
        a< 1
        b< 1
        c< 1
        b: UNSUBSCRIBE news
        d: PUBLISH news 2
        a< 1
        c< 1
        d: PUBSUB NUMSUB news
        d: PUBSUB NUMPAT
    """,
    "in order": r"""
        a: SUBSCRIBE one
        a: PSUBSCRIBE t*
        b> PUBLISH one 1
        b> PUBLISH one 2
        b> PUBLISH one 3
        b> PUBLISH one 4
        b< 4
        a< 4
    """,
    "PUBSUB": r"""
        d: PUBSUB CHANNELS
        d: PUBSUB NUMSUB
        d: PUBSUB NUMPAT
        d: PUBSUB SHARDCHANNELS
        d: PUBSUB SHARDNUMSUB
        a> SUBSCRIBE news weather
        a< 2
        b: SUBSCRIBE news
        b> PSUBSCRIBE n* m*
        b< 2
        c: PSUBSCRIBE n*
        c: SSUBSCRIBE %c
        d: PUBSUB CHANNELS
        d: PUBSUB CHANNELS n*
        d: PUBSUB CHANNELS nothing
        d: PUBSUB NUMSUB news weather none news
        d: PUBSUB NUMPAT
        d: PUBSUB SHARDCHANNELS
        d: PUBSUB SHARDCHANNELS nothing
        d: PUBSUB SHARDNUMSUB %c none
        d: PUBSUB HELP
        d: PUBSUB NOSUCH
        d: PUBSUB
        d: PUBSUB CHANNELS a b
        d: PUBSUB NUMPAT x
        a> UNSUBSCRIBE
        a~ 2
        d: PUBSUB NUMSUB news weather
    """,
    "wrong arity": r"""
        a: SUBSCRIBE
        a: PSUBSCRIBE
        a: SSUBSCRIBE
        a: PUBLISH
        a: PUBLISH channel
        a: PUBLISH channel message more
        a: SPUBLISH channel
        a: PING
    """,
    "RESET ends it": r"""
        a: SUBSCRIBE news
        a: PSUBSCRIBE n*
        a: RESET
        b: PUBLISH news 1
        a: GET %k
        b: PUBSUB NUMSUB news
        b: PUBSUB NUMPAT
    """,
    "QUIT ends it": r"""
        a: SUBSCRIBE news
        a> QUIT
        a closed
        b: PUBLISH news 1
    """,
    "published in a transaction and by a script": r"""
        a: SUBSCRIBE news
        b: MULTI
        b: PUBLISH news 1
        b: SET %k 1
        b: PUBLISH news 2
        b: EXEC
        a< 2
        b: EVAL "return redis.call('publish', ARGV[1], ARGV[2])" 1 %k news 3
        a< 1
    """,
    "subscribed between other commands": r"""
        a> SET %k 1
        a> GET %k
        a> SUBSCRIBE news
        a< 3
        b: PUBLISH news 1
        a< 1
        a> UNSUBSCRIBE
        a> GET %k
        a> SET %k 2
        a> GET %k
        a< 4
    """,
    "messages come though replies are not wanted": r"""
        a> CLIENT REPLY OFF
        a> SUBSCRIBE news
        a< 1
        b: PUBLISH news 1
        a< 1
        a> GET %k
        a: UNSUBSCRIBE news
        a: CLIENT REPLY ON
    """,
    "nor inside a transaction": r"""
        a> CLIENT REPLY OFF
        a> MULTI
        a> SUBSCRIBE news
        a> PING
        a> EXEC
        a< 1
        b: PUBLISH news 1
        a< 1
        a: UNSUBSCRIBE news
        a: CLIENT REPLY ON
    """,
}

PUBSUB_2 = {
    "what a subscriber may not do": r"""
        a: SUBSCRIBE news
        a: GET %k
        a: SET %k
        a: PING
        a: PING hello
        a: PING a b
        a: ECHO x
        a: MULTI
        a: CLIENT ID
        a: NOSUCH
        a: CONFIG GET
        a: HELLO 3
        a: SELECT 1
        a: PUBLISH news x
        a: COMMAND COUNT
        a: UNSUBSCRIBE
        a: PING
        a: GET %k
    """,
    "with a pattern, with a shard channel": r"""
        a: PSUBSCRIBE n*
        a: GET %k
        a: PUNSUBSCRIBE
        a: GET %k
        a: SSUBSCRIBE %c
        a: GET %k
        a: PING
        a: SUNSUBSCRIBE
        a: GET %k
    """,
}

PUBSUB_3 = {
    "a subscriber may do everything": r"""
        a: SUBSCRIBE news
        a: GET %k
        a: SET %k 1
        a: PING
        a: PING hello
        a: ECHO x
        a: MULTI
        a: INCR %k
        a: EXEC
        a: NOSUCH
        b: PUBLISH news 1
        a< 1
        a: GET %k
        a: UNSUBSCRIBE
        a: GET %k
    """,
    "inside a transaction": r"""
        a: MULTI
        a: SUBSCRIBE news
        a: PING
        a: EXEC
        b: PUBLISH news 1
        a< 1
        a: UNSUBSCRIBE news
    """,
    "back to RESP2 inside a transaction": r"""
        a: MULTI
        a: HELLO 2
        a: SUBSCRIBE news
        a: EXEC
        b: PUBLISH news 1
        a< 1
        a: UNSUBSCRIBE news
    """,
    "back to RESP2": r"""
        a: SUBSCRIBE news
        a: HELLO 2
        a: GET %k
        b: PUBLISH news 1
        a< 1
        a: UNSUBSCRIBE news
        a: GET %k
    """,
}
