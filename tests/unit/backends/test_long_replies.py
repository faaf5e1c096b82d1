"""Which requests are remembered for their very long replies: so many, for so long, and by their words."""

from proxy.backends.long_replies import KEPT, LONGEST, MOST, LongReplies
from proxy.resp import encode


def request(*words: str) -> bytes:
    return encode.request([word.encode() for word in words])


def test_a_request_is_known_by_its_words() -> None:
    longs = LongReplies()
    assert not longs.any([request("lrange", "k", "0", "-1")])
    assert longs.add(request("lrange", "k", "0", "-1"), "lrange", 0.0)
    assert longs.names == {"lrange"}
    assert longs.any([request("get", "k"), request("lrange", "k", "0", "-1")])
    assert not longs.any([request("lrange", "k", "0", "9"), request("llen", "k"), request("get", "k")])


def test_names_change_only_with_the_first_and_the_last() -> None:
    longs = LongReplies()
    assert longs.add(request("get", "a"), "get", 0.0)
    assert not longs.add(request("get", "b"), "get", 1.0)
    assert longs.add(request("mget", "b"), "mget", 1.0)
    assert not longs.forget(KEPT)
    assert len(longs) == 3
    assert not longs.forget(KEPT + 0.5)
    assert not longs.any([request("get", "a")])
    assert longs.forget(KEPT + 2.0)
    assert len(longs) == 0
    assert longs.names == frozenset()


def test_another_long_reply_keeps_it() -> None:
    longs = LongReplies()
    assert not longs.again(request("get", "a"), 0.0)
    longs.add(request("get", "a"), "get", 0.0)
    assert longs.again(request("get", "a"), KEPT)
    assert not longs.forget(KEPT * 2)
    assert longs.any([request("get", "a")])
    assert longs.forget(KEPT * 2 + 1)


def test_those_of_the_last_long_replies_are_kept() -> None:
    longs = LongReplies()
    for number in range(MOST):
        longs.add(request("get", str(number)), "get", float(number))
    longs.again(request("get", "0"), float(MOST))
    for number in range(MOST, MOST * 2 - 1):
        longs.add(request("get", str(number)), "get", float(number))
        assert len(longs) == MOST
    assert longs.any([request("get", "0")])
    assert not longs.any(request("get", str(number)) for number in range(1, MOST))
    assert longs.any([request("get", str(MOST))])


def test_a_request_of_many_words_is_not_kept() -> None:
    longs = LongReplies()
    frame = request("mget", "k" * LONGEST)
    assert not longs.add(frame, "mget", 0.0)
    assert not longs.any([frame])
    assert len(longs) == 0
