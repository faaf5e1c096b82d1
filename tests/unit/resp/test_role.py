"""What servers reply to ROLE, and what of an INFO document is read line by line."""

from random import Random

import hiredis
import pytest

from proxy.resp.info import fields
from proxy.resp.role import RoleReply, is_replica
from tests.unit.discovery.damage import damaged

REPLICAS = [[b"10.0.0.2", b"6379", b"3129242"]]
SOUND: list[list[object]] = [
    [b"master", 3129659, REPLICAS],
    [b"master", REPLICAS],
    [b"slave", b"10.0.0.1", 6379, b"connected", 3167038],
    [b"replica", b"10.0.0.1", b"6379", b"stable_sync"],
    [b"sentinel", [b"mymaster"]],
]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ([b"master", 3129659, REPLICAS], RoleReply(b"master", 3129659, tuple(REPLICAS))),
        ([b"master", REPLICAS], RoleReply(b"master", None, tuple(REPLICAS))),  # Dragonfly
        ([b"master"], RoleReply(b"master")),
        (
            [b"slave", b"10.0.0.1", 6379, b"connected", 5],
            RoleReply(b"slave", 5, source=(b"10.0.0.1", 6379), link=b"connected"),
        ),
        (
            [b"replica", b"10.0.0.1", b"6379", b"stable_sync"],  # Dragonfly
            RoleReply(b"replica", source=(b"10.0.0.1", b"6379"), link=b"stable_sync"),
        ),
        ([b"slave", b"10.0.0.1", 6379, None, b"x"], RoleReply(b"slave", source=(b"10.0.0.1", 6379), link=b"")),
        ([b"slave", b"10.0.0.1"], RoleReply(b"slave", source=(b"10.0.0.1",))),
        ([b"slave"], RoleReply(b"slave")),
        ([b"sentinel", [b"mymaster"]], RoleReply(b"sentinel")),
        ([b"arbiter"], None),
        ([[b"master"]], None),
        ([None], None),
        ([], None),
        (b"OK", None),
        (None, None),
        (hiredis.ReplyError("NOPERM no permissions"), None),
    ],
)
def test_what_a_server_says_of_its_role(reply: object, said: RoleReply | None) -> None:
    assert RoleReply.read(reply) == said


@pytest.mark.parametrize(
    ("link", "linked", "copying"),
    [
        (b"connected", True, False),
        (b"stable_sync", True, False),
        (b"", True, False),
        (b"none", False, False),
        (b"connect", False, True),
        (b"connecting", False, True),
        (b"handshake", False, True),
        (b"sync", False, True),
    ],
)
def test_the_link_to_the_primary(link: bytes, linked: bool, copying: bool) -> None:
    said = RoleReply.read([b"slave", b"10.0.0.1", 6379, link, 1])
    assert said is not None
    assert (said.linked, said.copying) == (linked, copying)


@pytest.mark.parametrize("seed", range(20))
def test_odd_replies_are_read_as_far_as_they_go(seed: int) -> None:
    rng = Random(seed)
    for reply in SOUND * 20:
        said = RoleReply.read(damaged(rng, reply))
        assert said is None or said.primary + said.replica + said.sentinel == 1


@pytest.mark.parametrize(
    ("word", "replica"), [(b"slave", True), (b"replica", True), (b"master", False), (None, False), ([], False)]
)
def test_the_words_for_a_replica(word: object, replica: bool) -> None:
    assert is_replica(word) is replica


def test_fields_of_an_info_document_in_order() -> None:
    document = b"# Server\r\nrun_id:1\r\n\r\nnothing\r\nrun_id:2:3\r\nempty:\r\n"
    said = [(b"run_id", b"1"), (b"run_id", b"2:3"), (b"empty", b"")]
    assert list(fields(document)) == said
    assert list(fields(document.decode())) == [(name.decode(), value.decode()) for name, value in said]
