"""Which clients are not read from, and which are closed, as their memory fills the budget."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from proxy.client.memory_budget import HARD, PATIENCE, SMALL, SOFT, Holding, MemoryBudget, MemoryHolder, MemoryVerdict

MB = 1 << 20
LIMIT = 1000 * MB


def judge(
    budget: MemoryBudget, sizes: Mapping[str, int], missing: Mapping[str, int] | None = None, now: float = 0.0
) -> MemoryVerdict[str]:
    budget.count(Holding(input=size) for size in sizes.values())
    holders = [
        MemoryHolder(name, Holding(input=size), size, (missing or {}).get(name, 0))
        for name, size in sizes.items()
        if size > SMALL
    ]
    return budget.judge(holders, now)


def names(holders: object) -> list[str]:
    assert isinstance(holders, list | tuple)
    return [holder.client for holder in holders]


def test_nothing_happens_below_the_first_part() -> None:
    budget = MemoryBudget(LIMIT)
    assert judge(budget, {"a": 599 * MB}) == MemoryVerdict()
    assert not budget.short
    assert (budget.total, budget.kinds["input"], budget.kinds["output"]) == (599 * MB, 599 * MB, 0)


def test_those_that_hold_the_most_are_not_read_from() -> None:
    budget = MemoryBudget(LIMIT)
    verdict = judge(budget, {"small": 1000, "a": 50 * MB, "greedy": 400 * MB, "b": 160 * MB})
    assert names(verdict.withheld) == ["greedy"]
    assert not verdict.closed
    # With a third of the limit left to others they stop too.
    assert names(judge(budget, {"a": 350 * MB, "greedy": 400 * MB, "small": 1000}).withheld) == ["greedy", "a"]


def test_all_are_read_from_again_when_a_quarter_is_free() -> None:
    budget = MemoryBudget(LIMIT)
    assert judge(budget, {"a": 610 * MB}).withheld
    assert judge(budget, {"a": 590 * MB}).withheld
    assert judge(budget, {"a": 450 * MB}) == MemoryVerdict()
    assert not budget.short


def test_the_greediest_are_closed_above_the_second_part() -> None:
    budget = MemoryBudget(LIMIT)
    verdict = judge(budget, {"a": 250 * MB, "greedy": 500 * MB, "b": 100 * MB})
    assert names(verdict.closed) == ["greedy"]
    verdict = judge(budget, {str(size): size * MB for size in range(280, 301, 5)})
    assert names(verdict.closed) == ["300", "295", "290"]


def test_requests_that_fit_are_completed() -> None:
    """Those with the fewest missing bytes are read from, as far as all of them fit below the second part."""
    budget = MemoryBudget(LIMIT)
    sizes = {"a": 200 * MB, "b": 200 * MB, "c": 200 * MB, "reader": 50 * MB}
    verdict = judge(budget, sizes, {"a": 100 * MB, "b": 60 * MB, "c": 80 * MB})
    assert names(verdict.withheld) == ["a"]
    verdict = judge(budget, sizes, {"a": 40 * MB, "b": 60 * MB, "c": 40 * MB})
    assert names(verdict.withheld) == []


def test_who_frees_nothing_for_long_is_closed() -> None:
    budget = MemoryBudget(LIMIT)
    sizes = {"a": 320 * MB, "b": 330 * MB}
    missing = {"a": 300 * MB, "b": 300 * MB}
    assert not judge(budget, sizes, missing, 0.0).closed
    assert not judge(budget, sizes, missing, PATIENCE - 0.1).closed
    assert names(judge(budget, sizes, missing, PATIENCE).closed) == ["b"]
    assert not judge(budget, {"a": 320 * MB}, missing, PATIENCE + 0.1).closed


def test_what_shrinks_is_waited_for() -> None:
    budget = MemoryBudget(LIMIT)
    for step in range(10):
        assert not judge(budget, {"a": (790 - 12 * step) * MB}, now=step * (PATIENCE - 0.5)).closed


def test_small_clients_are_read_from_but_closed_if_they_are_too_many() -> None:
    budget = MemoryBudget(LIMIT)
    holding = Holding(output=SMALL)
    for count, closed in (10000, 0), (20000, 20000 - int(LIMIT * HARD) // SMALL):
        budget.count([holding] * count)
        verdict = budget.judge([MemoryHolder(number, holding, SMALL) for number in range(count)], 0.0)
        assert len(verdict.closed) == closed
        assert not verdict.withheld


@given(st.lists(st.tuples(st.integers(SMALL + 1, 2 * LIMIT), st.integers(0, LIMIT)), max_size=30))
def test_what_may_be_read_fits(clients: list[tuple[int, int]]) -> None:
    """After any verdict the clients that are left fit below the second part, and those that are read from although
    their request is not about to be completed hold a part of it only."""
    budget = MemoryBudget(LIMIT)
    sizes = {str(number): size for number, (size, _) in enumerate(clients)}
    missing = {str(number): left for number, (_, left) in enumerate(clients)}
    verdict = judge(budget, sizes, missing)
    gone, withheld = set(names(verdict.closed)), set(names(verdict.withheld))
    left = sum(size for name, size in sizes.items() if name not in gone)
    assert left <= LIMIT * HARD
    if left > LIMIT * SOFT:
        reading = sizes.keys() - gone - withheld
        assert sum(sizes[name] for name in reading if not missing[name]) <= LIMIT * SOFT / 2
