"""The reasons for which a client is not read from."""

from proxy.transport.flow_control import Stop


def test_each_reason_is_a_bit_of_its_own() -> None:
    """Two of one bit end each other: a long request was gone on with when its client had caught up with reading."""
    reasons = [value for name, value in vars(Stop).items() if name.isupper()]
    assert len(reasons) == len(set(reasons))
    assert all(reason.bit_count() == 1 for reason in reasons)
