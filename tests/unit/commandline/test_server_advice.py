"""The judgement of what servers report: facts that a real server does not have at hand in a test."""

import time
from pathlib import Path

import hiredis
import pytest

from proxy.commandline.server_advice import judge_all, row
from proxy.commandline.server_facts import QUESTIONS, SETTINGS, NamedServer, ReportedFacts, read
from proxy.commandline.server_questions import failure_words
from proxy.config import Config, load
from proxy.errors import BackendError
from proxy.sharding.topology import Node

DAY = 86400.0
ONE, TWO = (NamedServer(Node(f"10.0.0.{number}", 6379), f"shard-{number}", "primary") for number in (1, 2))


def configured(**more: object) -> Config:
    return load(None, {"shards": [{"primary": "10.0.0.1:6379"}, {"primary": "10.0.0.2:6379"}], **more}, {})


def replies(info: str = "", version: str = "7.0.15", modules: tuple[str, ...] = (), **settings: str) -> list[object]:
    """What a healthy primary answers, with further lines of INFO and other settings."""
    server = f"redis_version:{version}\r\nredis_mode:standalone\r\n{info}".encode()
    values = {"maxclients": "10000", "maxmemory-policy": "noeviction", "timeout": "0", "databases": "16"}
    values |= {"notify-keyspace-events": "", **{name.replace("_", "-"): value for name, value in settings.items()}}
    loaded = [[b"name", name.encode(), b"ver", 1] for name in modules]
    asked: list[object] = [[name.encode(), values[name].encode()] for name in SETTINGS]
    clients = b"connected_clients:5\r\n"
    return [
        [b"master", 0, []],
        server,
        clients,
        b"role:master\r\nconnected_slaves:0\r\n",
        b"loading:0\r\n",
        loaded,
        *asked,
    ]


def words(*servers: ReportedFacts, config: Config | None = None) -> list[str]:
    return [each.text() for each in judge_all(servers, config or configured())]


def test_what_is_right() -> None:
    one, two = read(ONE, replies(), time.time() + 90 * DAY), read(TWO, replies())
    assert words(one, two) == []
    assert row(one, []) == {
        "server": "10.0.0.1:6379",
        "shard": "shard-1",
        "role": "primary",
        "version": "7.0.15",
        "clients": "5 of 10000",
        "eviction": "noeviction",
        "state": "ok",
    }


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            replies(version="5.0.7"),
            "warning    10.0.0.1:6379 (shard-1): is version 5.0.7, and Slotgate is tested from 6.2",
        ),
        (replies("rdb_last_bgsave_status:err\r\n"), "failed to save its data, and may refuse writes (MISCONF)"),
        ([*replies()[:4], b"loading:1\r\n", *replies()[5:]], "loads its data, and refuses commands"),
        (replies(maxclients="10"), "error      10.0.0.1:6379 (shard-1): has no room: 5 of 10 clients are connected"),
        (replies(maxmemory_policy="allkeys-lfu"), "note       10.0.0.1:6379 (shard-1): evicts any key"),
        (replies("redis_mode:cluster\r\n"), "is a node of a Redis Cluster and serves some of the 16384 slots"),
        ([[b"sentinel", []], *replies()[1:]], "error      10.0.0.1:6379 (shard-1): is a sentinel, and holds no keys"),
    ],
)
def test_one_server(facts: list[object], said: str) -> None:
    config = configured(backend={"dedicated_connections": 1}) if "no room" in said else None
    assert any(said in line for line in words(read(ONE, facts), config=config)), words(read(ONE, facts))


@pytest.mark.parametrize(
    ("days", "said"),
    [(-3.0, "whose certificate expired 3 days ago: renew it"), (5.0, "whose certificate expires in 5 days: renew it")],
)
def test_a_certificate(days: float, said: str) -> None:
    [line] = words(read(ONE, replies(), time.time() + days * DAY))
    assert line == f"warning    10.0.0.1:6379 (shard-1): speaks TLS, {said}"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replies(version="7.2.1"), 'has redis_version "7.2.1", but most servers have "7.0.15"'),
        (replies(databases="4"), 'has databases "4", but most servers have "16": SELECT works up to the lowest'),
        (replies(modules=("search", "ReJSON")), "lacks the module ReJSON, search, which other servers have"),
        (replies("run_id:ab\r\n"), "is the same server as 10.0.0.1:6379: name each server once"),
    ],
)
def test_servers_that_differ(other: list[object], said: str) -> None:
    first = replies("run_id:ab\r\n") if "same server" in said else replies()
    [line] = words(read(ONE, first), read(TWO, other))
    assert said in line


def test_a_replica_without_a_link() -> None:
    place = NamedServer(Node("10.0.0.3", 6379), "shard-1", "replica", ONE.node)
    answers = replies()
    answers[0] = [b"slave", b"10.0.0.1", 6379, b"connect", -1]
    answers[3] = b"role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:down\r\n"
    [line] = words(read(ONE, replies()), read(place, answers))
    assert "10.0.0.3:6379 (shard-1): has no link to its primary 10.0.0.1:6379" in line


def test_a_cluster_of_no_nodes() -> None:
    config = load(None, {"topology": {"kind": "cluster"}, "cluster": {"seeds": ["10.0.0.1:6379"]}}, {})
    [line] = words(read(ONE, replies()), config=config)
    assert line.startswith("error      10.0.0.1:6379 (shard-1): is not in cluster mode: set cluster-enabled yes")


def test_a_primary_without_replicas_where_they_are_discovered() -> None:
    config = configured(read_from="replica", topology={"discover_replicas": True})
    [line] = words(read(ONE, replies()), config=config)
    assert 'has no replica, and with read_from = "replica" every read of it is an error' in line


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("NOAUTH Authentication required.", "asks for a password: set password_env or password_file"),
        ("LOADING Redis is loading the dataset in memory", "loads its data, and answers nothing yet: try again"),
        ("DENIED Redis is running in protected mode", "is in protected mode, and lets in clients of its own machine"),
        ("NOPERM this user has no permissions", "does not allow its user INFO"),
        ("ERR odd", "answers with: ERR odd"),
    ],
)
def test_a_server_that_refuses(refusal: str, said: str) -> None:
    facts = read(ONE, [hiredis.ReplyError(refusal)] * len(QUESTIONS))
    [line] = words(facts)
    assert line.startswith(f"error      10.0.0.1:6379 (shard-1): {said}")
    assert row(facts, list(judge_all([facts], configured())))["state"] == "1 error"


def test_answers_that_are_none_of_redis(tmp_path: Path) -> None:
    answers: list[list[object]] = [
        [None] * len(QUESTIONS),
        [7] * len(QUESTIONS),
        [b""] * len(QUESTIONS),
        [[]] * len(QUESTIONS),
    ]
    for odd in answers:
        assert read(ONE, odd).failure == "does not answer INFO as a Redis server does"
    facts = read(ONE, [[], *replies()[1:5], 7, *([7] * len(SETTINGS))])
    assert (facts.failure, facts.settings, facts.modules, facts.role) == ("", {}, None, "primary")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "does not answer within 2 s"),
        (OSError(113, "No route to host"), "there is no way to this host"),
        (OSError(101, "Network is unreachable"), "there is no way to its network"),
        (PermissionError(13, "Permission denied"), "has a socket that this user may not use"),
        (OSError(5, "odd"), "can not be reached: odd"),
        (BackendError("the server refuses the proxy's AUTH: WRONGPASS no"), "correct username and password"),
        (BackendError("what answers is no Redis server: x"), "what answers is no Redis server"),
    ],
)
def test_why_a_server_can_not_be_asked(error: Exception, said: str) -> None:
    assert said in failure_words(error, 2.0)
