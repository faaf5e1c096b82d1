"""How far a replica is behind, and what that makes of it: all of it arithmetic on times that are given."""

import math

import hiredis
import pytest

from proxy.backends.replica_lag import Fault, Role, Sight, Timeline, Unwatched, near, read_role
from proxy.sharding.topology import Node

MOST = 5.0
GRACE = 0.5


@pytest.mark.parametrize(
    ("reply", "role"),
    [
        ([b"master", 3129659, [[b"127.0.0.1", b"9001", b"3129242"]]], Role(True, False, 3129659)),
        ([b"master", 0, []], Role(True, False, 0)),
        ([b"slave", b"127.0.0.1", 9000, b"connected", 3167038], Role(False, True, 3167038)),
        ([b"slave", b"127.0.0.1", 9000, b"connect", -1], Role(False, False, None)),
        ([b"slave", b"127.0.0.1", 9000, b"connecting", -1], Role(False, False, None)),
        ([b"slave", b"127.0.0.1", 9000, b"sync", -1], Role(False, False, None)),
        ([b"slave", b"127.0.0.1", 9000, b"handshake", 12], Role(False, False, 12)),
        ([b"slave", b"127.0.0.1", 9000, b"none", 12], Role(False, False, 12)),
        ([b"replica", b"127.0.0.1", b"9000", b"stable_sync"], Role(False, True, None)),  # Dragonfly
        ([b"master", []], Role(True, False, None)),  # Dragonfly
        ([b"sentinel", [b"mymaster"]], None),
        ([b"slave"], None),
        ([], None),
        (b"OK", None),
        (hiredis.ReplyError("NOPERM this user has no permissions to run the 'role' command"), None),
    ],
)
def test_roles(reply: object, role: Role | None) -> None:
    assert read_role(reply) == role


def timeline(*samples: tuple[float, int], spacing: float = 0.0) -> Timeline:
    made = Timeline(spacing)
    for when, offset in samples:
        made.add(when, offset)
    return made


@pytest.mark.parametrize(
    ("samples", "offset", "lag"),
    [
        ([], 0, 0.0),  # nothing is known of the primary
        ([(1.0, 100)], 100, 0.0),
        ([(1.0, 100)], 120, 0.0),  # it has what came after the sample
        ([(1.0, 100)], 99, 9.0),  # more than this
        ([(1.0, 100), (2.0, 200), (3.0, 300)], 300, 0.0),
        ([(1.0, 100), (2.0, 200), (3.0, 300)], 299, 8.0),
        ([(1.0, 100), (2.0, 200), (3.0, 300)], 200, 8.0),
        ([(1.0, 100), (2.0, 200), (3.0, 300)], 199, 9.0),
        ([(1.0, 100), (2.0, 200), (3.0, 300)], 5, 9.0),
        ([(1.0, 100), (2.0, 100), (3.0, 100), (4.0, 200)], 150, 7.0),  # nothing was written until 3.0
        ([(1.0, 100), (9.0, 100)], 100, 0.0),
        ([(1.0, 5000), (2.0, 100), (3.0, 200)], 100, 8.0),  # the primary began anew
        ([(1.0, 5000), (2.0, 100)], 50, 8.0),
    ],
)
def test_the_lag_is_the_age_of_the_newest_sample_reached(
    samples: list[tuple[float, int]], offset: int, lag: float
) -> None:
    assert timeline(*samples).lag(offset, 10.0) == lag


@pytest.mark.parametrize("most", [0.05, 5.0, 86400.0])
def test_samples_reach_back_past_the_greatest_lag(most: float) -> None:
    """However often it is sampled, and with few of the samples kept, a lag just too large is seen as one."""
    period = min(max(most / 4, 0.05), 0.25)
    made = Timeline(most / 500)
    samples = int(2 * most / period) + 10
    for number in range(samples):
        made.add(number * period, number)
    now = (samples - 1) * period
    late = math.ceil(1.1 * most / period)
    lag = made.lag(samples - 1 - late, now)
    assert late * period <= lag <= late * period + most / 500 + period
    assert made.lag(samples - 2, now) <= 2 * period + most / 500


def sight(role: Role | None, at: float = 10.0, samples: Timeline | None = None) -> Sight:
    """A server that answered at that time."""
    made = Sight(0.0)
    made.answer(role, at - 0.001, at, samples or timeline((8.0, 100), (9.0, 200)))
    return made


FOLLOWS = Role(False, True, 200)


@pytest.mark.parametrize(
    ("role", "now", "fault", "words"),
    [
        (FOLLOWS, 10.0, Fault.NONE, ""),
        (FOLLOWS, 14.9, Fault.NONE, ""),  # it may be slow to answer for as long as it may be behind
        (FOLLOWS, 15.1, Fault.SILENT, "it has not answered for 5.1 s"),
        (Role(False, True, 100), 10.0, Fault.NONE, ""),  # 2 s behind
        (Role(False, True, 100), 12.0, Fault.NONE, ""),
        (Role(False, True, 100), 13.1, Fault.LAG, "it is 5.1 s behind its primary"),  # 2 s, and no word for 3.1 s
        (Role(False, True, 100), 16.0, Fault.SILENT, "it has not answered for 6.0 s"),
        (Role(False, True, None), 10.0, Fault.NONE, ""),  # a server that tells no offset
        (Role(False, False, 200), 10.0, Fault.LINK, "its link to its primary is down"),
        (Role(True, False, 200), 10.0, Fault.LINK, "it says that it is a primary and follows nobody"),
        (None, 10.0, Fault.NONE, ""),  # a server that does not say
        (None, 15.1, Fault.SILENT, "it has not answered for 5.1 s"),
    ],
)
def test_replicas(role: Role | None, now: float, fault: Fault, words: str) -> None:
    made = sight(role)
    made.answer(FOLLOWS, 7.999, 8.0, timeline())  # its link was up then
    made.answer(role, 9.999, 10.0, timeline((8.0, 100), (9.0, 200)))
    assert made.judge(False, now, MOST, GRACE) == (fault, words)


@pytest.mark.parametrize(
    ("role", "now", "fault"),
    [
        (Role(True, False, 200), 10.0, Fault.NONE),
        (Role(True, False, 200), 15.1, Fault.SILENT),
        (Role(False, False, 200), 10.0, Fault.NONE),  # whoever finds the shards will see that
        (None, 10.0, Fault.NONE),
    ],
)
def test_a_primary_need_only_answer(role: Role | None, now: float, fault: Fault) -> None:
    assert sight(role).judge(True, now, MOST, GRACE)[0] is fault


def test_one_that_was_never_heard_is_fit_until_it_should_have_answered() -> None:
    made = Sight(3.0)
    made.trouble = "Connection refused"
    assert made.judge(False, 7.9, MOST, GRACE) == (Fault.NONE, "")
    words = "it has not answered for 5.5 s: Connection refused"
    assert made.judge(False, 8.5, MOST, GRACE) == (Fault.SILENT, words)
    made.answer(FOLLOWS, 8.9, 9.0, timeline())
    assert made.judge(False, 9.0, MOST, GRACE) == (Fault.NONE, "")
    assert made.judge(False, 14.5, MOST, GRACE) == (Fault.SILENT, "it has not answered for 5.5 s")


def test_data_grows_old_once_the_link_is_down() -> None:
    made = sight(FOLLOWS, at=10.0)
    found = []
    for now in (11.0, 14.9, 15.1):
        made.answer(Role(False, False, 200), now - 0.01, now, timeline((8.0, 100), (9.0, 200)))
        found.append(made.judge(False, now, MOST, GRACE)[0])
    assert found == [Fault.LINK, Fault.LINK, Fault.OLD]
    made.answer(FOLLOWS, 16.0, 16.0, timeline())
    assert made.judge(False, 16.0, MOST, GRACE)[0] is Fault.NONE


def test_a_role_that_changed_says_nothing() -> None:
    made = sight(Role(True, False, 100))
    assert made.judge(False, 10.0, MOST, GRACE)[0] is Fault.OLD
    made.forget()
    assert made.judge(False, 10.0, MOST, GRACE)[0] is Fault.NONE
    assert made.behind(10.0, GRACE) == 0.0


def test_silence_is_not_shorter_than_answers_are_apart() -> None:
    """With a lag of less than that allowed, a server would else be unfit between any two answers."""
    made = sight(FOLLOWS, at=10.0)
    assert made.judge(False, 10.4, 0.05, GRACE)[0] is Fault.NONE
    assert made.judge(False, 10.6, 0.05, GRACE)[0] is Fault.SILENT


def trips(made: Sight, *seconds: float) -> bool:
    for trip in seconds:
        made.answer(FOLLOWS, 1.0, 1.0 + trip, timeline())
    return made.measure()


def test_the_distance_is_the_shortest_of_the_last_round_trips() -> None:
    made = Sight(0.0)
    assert math.isinf(made.distance)
    assert not made.measure()
    assert trips(made, 0.040, 0.010, 0.500)
    assert made.distance == pytest.approx(0.010)
    assert trips(made, *[0.030] * 8)
    assert made.distance == pytest.approx(0.030)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (0.010, 0.0119, False),
        (0.010, 0.0121, True),
        (0.010, 0.0085, False),
        (0.010, 0.0080, True),
        (0.0001, 0.00029, False),
        (0.0001, 0.00031, True),
        (0.00029, 0.0001, False),
    ],
)
def test_a_distance_that_hardly_changed_is_not_told_anew(before: float, after: float, told: bool) -> None:
    made = Sight(0.0)
    trips(made, *[before] * 8)
    assert trips(made, *[after] * 8) is told
    assert made.distance == pytest.approx(after if told else before)


@pytest.mark.parametrize(
    ("distance", "shortest", "is_near"),
    [
        (0.010, 0.010, True),
        (0.0119, 0.010, True),
        (0.013, 0.010, False),
        (0.0003, 0.00015, True),
        (0.0004, 0.00015, False),
        (math.inf, 0.010, False),
        (math.inf, math.inf, True),
    ],
)
def test_near(distance: float, shortest: float, is_near: bool) -> None:
    assert near(distance, shortest) is is_near


def test_where_nobody_watches_all_are_fit() -> None:
    node = Node("127.0.0.1", 6379)
    unwatched = Unwatched()
    assert unwatched.reason(node) == ""
    assert unwatched.spare(node)
    assert math.isinf(unwatched.distance(node))
