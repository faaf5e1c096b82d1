"""Strings, bits and HyperLogLogs."""

STRINGS = {
    "set and get": r"""
        GET %a
        SET %a hello
        GET %a
        get %a
        gEt %a
        SET %a "with spaces" EX 100
        TTL %a
        SET %a again KEEPTTL
        TTL %a
        SET %a once NX
        SET %b once NX
        SET %b twice XX
        SET %c never XX
        SET %b more GET
        SET %d new GET
        SET %b more NX GET
        SET %b x PX 100000
        SET %b x EXAT 33177117420
        EXPIRETIME %b
        SET %b x PXAT 33177117420123
        PEXPIRETIME %b
        SET %b x EX 0
        SET %b x EX -1
        SET %b x EX abc
        SET %b x EX 9223372036854775807
        SET %b x PX
        SET %b x NX XX
        SET %b x EX 10 PX 10
        SET %b x WHAT
        SET %b
        SET
        GET
        GET %a %b
        SET "" ""
        SETNX %a 1
        SETNX %new 1
        SETEX %e 100 v
        SETEX %e 0 v
        SETEX %e x v
        PSETEX %e 100000 v
        PSETEX %e -5 v
        GETSET %a other
        GETSET %none v
        GETDEL %none
        GETDEL %gone
        GETEX %a
        GETEX %a EX 100
        TTL %a
        GETEX %a PERSIST
        TTL %a
        GETEX %a PXAT 33177117420123
        PEXPIRETIME %a
        GETEX %a NX
        GETEX %a EX 0
        GETEX %missing EX 10
        SET %a x IFEQ other
        DELIFEQ %a x
        DELIFEQ %a nothing
        GET %a
    """,
    "binary": r"""
        SET %b "\x00\xff\r\n\x80 *3\r\n"
        GET %b
        STRLEN %b
        SET %empty ""
        GET %empty
        STRLEN %empty
        APPEND %empty ""
        APPEND %empty "\x00"
        GETRANGE %b 0 1
        SET "\x00\xff{bin}\r\n" 1
        GET "\x00\xff{bin}\r\n"
        INCR "\x00\xff{bin}\r\n"
        SET "{}" braces
        GET "{}"
        SET "{" brace
        GET "{"
        SET "{}{x}" second
        GET "{}{x}"
        SET "a{{b}}c" nested
        GET "a{{b}}c"
        SET "\"quoted\"" "'single'"
        GET "\"quoted\""
        DEL "{}" "{" "{}{x}" "a{{b}}c" "\"quoted\""
    """,
    "numbers": r"""
        INCR %n
        INCR %n
        DECR %n
        INCRBY %n 40
        DECRBY %n 50
        INCRBY %n 9223372036854775807
        DECRBY %n 9223372036854775807
        DECRBY %n -9223372036854775808
        INCRBY %n x
        INCRBY %n 1.5
        INCRBY %n
        SET %n 9223372036854775807
        INCR %n
        SET %n abc
        INCR %n
        DECR %n
        INCRBYFLOAT %n 1
        SET %f 10.50
        INCRBYFLOAT %f 0.1
        INCRBYFLOAT %f -5.0e3
        INCRBYFLOAT %f nan
        INCRBYFLOAT %f x
        INCRBYFLOAT %new 3.0e-5
        INCRBYFLOAT %new inf
        LPUSH %l 1
        INCR %l
        INCRBYFLOAT %l 1
    """,
    "parts of strings": r"""
        APPEND %a Hello
        APPEND %a " World"
        STRLEN %a
        STRLEN %none
        GETRANGE %a 0 4
        GETRANGE %a -5 -1
        GETRANGE %a 5 1
        GETRANGE %a 0 x
        SUBSTR %a 0 4
        SETRANGE %a 6 Redis
        SETRANGE %a 100 far
        STRLEN %a
        SETRANGE %none 0 ""
        SETRANGE %a -1 x
        SETRANGE %a 536870912 x
        LPUSH %l 1
        APPEND %l x
        STRLEN %l
        GETRANGE %l 0 1
        SETRANGE %l 0 x
        GET %l
        GETSET %l x
        GETDEL %l
        GETEX %l
        SET %l x GET
        SET %one ohmytext
        SET %two mynewtext
        LCS %one %two
        LCS %one %two LEN
        LCS %one %two IDX
        LCS %one %two IDX MINMATCHLEN 4 WITHMATCHLEN
        LCS %one %two IDX LEN
        LCS %one %l
        LCS %one
    """,
    "many keys in one slot": r"""
        MSET %a 1 %b 2 %c 3
        MGET %a %b %c %none
        MGET %a
        MGET
        MSET %a
        MSET %a 1 %b
        MSETNX %a 5 %d 5
        MSETNX %d 5 %e 6
        MSETNX %d
        MSETNX %d 1 %e
        MGET %a %b %c %d %e
        LPUSH %l x
        MGET %a %l
        MSET %l now-a-string
        MGET %l %l %l
        EXISTS %a %b %a %none
        TOUCH %a %b %none
        DEL %a %none
        UNLINK %b %c
        DEL %a
        EXISTS %a
        DEL
        EXISTS
        UNLINK
        TOUCH
        MSETEX 2 %x 1 %y 2 EX 100
        MSETEX 2 %x 1 %y 2 NX
        MSETEX 3 %x 1 %y 2
        MSETEX x %x 1
        MGET %x %y
    """,
    "many keys in many slots": r"""
        MSET k1 1 k2 2 k3 3 k4 4 k5 5 k6 6 k7 7 k8 8 k9 9
        MGET k1 k2 k3 k4 k5 k6 k7 k8 k9 k10 k1
        MGET k9 k9 k9 k8 none k8
        LPUSH list a b
        MGET k1 list k2
        EXISTS k1 k2 k3 k4 k5 none k1 k1
        TOUCH k1 k2 k3 none list
        DEL k1 k2 k3 none k1
        UNLINK k4 k5 k6 none
        EXISTS k1 k2 k3 k4 k5 k6 k7 k8 k9
        MSET k1 a k1 b k2 c k1 d
        MGET k1 k2
        MSET "" empty "\x00" nul "\r\n" line {a}x tag1 {b}x tag2 {c}x tag3
        MGET "\x00" "" "\r\n" {c}x {b}x {a}x
        MSET k1 1 k2
        mset k1 lower k2 case
        mget k1 k2
        del k1 k2
        DBSIZE
    """,
}

BITS = {
    "bits": r"""
        SETBIT %b 7 1
        SETBIT %b 7 0
        SETBIT %b 100 1
        SETBIT %b -1 1
        SETBIT %b 0 2
        SETBIT %b 4294967296 1
        SETBIT %b x 1
        GETBIT %b 100
        GETBIT %b 5000
        GETBIT %none 5
        GETBIT %b x
        SET %s foobar
        BITCOUNT %s
        BITCOUNT %s 0 0
        BITCOUNT %s 1 1 BYTE
        BITCOUNT %s 5 30 BIT
        BITCOUNT %s 0
        BITCOUNT %s 0 1 WHAT
        BITCOUNT %none
        BITPOS %s 1
        BITPOS %s 0 2
        BITPOS %s 1 2 -1 BIT
        BITPOS %s 2
        BITPOS %none 0
        SET %x "\xff\xf0\x00"
        SET %y "\x0f\x00"
        BITOP AND %dest %x %y
        GET %dest
        BITOP OR %dest %x %y
        GET %dest
        BITOP XOR %dest %x %y
        GET %dest
        BITOP NOT %dest %x
        GET %dest
        BITOP NOT %dest %x %y
        BITOP NAND %dest %x %y
        BITOP AND %dest %none
        BITOP AND %dest
        LPUSH %l 1
        BITOP AND %dest %l %x
        SETBIT %l 1 1
        BITCOUNT %l
        BITFIELD %f INCRBY i5 100 1 GET u4 0
        BITFIELD %f SET u8 #0 255 GET u8 #0
        BITFIELD %f OVERFLOW SAT INCRBY u2 100 5 OVERFLOW FAIL INCRBY u2 100 5
        BITFIELD %f OVERFLOW WRAP INCRBY i8 0 500
        BITFIELD %f
        BITFIELD %f GET u64 0
        BITFIELD %f GET i65 0
        BITFIELD %f GET u8 -1
        BITFIELD %l GET u8 0
        BITFIELD_RO %f GET u8 0 GET i3 5
        BITFIELD_RO %f SET u8 0 1
    """,
}

HYPERLOGLOG = {
    "hyperloglog": r"""
        PFADD %h a b c d e f g
        PFADD %h a
        PFADD %h
        PFADD %none
        PFCOUNT %h
        PFCOUNT %none
        PFADD %i a b x y z
        PFCOUNT %h %i
        PFMERGE %dest %h %i
        PFCOUNT %dest
        PFMERGE %alone
        PFCOUNT
        SET %s "not one"
        PFADD %s a
        PFCOUNT %s
        PFMERGE %dest %s
        LPUSH %l a
        PFCOUNT %l
        PFADD %l a
        GET %dest
        STRLEN %h
        TYPE %h
    """,
}
