"""Streams and places."""

STREAMS = {
    "entries": r"""
        XADD %s 1-1 a 1 b 2
        XADD %s 1-2 a 3
        XADD %s 1-2 a 3
        XADD %s 1-* a 4
        XADD %s 0-0 a 4
        XADD %s 5 a 5
        XADD %s MAXLEN = 3 6-0 a 6
        XADD %s MINID = 5 7-0 a 7
        XADD %s NOMKSTREAM 8-0 a 8
        XADD %none NOMKSTREAM 8-0 a 8
        XADD %s MAXLEN x 9-0 a 1
        XADD %s 9-0 a
        XADD %s bad-id a 1
        XADD %s
        XADD %auto * f v
        XLEN %s
        XLEN %none
        XLEN %auto
        XRANGE %s - +
        XRANGE %s 6 +
        XRANGE %s (6-0 + COUNT 1
        XRANGE %s x +
        XRANGE %none - +
        XREVRANGE %s + -
        XREVRANGE %s + - COUNT 1
        XREAD STREAMS %s 0
        XREAD COUNT 1 STREAMS %s 0
        XREAD COUNT 2 STREAMS %s %none 0 0
        XREAD STREAMS %none 0
        XREAD STREAMS %s $
        XREAD STREAMS %s
        XREAD STREAMS %s %none 0
        XREAD COUNT x STREAMS %s 0
        XREAD WHAT STREAMS %s 0
        XDEL %s 6-0 99-99
        XDEL %s x
        XTRIM %s MAXLEN 1
        XTRIM %s MINID 100
        XTRIM %s WHAT 1
        XSETID %s 100-0
        XSETID %s 1-0
        XSETID %none 1-0
        XADD %s 50-0 a 1
        XINFO STREAM %none
        XINFO STREAM %s
        XINFO GROUPS %s
        XINFO WHAT %s
        XINFO HELP
        XINFO
        SET %str x
        XADD %str 1-1 a 1
        XLEN %str
        XRANGE %str - +
        XREAD STREAMS %str 0
        XINFO STREAM %str
    """,
    "groups": r"""
        XGROUP CREATE %s g $
        XGROUP CREATE %s g $ MKSTREAM
        XGROUP CREATE %s g $
        XGROUP CREATE %s STREAMS 0
        XGROUP CREATECONSUMER %s g alice
        XGROUP CREATECONSUMER %s g alice
        XGROUP CREATECONSUMER %s none alice
        XADD %s 1-1 a 1
        XADD %s 2-1 a 2
        XADD %s 3-1 a 3
        XREADGROUP GROUP g alice COUNT 2 STREAMS %s >
        XREADGROUP GROUP g bob STREAMS %s >
        XREADGROUP GROUP g bob STREAMS %s >
        XREADGROUP GROUP g bob NOACK STREAMS %s 0
        XREADGROUP GROUP STREAMS carol COUNT 1 STREAMS %s >
        XREADGROUP GROUP none bob STREAMS %s >
        XREADGROUP GROUP g bob STREAMS %s $
        XREADGROUP GROUP g
        XPENDING %s g
        XPENDING %s g - + 10 nobody
        XPENDING %s g - + 10 alice
        XPENDING %s none
        XPENDING %none g
        XPENDING %s g - +
        XCLAIM %s g carol 0 1-1
        XCLAIM %s g carol 0 1-1 JUSTID
        XCLAIM %s g carol 3600000 1-1
        XCLAIM %s g carol x 1-1
        XCLAIM %s none carol 0 1-1
        XAUTOCLAIM %s g dave 0 0 COUNT 1
        XAUTOCLAIM %s g dave 0 0 JUSTID
        XAUTOCLAIM %s g dave 3600000 0
        XAUTOCLAIM %s none dave 0 0
        XACK %s g 1-1 9-9
        XACK %s none 1-1
        XACK %s g x
        XINFO GROUPS %s
        XINFO CONSUMERS %s g
        XINFO STREAM %s FULL
        XINFO CONSUMERS %s none
        XGROUP DELCONSUMER %s g alice
        XGROUP DELCONSUMER %s g nobody
        XGROUP SETID %s g 0
        XGROUP SETID %s none 0
        XGROUP DESTROY %s g
        XGROUP DESTROY %s g
        XGROUP HELP
        XGROUP WHAT %s
        XGROUP CREATE %s
        SET %str x
        XGROUP CREATE %str g 0
        XACK %str g 1-1
    """,
}

GEO = {
    "places": r"""
        GEOADD %g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
        GEOADD %g NX 13.361389 38.115556 Palermo
        GEOADD %g CH 13.4 38.2 Palermo
        GEOADD %g 200 100 nowhere
        GEOADD %g x y nowhere
        GEOADD %g 1 2
        GEOPOS %g Palermo none
        GEOPOS %none x
        GEODIST %g Palermo Catania
        GEODIST %g Palermo Catania km
        GEODIST %g Palermo none
        GEODIST %g Palermo Catania parsec
        GEOHASH %g Palermo Catania none
        GEORADIUS %g 15 37 200 km ASC
        GEORADIUS %g 15 37 200 km WITHDIST WITHCOORD WITHHASH DESC COUNT 1
        GEORADIUS %g 15 37 200 km STORE %near
        ZRANGE %near 0 -1 WITHSCORES
        GEORADIUS %g 15 37 200 km STOREDIST %near
        ZRANGE %near 0 -1 WITHSCORES
        GEORADIUS %g 15 37 200 km WITHDIST STORE %near
        GEORADIUS %none 15 37 200 km
        GEORADIUS_RO %g 15 37 200 km ASC
        GEORADIUS_RO %g 15 37 200 km STORE %near
        GEORADIUSBYMEMBER %g Palermo 200 km ASC
        GEORADIUSBYMEMBER %g none 200 km
        GEORADIUSBYMEMBER %g Palermo 200 km STORE %near
        GEORADIUSBYMEMBER_RO %g Palermo 200 km ASC
        GEOSEARCH %g FROMLONLAT 15 37 BYRADIUS 200 km ASC
        GEOSEARCH %g FROMMEMBER Palermo BYBOX 400 400 km ASC WITHDIST
        GEOSEARCH %g FROMMEMBER none BYBOX 400 400 km
        GEOSEARCH %g BYBOX 400 400 km
        GEOSEARCHSTORE %near %g FROMLONLAT 15 37 BYRADIUS 200 km ASC COUNT 1
        GEOSEARCHSTORE %near %g FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST
        ZRANGE %near 0 -1
        SET %s x
        GEOADD %s 1 2 x
        GEOPOS %s x
        GEOSEARCH %s FROMLONLAT 15 37 BYRADIUS 200 km
    """,
}
