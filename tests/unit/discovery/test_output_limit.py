"""What a server says about when it closes a connection in which too much waits."""

import pytest

from proxy.backends.query import Reply
from proxy.discovery.learn import output_limit


@pytest.mark.parametrize(
    ("reply", "limit"),
    [
        ([b"client-output-buffer-limit", b"normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"], None),
        ([b"client-output-buffer-limit", b"normal 1048576 0 0 slave 1 2 3 pubsub 4 5 6"], 1048576),
        ([b"client-output-buffer-limit", b"normal 0 1048576 60 slave 1 2 3 pubsub 4 5 6"], None),
        ([b"client-output-buffer-limit", b"slave 1 2 3 normal 77 8 9"], 77),
        ([b"client-output-buffer-limit", b"normal"], None),
        ([b"client-output-buffer-limit", b"normal many 0 0"], None),
        ([b"client-output-buffer-limit"], None),
        ([], None),
        (None, None),
        (b"-ERR", None),
    ],
)
def test_the_hard_limit_of_usual_clients(reply: Reply, limit: int | None) -> None:
    assert output_limit(reply) == limit
