"""Sets and sorted sets."""

SETS = {
    "members": r"""
        SADD %s a b c d
        SADD %s a e
        SADD %s
        SCARD %s
        SCARD %none
        SISMEMBER %s a
        SISMEMBER %s none
        SMISMEMBER %s a none c
        SMISMEMBER %none a b
        SMISMEMBER %s
        SMEMBERS %s
        SMEMBERS %none
        SREM %s a none
        SREM %none a
        SREM %s
        SADD %ints 3 1 2
        SMEMBERS %ints
        OBJECT ENCODING %ints
        SMOVE %s %other b
        SMOVE %s %other none
        SMOVE %none %other b
        SPOP %none
        SPOP %none 5
        SPOP %other
        EXISTS %other
        SADD %one x
        SPOP %one 5
        SADD %one x
        SRANDMEMBER %one
        SRANDMEMBER %one 5
        SRANDMEMBER %one -3
        SRANDMEMBER %none
        SRANDMEMBER %none 5
        SPOP %s -1
        SPOP %s x
        SPOP %s 0
        SRANDMEMBER %s x
        SSCAN %s 0
        SSCAN %ints 0 MATCH 1* COUNT 10
        SSCAN %s x
        SSCAN %none 0
        SADD %s "" "\x00" "\r\n"
        SISMEMBER %s "\x00"
        SMEMBERS %s
        SET %str x
        SADD %str a
        SMEMBERS %str
        SREM %str a
        SISMEMBER %str a
        SMISMEMBER %str a
        SPOP %str
        SRANDMEMBER %str
        SMOVE %s %str c
        SSCAN %str 0
    """,
    "of sets": r"""
        SADD %a 1 2 3 4 5
        SADD %b 3 4 5 6 7
        SADD %c x y 5
        SINTER %a %b
        SINTER %a %b %c
        SINTER %a %none
        SINTER
        SUNION %a %b
        SUNION %a %c
        SUNION %none
        SDIFF %a %b
        SDIFF %c %a
        SDIFF %none %a
        SINTERCARD 2 %a %b
        SINTERCARD 2 %a %b LIMIT 2
        SINTERCARD 2 %a %b LIMIT -1
        SINTERCARD 0 %a
        SINTERCARD x %a
        SINTERCARD 3 %a %b
        SINTERSTORE %dest %a %b
        SMEMBERS %dest
        SUNIONSTORE %dest %a %b
        SMEMBERS %dest
        SDIFFSTORE %dest %a %b
        SMEMBERS %dest
        SINTERSTORE %dest %a %none
        EXISTS %dest
        SET %str x
        SINTER %a %str
        SUNION %str %a
        SDIFFSTORE %dest %str
        SINTERCARD 1 %str
        SINTERSTORE %str %a %b
        TYPE %str
    """,
}

SORTED_SETS = {
    "members": r"""
        ZADD %z 1 a 2 b 3 c
        ZADD %z NX 5 a 4 d
        ZADD %z XX 9 a 9 none
        ZADD %z GT 10 a 1 b
        ZADD %z LT 5 a
        ZADD %z CH 6 a 7 new
        ZADD %z INCR 1.5 a
        ZADD %z NX INCR 1 a
        ZADD %z NX XX 1 a
        ZADD %z GT LT 1 a
        ZADD %z INCR 1 a 2 b
        ZADD %z 1
        ZADD %z x a
        ZADD %z nan a
        ZADD %z inf last -inf first
        ZADD %z
        ZCARD %z
        ZCARD %none
        ZSCORE %z a
        ZSCORE %z last
        ZSCORE %z none
        ZSCORE %none a
        ZMSCORE %z a none b
        ZMSCORE %none a
        ZINCRBY %z 2.25 b
        ZINCRBY %z x b
        ZINCRBY %z -inf last
        ZRANK %z a
        ZRANK %z none
        ZRANK %z a WITHSCORE
        ZREVRANK %z a
        ZREVRANK %none a
        ZCOUNT %z -inf +inf
        ZCOUNT %z (1 5
        ZCOUNT %z x 5
        ZRANGE %z 0 -1
        ZRANGE %z 0 -1 WITHSCORES
        ZRANGE %z 1 2 REV
        ZRANGE %z (1 +inf BYSCORE LIMIT 0 2 WITHSCORES
        ZRANGE %z +inf 1 BYSCORE REV
        ZRANGE %z 0 1 LIMIT 0 1
        ZRANGE %z a b BYLEX WITHSCORES
        ZRANGE %none 0 -1
        ZREVRANGE %z 0 1 WITHSCORES
        ZRANGEBYSCORE %z 1 5
        ZRANGEBYSCORE %z (1 +inf WITHSCORES LIMIT 1 2
        ZRANGEBYSCORE %z x y
        ZREVRANGEBYSCORE %z +inf -inf WITHSCORES
        ZREM %z a none
        ZREM %none a
        ZPOPMIN %z
        ZPOPMAX %z 2
        ZPOPMIN %none
        ZPOPMAX %none 5
        ZPOPMIN %z -1
        ZPOPMIN %z x
        ZADD %one 1.5 x
        ZRANDMEMBER %one
        ZRANDMEMBER %one 3
        ZRANDMEMBER %one -2 WITHSCORES
        ZRANDMEMBER %none
        ZRANDMEMBER %none 2
        ZRANDMEMBER %one 1 WHAT
        ZSCAN %one 0
        ZSCAN %one 0 MATCH y*
        ZSCAN %none 0
        SET %s x
        ZADD %s 1 a
        ZSCORE %s a
        ZRANGE %s 0 -1
        ZPOPMIN %s
        ZSCAN %s 0
        ZRANDMEMBER %s
        ZADD %f 3.14159265358979 pi 1e100 big 0.1 tenth 100000000000000000000 large
        ZRANGE %f 0 -1 WITHSCORES
    """,
    "by name and removal": r"""
        ZADD %l 0 a 0 b 0 c 0 d 0 e 0 f
        ZRANGEBYLEX %l - +
        ZRANGEBYLEX %l [b (e
        ZRANGEBYLEX %l - + LIMIT 1 2
        ZRANGEBYLEX %l b e
        ZREVRANGEBYLEX %l + [c
        ZLEXCOUNT %l - +
        ZLEXCOUNT %l [b [d
        ZLEXCOUNT %l b d
        ZREMRANGEBYLEX %l [a [b
        ZREMRANGEBYRANK %l 0 0
        ZREMRANGEBYRANK %l x 0
        ZADD %l 5 x 6 y
        ZREMRANGEBYSCORE %l 5 5
        ZREMRANGEBYSCORE %l x 5
        ZRANGE %l 0 -1
        ZMPOP 2 %none %l MIN
        ZMPOP 1 %l MAX COUNT 2
        ZMPOP 1 %none MIN
        ZMPOP 0 %l MIN
        ZMPOP 1 %l MIDDLE
    """,
    "of sorted sets": r"""
        ZADD %a 1 one 2 two 3 three
        ZADD %b 10 one 20 two 40 four
        SADD %set one five
        ZUNION 2 %a %b
        ZUNION 2 %a %b WITHSCORES
        ZUNION 2 %a %b WEIGHTS 2 3 AGGREGATE MAX WITHSCORES
        ZUNION 2 %a %set WITHSCORES
        ZUNION 0 %a
        ZUNION 3 %a %b
        ZUNION x %a
        ZUNION 1 %a WEIGHTS
        ZINTER 2 %a %b WITHSCORES
        ZINTER 2 %a %b AGGREGATE MIN WITHSCORES
        ZINTER 2 %a %none
        ZDIFF 2 %a %b WITHSCORES
        ZDIFF 2 %none %b
        ZINTERCARD 2 %a %b
        ZINTERCARD 2 %a %b LIMIT 1
        ZUNIONSTORE %d 2 %a %b
        ZRANGE %d 0 -1 WITHSCORES
        ZINTERSTORE %d 2 %a %b WEIGHTS 1 0.5
        ZRANGE %d 0 -1 WITHSCORES
        ZDIFFSTORE %d 2 %a %b
        ZRANGE %d 0 -1 WITHSCORES
        ZUNIONSTORE %d 0 %a
        ZUNIONSTORE %d 2 %a
        ZRANGESTORE %d %a 0 1
        ZRANGESTORE %d %a 2 +inf BYSCORE LIMIT 0 1
        ZRANGESTORE %d %none 0 -1
        EXISTS %d
        SET %s x
        ZUNION 2 %a %s
        ZUNIONSTORE %d 2 %a %s
        ZDIFF 2 %s %a
        ZINTERCARD 1 %s
    """,
}
