"""Co-location rules: what they say of a key, and that everything in a worker which computes slots says the same."""

from binascii import crc_hqx
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.client.fast_path import run
from proxy.config import Config
from proxy.errors import CROSSSLOT
from proxy.planning.planner import Forward, Reject
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.session import commands
from proxy.sharding.colocation import Colocation, Rule, build_colocation, slot_of
from proxy.sharding.slots import SLOTS, hashed_part, key_slot
from tests.support.idle_worker import IdleWorker, idle_worker

CONFIGURED: Sequence[Mapping[str, object]] = (
    {"name": "celery", "prefixes": ["celery", "unacked", "_kombu."]},
    {"prefix": "bull:", "upto": 2},
    {"prefix": "bull:deep:", "upto": 3},
    {"name": "events", "prefixes": ["bull:deep:events"]},
    {"prefix": "a", "upto": 1, "separator": "b"},
    {"prefix": "resque:", "upto": 2, "hash_tags": False},
    {"name": "locks", "prefixes": ["resque:{"], "hash_tags": False},
)


def model(key: bytes) -> int:
    """What ``CONFIGURED`` says, worked out another way."""
    if key.startswith(b"resque:"):
        whole = b"locks" if key.startswith(b"resque:{") else b":".join(key.split(b":")[:2])
        return crc_hqx(whole, 0) % SLOTS
    if hashed_part(key) != key:
        return key_slot(key)
    names = {b"celery": b"celery", b"unacked": b"celery", b"_kombu.": b"celery", b"bull:deep:events": b"events"}
    fields = {b"bull:": (2, b":"), b"bull:deep:": (3, b":"), b"a": (1, b"b")}
    best = max((prefix for prefix in (*names, *fields) if key[: len(prefix)] == prefix), key=len, default=None)
    if best is None:
        return key_slot(key)
    if best in names:
        return key_slot(names[best])
    count, separator = fields[best]
    return key_slot(separator.join(key.split(separator)[:count]))


STARTS = [
    b"celery",
    b"unacked",
    b"_kombu.",
    b"bull:",
    b"bull:deep:",
    b"bull:deep:events",
    b"a",
    b"bull",
    b"cel",
    b"",
    b"resque:",
]
REST = st.lists(st.sampled_from([b":", b"b", b"a", b"deep", b"{", b"}", b"q1", b"\r\n", b"\0"]), max_size=8).map(
    b"".join
)
KEY = st.tuples(st.sampled_from(STARTS), REST).map(b"".join).filter(lambda key: 0 < len(key) < 100)


@pytest.fixture(scope="module")
def shared() -> Iterator[IdleWorker]:
    with idle_worker(colocate=CONFIGURED) as made:
        yield made


class TestWhatARuleSays:
    rules = build_colocation(Config.model_validate({"colocate": CONFIGURED}).colocate)

    @pytest.mark.parametrize(
        ("key", "hashed"),
        [
            (b"celery", b"celery"),
            (b"celery-task-meta-1", b"celery"),
            (b"_kombu.binding.celery", b"celery"),
            (b"_kombu", b"_kombu"),
            (b"x:celery", b"x:celery"),
            (b"celery{x}", b"x"),
            (b"celery{}x", b"celery"),
            (b"celery{x", b"celery"),
            (b"bull:mail:wait", b"bull:mail"),
            (b"bull:mail", b"bull:mail"),
            (b"bull:", b"bull:"),
            (b"bull::wait", b"bull:"),
            (b"bull:mail:", b"bull:mail"),
            (b"bull:{mail}:wait", b"mail"),
            (b"bull:{mail:x}", b"mail:x"),
            (b"bull:{ma:il", b"bull:{ma"),
            (b"bull:deep:x:y", b"bull:deep:x"),
            (b"bull:deep:events:1", b"events"),
            (b"bull:deep", b"bull:deep"),
            (b"ab", b"a"),
            (b"aaba", b"aa"),
            (b"resque:mail:{x}", b"resque:mail"),
            (b"resque:{x}:1", b"locks"),
        ],
    )
    def test_which_part_is_hashed(self, key: bytes, hashed: bytes) -> None:
        assert self.rules is not None
        assert self.rules.slot(key) == key_slot(hashed)

    @given(KEY)
    @example(b"bull:{}a:q1")
    def test_it_is_what_the_model_says(self, key: bytes) -> None:
        assert self.rules is not None
        assert self.rules.slot(key) == model(key)
        assert 0 <= model(key) < SLOTS

    @given(REST, KEY, REST)
    def test_a_key_is_found_where_it_stands(self, before: bytes, key: bytes, behind: bytes) -> None:
        assert self.rules is not None
        assert self.rules.span_slot(before + key + behind, len(before), len(before) + len(key)) == model(key)

    @given(KEY)
    def test_a_rule_about_all_keys(self, key: bytes) -> None:
        rules = Colocation([Rule(b"", 0, 1, b":"), Rule(b"celery", 7)])
        hashed = key if hashed_part(key) != key else key.partition(b":")[0]
        expected = 7 if key.startswith(b"celery") and hashed_part(key) == key else key_slot(hashed)
        assert rules.slot(key) == expected

    @pytest.mark.parametrize(
        ("pattern", "hashed"),
        [
            (b"resque:mail:{x}*", b"resque:mail"),  # a tag does not count by this rule
            (b"resque:mail:*->f", b"resque:mail"),
            (b"resque:{x}*", b"locks"),
            (b"resque:{*", b"locks"),
            (b"resque:mail*", None),
            (b"resque:*", None),  # "{" may follow, which is another rule's
            (b"res*", None),
            (b"bull:{mail}*", b"mail"),
            (b"bull:mail:*", None),  # an element may have a tag, which counts by this rule
            (b"celery*", None),
            (b"x{a}*", b"a"),
            (b"x*{a}", None),
            (b"x{}{a}*", None),
            (b"*", None),
        ],
    )
    def test_what_a_pattern_of_sort_may_name(self, pattern: bytes, hashed: bytes | None) -> None:
        assert self.rules is not None
        assert self.rules.pattern_slot(pattern) == (-1 if hashed is None else key_slot(hashed))

    @given(KEY, st.lists(REST, min_size=1, max_size=5))
    @example(b"resque:", [b"{", b"a"])
    @example(b"res", [b"que:a:", b"que:b:"])
    def test_all_keys_of_a_pattern_are_in_its_slot(self, begin: bytes, elements: list[bytes]) -> None:
        assert self.rules is not None
        found = self.rules.pattern_slot(begin + b"*:{b}")
        if found >= 0:
            assert {model(begin + element + b":{b}") for element in elements} == {found}

    def test_no_rules_are_none(self) -> None:
        assert build_colocation(()) is None
        assert slot_of(None) is key_slot

    def test_the_longest_prefix_wins_whatever_the_order(self) -> None:
        rules = [Rule(b"a", 1), Rule(b"abc", 3), Rule(b"ab", 2)]
        for order in (rules, rules[::-1]):
            made = Colocation(order)
            assert [made.slot(key) for key in (b"a", b"ab", b"abc", b"abcd")] == [1, 2, 3, 3]


@given(st.lists(KEY, min_size=1, max_size=5))
@example([b"celery", b"unacked", b"bull:1:a"])
def test_all_agree(shared: IdleWorker, keys: list[bytes]) -> None:
    """The fast path, its split, the planner, what is looked at on a loss, and CLUSTER KEYSLOT."""
    service = shared.service
    owner = service.topology.slot_shard
    slots = [model(key) for key in keys]

    def sent_by_the_fast_lane(*args: bytes) -> set[int]:
        frame = encode.request(args)
        done, sent = shared.do(lambda: (run(shared.enter(), frame, 0, 7.5, 1 << 40), shared.sent()))
        assert done == len(frame)
        return {shard for shard, _ in sent}

    for key, slot in zip(keys, slots, strict=True):
        assert service.inspector.slot_of(key) == slot
        assert sent_by_the_fast_lane(b"SET", key, b"v") == {owner[slot]}
        args = [b"GET", key]
        fact = service.inspector.table.resolve(args)
        assert fact is not None
        plan = service.planner.plan(fact, args, encode.request(args))
        assert isinstance(plan, Forward)
        assert plan.shard == owner[slot]
        assert service.inspector.look(encode.request(args)).slots == frozenset({slot})
        assert shared.client.session.world.slot_of(key) == slot
    shards = {owner[slot] for slot in slots}
    assert sent_by_the_fast_lane(b"DEL", *keys) == shards
    args = [b"DEL", *keys]
    fact = service.inspector.table.resolve(args)
    assert fact is not None
    plan = service.planner.plan(fact, args, encode.request(args))
    assert isinstance(plan, Forward | Scatter)
    assert {part.shard for part in plan.parts} == shards if isinstance(plan, Scatter) else {plan.shard} == shards
    args = [b"SUNION", *keys]
    fact = service.inspector.table.resolve(args)
    assert fact is not None
    plan = service.planner.plan(fact, args, encode.request(args))
    assert (plan == Reject(CROSSSLOT)) == (len(set(slots)) > 1)


def test_cluster_keyslot_answers_what_is_used(shared: IdleWorker) -> None:
    session = shared.do(shared.enter).session
    answer = commands.find("cluster|keyslot").run(session, [b"CLUSTER", b"KEYSLOT", b"celery-x"], 0.0)
    assert answer == encode.integer(key_slot(b"celery")) != encode.integer(key_slot(b"celery-x"))
