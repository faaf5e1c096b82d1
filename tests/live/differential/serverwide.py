"""Commands without keys, and what the proxy answers by itself."""

KEYLESS = {
    "all shards": r"""
        FLUSHALL
        DBSIZE
        SCAN ""
        SCAN " "
        SCAN -1
        SCAN +1
        SCAN 1a
        SCAN 18446744073709551615
        SCAN 18446744073709551616
        SCAN "" MATCH
        SCAN "" COUNT 0
        MSET k1 1 k2 2 k3 3 k4 4 k5 5 k6 6 k7 7
        DBSIZE
        KEYS *
        KEYS k[1-3]
        KEYS nothing*
        SCAN x
        SCAN 0 COUNT 0
        SCAN 0 COUNT x
        SCAN 0 WHAT
        FLUSHDB
        DBSIZE
        RANDOMKEY
        SET only one
        RANDOMKEY
        FLUSHALL ASYNC
        FLUSHALL SYNC
        FLUSHALL WHAT
        FLUSHDB SYNC
        KEYS *
        TIME
        LASTSAVE
        LOLWUT VERSION 1
        CONFIG GET maxmemory
        CONFIG GET maxmemory save
        CONFIG GET nothing-like-this
        CONFIG HELP
        SLOWLOG LEN
        SLOWLOG GET
        SLOWLOG RESET
        SLOWLOG HELP
        LATENCY RESET
        LATENCY LATEST
        LATENCY HISTORY nothing
        LATENCY HELP
        MEMORY PURGE
        ACL WHOAMI
        ACL CAT string
        ACL HELP
        ASKING
    """,
    "without cluster mode": r"""
        CLUSTER HELP
        CLUSTER INFO
        CLUSTER SLOTS
        CLUSTER SHARDS
        CLUSTER NODES
        CLUSTER LINKS
        CLUSTER MYID
        CLUSTER MYSHARDID
        CLUSTER REPLICAS 07c37dfeb235213a872192d90877d0cd55635b91
        CLUSTER SLAVES 07c37dfeb235213a872192d90877d0cd55635b91
        CLUSTER COUNT-FAILURE-REPORTS 07c37dfeb235213a872192d90877d0cd55635b91
        CLUSTER COUNTKEYSINSLOT 5
        CLUSTER COUNTKEYSINSLOT x
        CLUSTER GETKEYSINSLOT 5 10
        CLUSTER SLOT-STATS SLOTSRANGE 0 1
        CLUSTER ADDSLOTS 1 2
        CLUSTER ADDSLOTSRANGE 1 2
        CLUSTER BUMPEPOCH
        CLUSTER DELSLOTS 1
        CLUSTER DELSLOTSRANGE 1 2
        CLUSTER FAILOVER
        CLUSTER FLUSHSLOTS
        CLUSTER FLUSHSLOT 1
        CLUSTER FORGET 07c37dfeb235213a872192d90877d0cd55635b91
        CLUSTER MEET 127.0.0.1 6379
        CLUSTER REPLICATE 07c37dfeb235213a872192d90877d0cd55635b91
        CLUSTER RESET
        CLUSTER SAVECONFIG
        CLUSTER SET-CONFIG-EPOCH 1
        CLUSTER SETSLOT 1 STABLE
        CLUSTER CANCELSLOTMIGRATIONS
        CLUSTER GETSLOTMIGRATIONS
        CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 NODE 07c37dfeb235213a872192d90877d0cd55635b91
        CLUSTER SYNCSLOTS FINISH
        CLUSTER NOSUCH
        CLUSTER MYID x
        CLUSTER
        CLUSTERSCAN 0
        READONLY x
    """,
    "statistics and histories": r"""
        LATENCY GRAPH nothing
        LATENCY GRAPH
        LATENCY HISTORY
        SLOWLOG GET -1
        SLOWLOG GET -2
        SLOWLOG LEN x
        COMMANDLOG GET 10 slow
        COMMANDLOG GET 10 what
        COMMANDLOG GET x slow
        COMMANDLOG LEN slow
        COMMANDLOG LEN large-reply
        COMMANDLOG RESET slow
        COMMANDLOG RESET what
        COMMANDLOG HELP
        COMMANDLOG
        PUBSUB HELP
        MODULE HELP
        FUNCTION KILL
        SCRIPT KILL
    """,
    "scanned": r"""
        SCAN 0
        SCAN 0 MATCH nothing*
        SCAN 0 TYPE list COUNT 1000
        SCAN 0 TYPE
    """,
    "command": r"""
        COMMAND COUNT
        COMMAND INFO get mset
        COMMAND INFO nosuch
        COMMAND DOCS get
        COMMAND GETKEYS MSET a 1 b 2
        COMMAND GETKEYS PING
        COMMAND GETKEYSANDFLAGS SET a 1
        COMMAND LIST FILTERBY PATTERN xread*
        COMMAND HELP
    """,
}

SESSION = {
    "what each server says of itself": r"""
        INFO
        INFO server
        INFO nosuchsection
        CLIENT LIST
        CLIENT INFO
        CLIENT ID
        ROLE
        MEMORY STATS
        MEMORY DOCTOR
        MEMORY MALLOC-STATS
        LATENCY DOCTOR
        LATENCY HISTOGRAM
        COMMAND
        ACL GENPASS
        ACL GENPASS 5
        LOLWUT
        SLOWLOG GET 10
    """,
    "connection": r"""
        PING
        PING hello
        PING a b
        ping "\x00\r\n"
        ECHO hello
        ECHO ""
        ECHO
        ECHO a b
        SELECT 5
        SET db5 x
        DBSIZE
        SELECT 0
        GET db5
        SELECT 16
        SELECT -1
        SELECT x
        SELECT 01
        SELECT
        SELECT 5
        DEL db5
        SELECT 0
        AUTH password
        AUTH default password
        AUTH nobody password
        AUTH
        AUTH a b c
        HELLO 4
        HELLO x
        HELLO 1
        HELLO 2
        PING
        HELLO 3
        PING
        HGETALL none
        HELLO
        HELLO 3 SETNAME name
        CLIENT GETNAME
        HELLO 3 SETNAME "bad name"
        HELLO 3 AUTH nobody wrong
        HELLO 3 AUTH default
        HELLO 3 WHAT
        HELLO 2 AUTH default anything
        CLIENT GETNAME
        CLIENT SETNAME other
        CLIENT GETNAME
        CLIENT SETNAME "with space"
        CLIENT SETNAME ""
        CLIENT GETNAME
        CLIENT REPLY ON
        CLIENT REPLY WHAT
        CLIENT NO-EVICT ON
        CLIENT NO-EVICT OFF
        CLIENT NO-EVICT WHAT
        CLIENT GETREDIR
        CLIENT TRACKINGINFO
        CLIENT UNPAUSE
        CLIENT CAPA redirect
        CLIENT CAPA
        CLIENT NO-TOUCH ON
        CLIENT NO-TOUCH OFF
        CLIENT NO-TOUCH WHAT
        CLIENT SETINFO LIB-NAME a-library
        CLIENT SETINFO LIB-VER 1.0
        CLIENT SETINFO LIB-NAME "a b"
        CLIENT SETINFO WHAT x
        CLIENT PAUSE x
        CLIENT PAUSE -1
        CLIENT PAUSE 10 WHAT
        CLIENT UNBLOCK 999999
        CLIENT UNBLOCK x
        CLIENT UNBLOCK 999999 WHAT
        CLIENT KILL 1.2.3.4:5
        CLIENT KILL ID x
        CLIENT KILL ID 0
        CLIENT KILL ID 999999999
        CLIENT KILL TYPE what
        CLIENT KILL ADDR 1.2.3.4:5
        CLIENT KILL WHAT x
        CLIENT KILL ADDR
        CLIENT KILL ID 99999999 SKIPME maybe
        CLIENT KILL USER nobody
        CLIENT LIST TYPE what
        CLIENT LIST TYPE replica
        CLIENT LIST ID x
        CLIENT LIST WHAT
        CLIENT LIST ID 99999999
        CLIENT HELP
        CLIENT
        ROLE
        RESET
        PING
        DBSIZE
    """,
}
