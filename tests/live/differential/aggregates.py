"""Lists, hashes, sets and sorted sets."""

LISTS = {
    "push and pop": r"""
        LPUSH %l a b c
        RPUSH %l x y z
        LPUSHX %l first
        RPUSHX %l last
        LPUSHX %none x
        RPUSHX %none x
        LRANGE %l 0 -1
        LRANGE %l 1 3
        LRANGE %l -2 -1
        LRANGE %l 5 1
        LRANGE %l 0 x
        LRANGE %none 0 -1
        LLEN %l
        LLEN %none
        LINDEX %l 0
        LINDEX %l -1
        LINDEX %l 100
        LINDEX %l x
        LSET %l 0 FIRST
        LSET %l 100 x
        LSET %none 0 x
        LINSERT %l BEFORE x w
        LINSERT %l AFTER x x2
        LINSERT %l BEFORE nothing x
        LINSERT %l ASIDE x y
        LINSERT %none BEFORE x y
        LPOP %l
        RPOP %l
        LPOP %l 2
        RPOP %l 2
        LPOP %l 0
        LPOP %l -1
        LPOP %l x
        LPOP %none
        LPOP %none 3
        RPOP %none 0
        LRANGE %l 0 -1
        LREM %l 0 x
        LREM %l 1 nothing
        LREM %l x y
        RPUSH %t 1 2 3 4 5
        LTRIM %t 1 3
        LRANGE %t 0 -1
        LTRIM %t 5 1
        EXISTS %t
        LPUSH %l
        LPUSH
        LPOP
        SET %s string
        LPUSH %s x
        LPOP %s
        LLEN %s
        LRANGE %s 0 -1
        LINDEX %s 0
        LSET %s 0 x
        LTRIM %s 0 1
        LREM %s 0 x
        LINSERT %s BEFORE a b
    """,
    "search and move": r"""
        RPUSH %l a b c 1 2 3 c c
        LPOS %l c
        LPOS %l c RANK 2
        LPOS %l c RANK -1
        LPOS %l c COUNT 0
        LPOS %l c COUNT 2 RANK 2 MAXLEN 7
        LPOS %l nothing
        LPOS %l nothing COUNT 1
        LPOS %l c RANK 0
        LPOS %l c COUNT -1
        LPOS %l c WHAT 1
        RPOPLPUSH %l %m
        RPOPLPUSH %none %m
        RPOPLPUSH %l %l
        LMOVE %l %m LEFT RIGHT
        LMOVE %l %m RIGHT LEFT
        LMOVE %l %m UP DOWN
        LMOVE %none %m LEFT LEFT
        LRANGE %l 0 -1
        LRANGE %m 0 -1
        LMPOP 2 %none %l LEFT
        LMPOP 2 %none %l RIGHT COUNT 3
        LMPOP 1 %none LEFT
        LMPOP 0 %l LEFT
        LMPOP 1 %l MIDDLE
        LMPOP x %l LEFT
        LMPOP 1 %l LEFT COUNT 0
        SET %s x
        LMOVE %s %m LEFT LEFT
        LMOVE %m %s LEFT LEFT
        RPOPLPUSH %m %s
        LMPOP 1 %s LEFT
        LPOS %s x
    """,
    "a long list": "\n".join(
        [
            *(f"RPUSH %big {' '.join(f'element-{i}-{n}' for n in range(50))}" for i in range(10)),
            "LLEN %big",
            "LRANGE %big 0 -1",
            "LRANGE %big 100 -100",
            "LINDEX %big 250",
            "LREM %big 0 element-3-7",
            "LPOS %big element-9-49",
            "LTRIM %big 10 -10",
            "LPOP %big 400",
            "OBJECT ENCODING %big",
        ]
    ),
}

HASHES = {
    "fields": r"""
        HSET %h a 1 b 2 c 3
        HSET %h a 5 d 4
        HSET %h a
        HSET %h
        HSET %h a 1 b
        HMSET %h x 1 y 2
        HMSET %h x
        HGET %h a
        HGET %h none
        HGET %none a
        HMGET %h a none c
        HMGET %none a b
        HMGET %h
        HGETALL %h
        HGETALL %none
        HKEYS %h
        HVALS %h
        HKEYS %none
        HLEN %h
        HLEN %none
        HEXISTS %h a
        HEXISTS %h none
        HSTRLEN %h a
        HSTRLEN %h none
        HSETNX %h a 9
        HSETNX %h new 9
        HINCRBY %h a 10
        HINCRBY %h a x
        HINCRBY %h a 9223372036854775807
        HSET %h text abc
        HINCRBY %h text 1
        HINCRBYFLOAT %h a 0.5
        HINCRBYFLOAT %h text 1
        HINCRBYFLOAT %huge f 1e400
        HGET %huge f
        HINCRBYFLOAT %h f 3.0e3
        HDEL %h a none
        HDEL %h
        HDEL %none a
        HSET %h "" "" "\x00\xff" "\r\n"
        HGET %h ""
        HGET %h "\x00\xff"
        HGETALL %h
        HRANDFIELD %h 0
        HRANDFIELD %none
        HRANDFIELD %none 5
        HRANDFIELD %none 5 WITHVALUES
        HSET %single f v
        HRANDFIELD %single
        HRANDFIELD %single 5
        HRANDFIELD %single 5 WITHVALUES
        HRANDFIELD %single -3
        HRANDFIELD %single -2 WITHVALUES
        HRANDFIELD %h x
        HRANDFIELD %h 1 WHAT
        HSCAN %h 0
        HSCAN %h 0 MATCH x* COUNT 100
        HSCAN %h x
        HSCAN %h 0 COUNT 0
        HSCAN %h 0 NOVALUES
        HSCAN %none 0
        SET %s x
        HSET %s a 1
        HGET %s a
        HGETALL %s
        HDEL %s a
        HINCRBY %s a 1
        HSCAN %s 0
        HRANDFIELD %s
    """,
    "field expiry": r"""
        HSET %h a 1 b 2 c 3
        HEXPIRE %h 100 FIELDS 2 a none
        HTTL %h FIELDS 3 a b none
        HPEXPIRE %h 100000 FIELDS 1 b
        HEXPIREAT %h 33177117420 FIELDS 1 b
        HPEXPIREAT %h 33177117420123 FIELDS 1 c
        HEXPIRETIME %h FIELDS 2 b c
        HPEXPIRETIME %h FIELDS 2 b c
        HPERSIST %h FIELDS 2 a none
        HPTTL %h FIELDS 2 a none
        HGETEX %h EX 100 FIELDS 1 a
        HGETEX %h PERSIST FIELDS 1 a
        HSETEX %h EX 100 FIELDS 2 x 1 y 2
        HSETEX %h FNX FIELDS 1 x 5
        HGETDEL %h FIELDS 2 x none
        HGETDEL %h FIELDS 0 x
        HEXPIRE %h x FIELDS 1 a
        HEXPIRE %h 100 FIELDS 2 a
        HEXPIRE %none 100 FIELDS 1 a
        HTTL %none FIELDS 1 a
        SET %s x
        HEXPIRE %s 100 FIELDS 1 a
        HLEN %h
    """,
    "a large hash": "\n".join(
        [
            *(f"HSET %big {' '.join(f'field-{i}-{n} value-{i}-{n}' for n in range(50))}" for i in range(14)),
            "HLEN %big",
            "HGETALL %big",
            "HKEYS %big",
            "HVALS %big",
            "HMGET %big field-0-0 field-13-49 none",
            "HRANDFIELD %big 1000",
            "OBJECT ENCODING %big",
        ]
    ),
}

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
