"""What servers say of themselves, put together."""

import logging

import pytest

from proxy.planning.server_facts import Module, ServerFacts, common, listed
from tests.support.plans import topology
from tests.support.sessions import Room, say

JSON: Module = ((b"name", b"ReJSON"), (b"ver", 20803), (b"path", b"/a.so"), (b"args", (b"x", b"y")))
BLOOM: Module = ((b"name", b"bf"), (b"ver", 20802))
NEWER: Module = ((b"name", b"bf"), (b"ver", 20811))
LISTED = (
    b"*1\r\n*8\r\n$4\r\nname\r\n$6\r\nReJSON\r\n$3\r\nver\r\n:20803\r\n$4\r\npath\r\n$5\r\n/a.so\r\n"
    b"$4\r\nargs\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n"
)


def test_modules_that_all_have() -> None:
    assert common([]) == ()
    assert common([[JSON, BLOOM], [NEWER]]) == (BLOOM,)
    assert common([[JSON], []]) == ()


def test_hello_and_module_list_agree() -> None:
    session = Room().enter()
    assert say(session, "MODULE", "LIST") == b"*0\r\n"
    session.world.modules = {protocol: listed([JSON], protocol) for protocol in (2, 3)}
    assert say(session, "MODULE", "LIST") == LISTED
    assert say(session, "HELLO", "2").endswith(b"$7\r\nmodules\r\n" + LISTED)
    assert say(session, "HELLO", "3").endswith(b"$7\r\nmodules\r\n" + LISTED.replace(b"*8", b"%4"))
    assert say(session, "MODULE", "LIST") == LISTED.replace(b"*8", b"%4")


def test_the_shards_of_the_lowest_version() -> None:
    whole = topology(3)
    nodes = [shard.primary for shard in whole.shards]
    facts = ServerFacts(lambda: whole)
    assert not facts.oldest()
    facts.learn(dict.fromkeys(nodes, "7.0.15"))
    assert not facts.oldest()
    facts.learn(dict(zip(nodes, ("8.2.3", "7.0.15", "7.0.15"), strict=True)))
    assert facts.oldest() == {1, 2}
    facts.learn(dict(zip(nodes, ("10.0.0", "9.0.0", None), strict=True)))
    assert facts.oldest() == {1}


def test_what_differs_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    facts = ServerFacts(lambda: topology(2))
    with caplog.at_level(logging.WARNING):
        for value in ("1", "1", "2", "2"):
            facts.differ("maxmemory", [("s1", "0"), ("s2", value)])
    assert [record.getMessage().partition("setting=")[2] for record in caplog.records] == [
        "maxmemory s1='0' s2='1'",
        "maxmemory s1='0' s2='2'",
    ]
