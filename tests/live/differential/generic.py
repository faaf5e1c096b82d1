"""Keys of any type, and scripts."""

ONE_FUNCTION = (
    r'"#!lua name=lib\n'
    r"redis.register_function('first', function(keys, args) return {keys[1], args[1]} end)" + '"'
)
TWO_FUNCTIONS = (
    r'"#!lua name=lib\n'
    r"redis.register_function{function_name='first', callback=function(keys, args)"
    r" return redis.call('set', keys[1], args[1]) end}\n"
    r"redis.register_function{function_name='read', callback=function(keys)"
    r" return redis.call('get', keys[1]) end, flags={'no-writes'}}" + '"'
)
DUMPED = (
    r'"\xf5@L#!lua name=lib\nredis.register_function'
    r"('first', function(keys) return 1 end)"
    r'\n\x00Z\xdb\xee\xaf\xa4\xdf\x8f\xb0"'
)

GENERIC = {
    "life of keys": r"""
        SET %k v
        TYPE %k
        TYPE %none
        EXPIRE %k 100
        TTL %k
        EXPIRE %k 200 NX
        EXPIRE %k 200 GT
        EXPIRE %k 50 LT
        EXPIRE %k 50 XX
        EXPIRE %k 50 NX XX
        EXPIRE %k x
        EXPIRE %none 100
        EXPIRE %k 9223372036854775807
        PEXPIRE %k 100000
        PTTL %k
        PTTL %none
        TTL %none
        EXPIREAT %k 33177117420
        EXPIRETIME %k
        EXPIRETIME %none
        PEXPIREAT %k 33177117420123
        PEXPIRETIME %k
        PERSIST %k
        PERSIST %k
        PERSIST %none
        TTL %k
        EXPIREAT %k 1
        EXISTS %k
        SET %k v
        RENAME %k %l
        RENAME %none %l
        RENAMENX %l %m
        SET %n v
        RENAMENX %m %n
        RENAME %m %m
        RENAME %m
        COPY %m %n
        COPY %m %n REPLACE
        COPY %m %o
        COPY %none %o
        COPY %m %m
        COPY %m %n DB 99
        COPY %m %n DB 3
        MOVE %m 5
        MOVE %none 5
        MOVE %n 0
        MOVE %n 99
        MOVE %n x
        OBJECT ENCODING %n
        OBJECT ENCODING %none
        OBJECT REFCOUNT %n
        OBJECT IDLETIME %n
        OBJECT IDLETIME %none
        OBJECT FREQ %n
        OBJECT HELP
        OBJECT WHAT %n
        OBJECT ENCODING
        OBJECT
        MEMORY USAGE %n
        MEMORY USAGE %none
        MEMORY USAGE %n SAMPLES 0
        MEMORY USAGE %n SAMPLES x
        MEMORY HELP
        MEMORY WHAT
    """,
    "dump and restore": r"""
        SET %k 10
        DUMP %k
        DUMP %none
        HSET %h a 1 b 2
        DUMP %h
        RESTORE %r 0 "\x00\xc0\n\t\x00\xbem\x06\x89Z(\x00\n"
        GET %r
        RESTORE %r 0 "\x00\xc0\n\t\x00\xbem\x06\x89Z(\x00\n"
        RESTORE %r 100000 "\x00\xc0\n\t\x00\xbem\x06\x89Z(\x00\n" REPLACE
        TTL %r
        RESTORE %r 33177117420123 "\x00\xc0\n\t\x00\xbem\x06\x89Z(\x00\n" REPLACE ABSTTL
        PEXPIRETIME %r
        RESTORE %r 0 garbage REPLACE
        RESTORE %r -1 x
        RESTORE %r x x
        RESTORE %r 0
    """,
    "sort": r"""
        RPUSH %l 3 1 2 10
        SORT %l
        SORT %l DESC
        SORT %l ALPHA
        SORT %l LIMIT 1 2
        SORT %l BY nosort
        SORT %l BY nosort GET #
        SORT %l STORE %dest
        LRANGE %dest 0 -1
        SORT %l WHAT
        SORT %l LIMIT x y
        SORT %none
        RPUSH %words b a c
        SORT %words
        SORT %words ALPHA DESC STORE %dest
        LRANGE %dest 0 -1
        SORT_RO %l
        SORT_RO %l DESC LIMIT 0 1
        SORT_RO %l STORE %dest
        SORT_RO %l STORE elsewhere
        SORT_RO %l STORE a STORE b
        SORT_RO %l BY w_* STORE elsewhere
        SORT_RO %l STORE
        MULTI
        SORT_RO %l STORE elsewhere
        EXEC
        MSET %w_1 9 %w_2 8 %w_3 7 %w_10 6
        SORT %l BY %w_*
        SORT %l BY %w_* GET # GET %w_*
        SORT_RO %l BY %w_* GET %w_*
        SET %s x
        SORT %s
    """,
    "wrong arity": r"""
        GET
        TTL
        EXPIRE %k
        TYPE
        RENAME
        PERSIST %a %b
        STRLEN
        INCR %a %b
        LLEN %a %b
        HGETALL
        SCARD
        ZCARD %a %b
        ZADD %z 1
        XLEN
        GEOADD %g
        PFADD
        DUMP
        SORT
        BITOP AND %d
        SINTERSTORE %d
        ZUNIONSTORE %d 1
        EVAL x
        DBSIZE x
        FLUSHALL x
        KEYS
        RANDOMKEY x
        SCAN
        TIME x
        LASTSAVE x
        CONFIG GET
        SCRIPT LOAD
        FUNCTION LOAD
        OBJECT ENCODING
        XGROUP CREATE %a
        CLIENT SETNAME
        CLIENT ID x
        CLUSTER KEYSLOT
    """,
    "unknown": r"""
        NOSUCHCOMMAND
        nosuchcommand one "two three" "\x00\xff"
        FOO ""
        FOO "a\r\nb" "line\nbreak"
        "" x
        "GET " x
        "\xff\xfe" x
        CONFIG NOSUCH x
        OBJECT NOSUCH %k
        CLIENT NOSUCH
        SCRIPT NOSUCH
        FUNCTION NOSUCH
        XINFO NOSUCH %k
        CLUSTER NOSUCH
        COMMAND NOSUCH
        MEMORY NOSUCH
        LATENCY NOSUCH
        SLOWLOG NOSUCH
        ACL NOSUCH
        PUBSUB NOSUCH
        CLIENT "\x00\r\n"
    """
    + "\n".join(f"FOO {'x' * length} {'y' * length}" for length in (1, 60, 126, 127, 128, 129, 300))
    + f"\n{'N' * 200} arg\nCONFIG {'S' * 200}\n",
}

SCRIPTS = {
    "eval": r"""
        EVAL "return 1" 0
        EVAL "return redis.call('set', KEYS[1], ARGV[1])" 1 %k value
        EVAL "return redis.call('get', KEYS[1])" 1 %k
        EVAL "return {KEYS[1], KEYS[2], ARGV[1], 5, false, {1, {2}}}" 2 %a %b x
        EVAL "return redis.error_reply('MY error')" 0
        EVAL "return redis.status_reply('FINE')" 0
        EVAL "return redis.call('nosuch')" 0
        EVAL "return redis.pcall('incr', KEYS[1])" 1 %k
        EVAL "syntax error here" 0
        EVAL "error('thrown')" 0
        EVAL "return 3.99" 0
        EVAL "return nil" 0
        EVAL "return true" 0
        EVAL "redis.setresp(3); return {double = 3.14}" 0
        EVAL "redis.setresp(3); return {map = {a = 1}}" 0
        EVAL "redis.setresp(3); return {set = {a = true}}" 0
        EVAL "redis.setresp(3); return {big_number = '12345678901234567890'}" 0
        EVAL "redis.setresp(3); return {verbatim_string = {format = 'txt', string = 'hi'}}" 0
        EVAL "redis.setresp(3); return {true, false, {double = 1.5}}" 0
        EVAL "redis.setresp(3); return redis.call('hgetall', KEYS[1])" 1 %none
        EVAL "local t = 1 for i = 1, 100 do t = {t, i} end return t" 0
        EVAL "local t = {} for i = 1, 5000 do t[i] = i end return t" 0
        EVAL "return 1" x
        EVAL "return 1" -1
        EVAL "return 1" 5 %a
        EVAL "return #KEYS" 3 %a %b %c
        EVAL_RO "return redis.call('get', KEYS[1])" 1 %k
        EVAL_RO "return redis.call('set', KEYS[1], 1)" 1 %k
        EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
        EVALSHA short 1 %k
        EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 1 %k
        SCRIPT LOAD "return 1"
        SCRIPT LOAD "return redis.call('strlen', KEYS[1])"
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
        EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 1 %k
        EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 %k
        SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db ffffffffffffffffffffffffffffffffffffffff
        SCRIPT SHOW e0e1f9fabfc9d4800c877a703b823ac0578ff8db
        SCRIPT SHOW ffffffffffffffffffffffffffffffffffffffff
        SCRIPT LOAD "not a script ("
        SCRIPT KILL
        SCRIPT FLUSH
        SCRIPT FLUSH WHAT
        SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db
        SCRIPT HELP
    """,
    "functions": rf"""
        FUNCTION LOAD {ONE_FUNCTION}
        FUNCTION LOAD {ONE_FUNCTION}
        FUNCTION LOAD REPLACE {TWO_FUNCTIONS}
        FUNCTION LOAD "no shebang"
        FCALL first 1 %k v
        FCALL read 1 %k
        FCALL_RO read 1 %k
        FCALL_RO first 1 %k v
        FCALL nosuch 1 %k
        FCALL first x
        FCALL first 5 %k
        FUNCTION LIST LIBRARYNAME nosuch
        FUNCTION STATS
        FUNCTION KILL
        FUNCTION HELP
        FUNCTION DELETE nosuch
        FUNCTION DELETE lib
        FUNCTION FLUSH
        FUNCTION RESTORE garbage
        FUNCTION DUMP
        FUNCTION RESTORE {DUMPED}
        FCALL first 1 %k
        FCALL read 1 %k
    """,
}
