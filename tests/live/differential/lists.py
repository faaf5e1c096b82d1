"""Lists and hashes."""

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
