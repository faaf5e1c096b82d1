"""The states of what a client watches: what can not happen in one raises."""

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.features.host import Host
from proxy.features.watch import TRANSITIONS, Watch, WatchEvent, WatchState


def fresh() -> Watch:
    """A watch that no server knows of yet."""
    service = SimpleNamespace(upstream=SimpleNamespace())
    return Watch(cast(Host, SimpleNamespace(service=service, session=SimpleNamespace(db=0, protocol=2))))


def test_nothing_is_executed_that_is_not_watched() -> None:
    watch = fresh()
    with pytest.raises(RuntimeError, match="EXECUTE comes for a watch that is NEW"):
        watch.execute(b"", False, lambda lease, fate, reply: None, fenced=False)
    assert watch.state is WatchState.NEW


@pytest.mark.parametrize("state", [WatchState.NEW, WatchState.ENDED])
def test_what_is_not_watched_can_not_be_released(state: WatchState) -> None:
    watch = fresh()
    watch.state = state
    with pytest.raises(RuntimeError, match=f"RELEASE comes for a watch that is {state.name}"):
        watch.release()


def test_a_watch_begins_once() -> None:
    watch = fresh()
    watch.state = WatchState.ASKED
    with pytest.raises(RuntimeError, match="BEGIN comes for a watch that is ASKED"):
        watch.begin(frozenset({1}), b"", lambda kept, reply: None)
    assert watch.slots == frozenset()


def test_a_client_may_leave_at_any_time() -> None:
    """RESET and a lost client end whatever is watched, also while a server is asked."""
    for state in set(WatchState) - {WatchState.NEW, WatchState.ENDED}:
        assert TRANSITIONS[state, WatchEvent.RELEASE] is WatchState.ENDED


def test_every_state_is_reached_and_the_last_is_left_by_nothing() -> None:
    assert {WatchState.NEW, *TRANSITIONS.values()} == set(WatchState)
    assert WatchState.ENDED not in {state for state, _ in TRANSITIONS}
