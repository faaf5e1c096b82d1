"""A flood of events leaves a few lines in each second, and the number of those that were left out."""

from proxy.transport.log_rate import LogRate


def test_so_many_in_a_second() -> None:
    now, told = [100.0], list[int]()
    rate = LogRate(lambda: now[0], 2, told.append)
    assert [rate.allows() for _ in range(5)] == [True, True, False, False, False]
    now[0] += 0.9
    assert not rate.allows()
    assert told == []
    now[0] += 0.1
    assert [rate.allows() for _ in range(3)] == [True, True, False]
    assert told == [4]
    now[0] += 5.0
    assert rate.allows()
    assert told == [4, 1]
    now[0] += 5.0
    assert rate.allows()
    assert told == [4, 1]
