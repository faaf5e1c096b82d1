"""Many INFO documents become one. The documents here are cut from what Redis 7.0.15 writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.planning.merge_info import human
from proxy.planning.merge_info import merge as merge_asked
from proxy.resp.info import parse, write

DOCUMENT = (
    "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\narch_bits:64\r\ntcp_port:7001\r\n"
    "uptime_in_seconds:100\r\nconfigured_hz:10\r\n\r\n"
    "# Clients\r\nconnected_clients:3\r\nmaxclients:10000\r\nblocked_clients:1\r\n\r\n"
    "# Memory\r\nused_memory:1048576\r\nused_memory_human:1.00M\r\nmaxmemory_policy:noeviction\r\n"
    "mem_fragmentation_ratio:1.50\r\nused_memory_peak_perc:99.10%\r\ntotal_system_memory:1000\r\n"
    "total_system_memory_human:1000B\r\n\r\n"
    "# Persistence\r\nloading:1\r\nrdb_last_save_time:1700000000\r\nrdb_last_bgsave_time_sec:-1\r\n"
    "rdb_last_bgsave_status:ok\r\nrdb_changes_since_last_save:4\r\n\r\n"
    "# Stats\r\ntotal_commands_processed:10\r\ninstantaneous_input_kbps:0.25\r\nexpired_stale_perc:0.50\r\n\r\n"
    "# Replication\r\nrole:slave\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.1,port=7002,state=online,offset=5,lag=1\r\n"
    "master_replid:abc\r\nmaster_repl_offset:5\r\nrepl_backlog_size:1048576\r\n\r\n"
    "# CPU\r\nused_cpu_sys:0.125000\r\nused_cpu_user:1.500000\r\n\r\n"
    "# Modules\r\nmodule:name=ReJSON,ver=20407,api=1,filters=0\r\nmodule:name=bf,ver=20411,api=1,filters=0\r\n\r\n"
    "# Errorstats\r\nerrorstat_ERR:count=2\r\n\r\n"
    "# Cluster\r\ncluster_enabled:1\r\n\r\n"
    "# Keyspace\r\ndb0:keys=10,expires=2,avg_ttl=1000\r\n"
)


def merge(documents: list[str], overlay: dict[str, dict[str, str]], *asked: str) -> str:
    return merge_asked(documents, overlay, set(asked))


def section(document: str, name: str) -> dict[str, str]:
    return parse(document)[name]


def test_a_document_is_read_and_written_back() -> None:
    assert write(parse(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("document", ["", "# Keyspace\r\n", "# Modules\r\n", "# Keyspace\r\ndb0:keys=1,expires=0\r\n"])
def test_short_documents(document: str) -> None:
    assert write(parse(document)) == document
    assert merge([document], {"Slotgate": {"slotgate_version": "1"}}, "keyspace") == document


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    parse(text)


def test_the_sections_keep_their_order() -> None:
    assert list(parse(merge([DOCUMENT, DOCUMENT], {}))) == list(parse(DOCUMENT))


def test_the_proxy_is_a_standalone_primary() -> None:
    whole = merge([DOCUMENT, DOCUMENT], {})
    assert section(whole, "Server")["redis_mode"] == "standalone"
    assert section(whole, "Cluster")["cluster_enabled"] == "0"
    assert section(whole, "Replication") == {
        "role": "master",
        "connected_slaves": "2",
        "master_replid": "abc",
        "master_repl_offset": "5",
    }


def test_counters_are_summed() -> None:
    whole = merge([DOCUMENT, DOCUMENT, DOCUMENT], {})
    assert section(whole, "Stats")["total_commands_processed"] == "30"
    assert section(whole, "Stats")["instantaneous_input_kbps"] == "0.75"
    assert section(whole, "Clients")["blocked_clients"] == "3"
    assert section(whole, "Memory")["used_memory"] == str(3 * 1048576)
    assert section(whole, "Memory")["used_memory_human"] == "3.00M"
    assert section(whole, "CPU") == {"used_cpu_sys": "0.375000", "used_cpu_user": "4.500000"}
    assert section(whole, "Persistence")["rdb_changes_since_last_save"] == "12"


def test_what_is_no_counter_is_not_summed() -> None:
    other = DOCUMENT.replace("1700000000", "1700000009").replace("_ratio:1.50", "_ratio:2.50")
    whole = merge([DOCUMENT, other], {})
    assert section(whole, "Memory")["mem_fragmentation_ratio"] == "2.50"
    assert section(whole, "Memory")["maxmemory_policy"] == "noeviction"
    assert section(whole, "Memory")["used_memory_peak_perc"] == "99.10%"
    assert section(whole, "Memory")["total_system_memory"] == "1000"
    assert section(whole, "Clients")["maxclients"] == "10000"
    assert section(whole, "Stats")["expired_stale_perc"] == "0.50"
    assert section(whole, "Persistence")["rdb_last_save_time"] == "1700000009"
    assert section(whole, "Persistence")["rdb_last_bgsave_status"] == "ok"
    assert section(whole, "Server")["tcp_port"] == "7001"
    assert section(whole, "Server")["arch_bits"] == "64"
    assert section(whole, "Server")["configured_hz"] == "10"


def test_minus_one_means_never() -> None:
    assert section(merge([DOCUMENT, DOCUMENT], {}), "Persistence")["rdb_last_bgsave_time_sec"] == "-1"
    saved = DOCUMENT.replace("bgsave_time_sec:-1", "bgsave_time_sec:3")
    assert section(merge([DOCUMENT, saved], {}), "Persistence")["rdb_last_bgsave_time_sec"] == "3"


@pytest.mark.parametrize(
    ("versions", "lowest"),
    [(["7.0.15", "6.2.14"], "6.2.14"), (["7.10.0", "7.9.9"], "7.9.9"), (["255.255.255", "8.1.3"], "8.1.3")],
)
def test_the_version_is_the_lowest(versions: list[str], lowest: str) -> None:
    documents = [DOCUMENT.replace("7.0.15", version) for version in versions]
    assert section(merge(documents, {}), "Server")["redis_version"] == lowest


def test_keys_are_counted_by_database() -> None:
    one = "# Keyspace\r\ndb0:keys=10,expires=2,avg_ttl=1000\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n"
    two = "# Keyspace\r\ndb0:keys=5,expires=6,avg_ttl=3000\r\n"
    three = "# Keyspace\r\n"
    assert merge([one, two, three], {}) == (
        "# Keyspace\r\ndb0:keys=15,expires=8,avg_ttl=2500\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n"
    )


def test_commands_are_counted_by_name() -> None:
    one = "# Commandstats\r\ncmdstat_get:calls=2,usec=10,usec_per_call=5.00,rejected_calls=0,failed_calls=1\r\n"
    two = "# Commandstats\r\ncmdstat_get:calls=3,usec=5,usec_per_call=1.67,rejected_calls=1,failed_calls=0\r\n"
    assert merge([one, two], {}) == (
        "# Commandstats\r\ncmdstat_get:calls=5,usec=15,usec_per_call=3.00,rejected_calls=1,failed_calls=1\r\n"
    )


def test_errors_are_counted_by_code() -> None:
    one, two = "# Errorstats\r\nerrorstat_ERR:count=2\r\n", "# Errorstats\r\nerrorstat_WRONGTYPE:count=1\r\n"
    assert merge([one, two, one], {}) == "# Errorstats\r\nerrorstat_ERR:count=4\r\nerrorstat_WRONGTYPE:count=1\r\n"


def test_modules_are_listed_once_each() -> None:
    one = "# Modules\r\nmodule:name=ReJSON,ver=1\r\nmodule:name=bf,ver=1\r\n"
    two = "# Modules\r\nmodule:name=ReJSON,ver=1\r\nmodule:name=search,ver=2\r\n"
    assert merge([one, two], {}) == (
        "# Modules\r\nmodule:name=ReJSON,ver=1\r\nmodule:name=bf,ver=1\r\nmodule:name=search,ver=2\r\n"
    )


def test_latencies_of_commands_that_only_one_shard_knows() -> None:
    one = "# Latencystats\r\nlatency_percentiles_usec_get:p50=1.003,p99=1.003\r\n"
    two = "# Latencystats\r\nlatency_percentiles_usec_set:p50=2.007,p99=2.007\r\n"
    assert set(section(merge([one, two], {}), "Latencystats")) == {
        "latency_percentiles_usec_get",
        "latency_percentiles_usec_set",
    }


def test_the_overlay_replaces_and_adds() -> None:
    whole = merge([DOCUMENT, DOCUMENT], OVERLAY)
    assert section(whole, "Clients")["connected_clients"] == "7"
    assert section(whole, "Clients")["blocked_clients"] == "2"
    assert section(whole, "Slotgate") == {"slotgate_version": "1"}


OVERLAY = {"Clients": {"connected_clients": "7"}, "Slotgate": {"slotgate_version": "1"}}


@pytest.mark.parametrize(
    ("asked", "added"),
    [
        ((), True),
        (("default",), True),
        (("all",), True),
        (("everything",), True),
        (("slotgate",), True),
        (("keyspace", "slotgate"), True),
        (("keyspace",), False),
        (("nosuch",), False),
    ],
)
def test_the_overlays_own_section_comes_when_it_is_asked_for(asked: tuple[str, ...], added: bool) -> None:
    only = "# Clients\r\nconnected_clients:1\r\n"
    whole = merge([only], OVERLAY, *asked)
    assert parse(whole).get("Slotgate") == ({"slotgate_version": "1"} if added else None)
    assert section(whole, "Clients") == {"connected_clients": "7"}
    assert merge([""], {"Slotgate": {"slotgate_version": "1"}}, "slotgate") == "# Slotgate\r\nslotgate_version:1\r\n"
    assert merge([""], OVERLAY, "keyspace") == ""


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00K"),
        (1048576, "1.00M"),
        (1069056, "1.02M"),
        (3 * 1024**3, "3.00G"),
        (5 * 1024**4, "5.00T"),
        (2 * 1024**5, "2.00P"),
        (4096 * 1024**5, "4096.00P"),
    ],
)
def test_bytes_for_people(size: int, text: str) -> None:
    assert human(size) == text


def one_field(name: str, field: str, *values: str) -> str:
    documents = [f"# {name}\r\n{field}:{value}\r\n" for value in values]
    return section(merge(documents, {}), name)[field]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Memory", "number_of_cached_scripts"),
        ("Memory", "number_of_functions"),
        ("Memory", "number_of_libraries"),
        ("Clients", "tracking_clients"),
        ("Stats", "tracking_total_prefixes"),
    ],
)
def test_what_is_on_every_shard_is_counted_once(name: str, field: str) -> None:
    assert one_field(name, field, "2", "0", "3") == "3"


def test_the_shard_with_the_fewest_replicas() -> None:
    assert one_field("Replication", "connected_slaves", "2", "10", "1") == "1"


def test_it_loads_while_one_shard_does() -> None:
    assert one_field("Persistence", "loading", "0", "1", "0") == "1"
    assert one_field("Persistence", "loading", "0", "0") == "0"


def test_the_fields_are_those_of_the_lowest_version() -> None:
    old = "# Server\r\nredis_version:7.0.15\r\n\r\n# Clients\r\nblocked_clients:1\r\n"
    new = "# Server\r\nredis_version:8.2.3\r\n\r\n# Clients\r\nblocked_clients:2\r\nwatching_clients:1\r\n"
    whole = merge_asked([new, old, new], {}, set(), oldest={1})
    assert section(whole, "Clients") == {"blocked_clients": "5"}
    assert section(merge([new, new], {}), "Clients") == {"blocked_clients": "4", "watching_clients": "2"}


def test_what_is_missing_is_said_whatever_is_asked_for() -> None:
    document = "# Persistence\r\nloading:0\r\n"
    whole = merge_asked(
        [document], {"Slotgate": {"slotgate_version": "1"}}, {"persistence"}, missing="shard 's1' is down"
    )
    assert parse(whole) == {"Persistence": {"loading": "0"}, "Slotgate": {"slotgate_missing": "shard 's1' is down"}}
    whole = merge_asked([document], {}, set(), missing="s1: the server answers PING with: LOADING Redis is")
    assert section(whole, "Persistence") == {"loading": "1"}
