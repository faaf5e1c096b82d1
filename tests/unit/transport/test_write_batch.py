"""A turn of the loop: what clients may do in it, whose turn it is, and when output is written."""

from collections.abc import Iterator

import pytest

from proxy.transport.write_batch import LOOK, SHARE, SHARE_LOOKS, TURN, Turn
from tests.support.clocks import Told
from tests.support.virtual_loop import VirtualLoop


class SteppedLoop:
    """A turn whose clock is told, in a loop that goes one round at a time."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = Told(self.loop)
        self.turn = Turn(self.loop, self.clock)
        self.log: list[str] = []

    def round(self) -> list[str]:
        """What one round of the loop brings about."""
        self.log = []
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        return self.log


class Client:
    """One with ``left`` requests that take ``each`` seconds."""

    def __init__(self, stepped: SteppedLoop, name: str, left: int, each: float = 0.0, cost: int = 1) -> None:
        self._stepped = stepped
        self._name = name
        self._each = each
        self._cost = cost
        self.left = left

    def begin(self) -> None:
        if self._stepped.turn.share() >= 0:
            self.next_share()
        else:
            self._stepped.turn.wait(self)

    def next_share(self) -> None:
        turn = self._stepped.turn
        done = 0
        if turn.share() >= 0:
            while self.left:
                if turn.credit <= 0 and turn.over():
                    break
                turn.credit -= self._cost
                self._stepped.clock.time += self._each
                self.left -= 1
                done += 1
        if self.left:
            turn.wait(self)
        self._stepped.log.append(f"{self._name}{done}")

    def give_up(self) -> None:
        self._stepped.log.append(f"{self._name} closed")


@pytest.fixture
def stepped() -> Iterator[SteppedLoop]:
    made = SteppedLoop()
    yield made
    made.loop.close()


def test_who_has_little_is_done_at_once(stepped: SteppedLoop) -> None:
    client = Client(stepped, "a", LOOK)
    client.begin()
    assert client.left == 0


def test_a_share_ends_by_its_number_where_time_stands_still(stepped: SteppedLoop) -> None:
    client = Client(stepped, "a", 10**6)
    client.begin()
    assert 10**6 - client.left == LOOK * SHARE_LOOKS


def test_a_share_ends_by_time(stepped: SteppedLoop) -> None:
    client = Client(stepped, "a", 10**6, each=SHARE / 10)
    client.begin()
    assert 10 <= 10**6 - client.left <= LOOK + 20


def test_what_is_left_goes_on_in_rotation(stepped: SteppedLoop) -> None:
    each = SHARE / LOOK
    clients = [Client(stepped, name, 600, each) for name in "ab"]
    for client in clients:
        client.begin()
    seen = [stepped.round() for _ in range(4)]
    assert not any(client.left for client in clients)
    assert [[entry[0] for entry in entries] for entries in seen[:2]] == [["a", "b"], ["a", "b"]]


def test_all_clients_together_end_with_the_turn_and_all_come(stepped: SteppedLoop) -> None:
    """However many there are, a turn is short, and of those who wait nobody comes twice before everybody came once."""
    each = SHARE / LOOK
    clients = [Client(stepped, f"{number}:", 1000, each) for number in range(50)]
    for client in clients:
        client.begin()
    first = [entry.partition(":")[0] for entry in stepped.log]
    assert len(first) < 10
    came: list[str] = []
    while len(came) < 100:
        before = stepped.clock.time
        came += [entry.partition(":")[0] for entry in stepped.round()]
        assert stepped.clock.time - before < TURN + 3 * SHARE
    assert sorted(came[:50], key=int) == [str(number) for number in range(50)]


def test_output_is_written_before_and_after_who_goes_on(stepped: SteppedLoop) -> None:
    class Output:
        def __init__(self, name: str) -> None:
            self.name = name

        def flush(self) -> None:
            stepped.log.append(self.name)

    class Late(Client):
        def next_share(self) -> None:
            stepped.turn.add(Output("second"))
            super().next_share()

    stepped.turn.add(Output("first"))
    stepped.turn.wait(Late(stepped, "a", 1))
    assert stepped.round() == ["first", "a1", "second"]


def test_time_stands_still_until_the_turn_is_over(stepped: SteppedLoop) -> None:
    now = stepped.turn.share()
    stepped.clock.time += 1
    assert stepped.turn.now() == now
    stepped.round()
    assert stepped.turn.now() == stepped.clock.time


def test_a_fault_closes_one_client_and_the_others_go_on(stepped: SteppedLoop, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Client):
        def next_share(self) -> None:
            raise RuntimeError("a fault")

    stepped.turn.wait(Broken(stepped, "a", 1))
    stepped.turn.wait(Client(stepped, "b", 1))
    assert stepped.round() == ["a closed", "b1"]
    assert "a fault" in caplog.text
