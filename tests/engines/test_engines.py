"""The compiled engine does what the same modules do uncompiled, on random input; a case runs through both.

Every run has the same 100,000 cases and more. Further ones, and one alone::

    ENGINES_TIMES=50 pytest tests/engines              fifty times as many
    ENGINES_TIMES=50 pytest tests/engines -k window    of one subject
    ENGINES_REPLAY=window:1234 pytest tests/engines    case 1234 of the window

A case that differs is shortened as far as it goes on differing, and shown with both outcomes.
"""

import logging
import os
from collections.abc import Iterator
from random import Random

import pytest

from proxy.compiled import MODULES, engine
from tests.engines import bytes_in, clients, states
from tests.engines.subject import Steps, Subject, check, differs, shortened
from tests.engines.twins import Engine, compiled, plain

pytestmark = pytest.mark.skipif(engine() != "compiled", reason="the engine is not compiled: nothing to compare it with")

SUBJECTS = {subject.name: subject for subject in (*bytes_in.SUBJECTS, *states.SUBJECTS, *clients.SUBJECTS)}
TIMES = float(os.environ.get("ENGINES_TIMES", "1"))
REPLAY = os.environ.get("ENGINES_REPLAY", "")


@pytest.fixture(scope="module")
def engines() -> tuple[Engine, Engine]:
    return plain(), compiled()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of servers that fail are nothing to tell."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def numbers(subject: Subject) -> range:
    """The cases to run."""
    if not REPLAY:
        return range(int(subject.cases * TIMES))
    name, _, number = REPLAY.partition(":")
    return range(int(number), int(number) + 1) if name == subject.name else range(0)


@pytest.mark.timeout(120 * max(TIMES, 1))
@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_both_engines_do_the_same(subject: Subject, engines: tuple[Engine, Engine]) -> None:
    for number in numbers(subject):
        found = check(subject, number, engines)
        assert found is None, found


def test_there_are_enough_cases() -> None:
    assert sum(subject.cases for subject in SUBJECTS.values()) >= 100_000
    assert not REPLAY or REPLAY.partition(":")[0] in SUBJECTS


def test_they_are_two_engines(engines: tuple[Engine, Engine]) -> None:
    one, other = engines
    for name in (module.removeprefix("proxy.") for module in MODULES):
        assert str(one[name].__file__).endswith(".py")
        assert not str(other[name].__file__).endswith(".py")
    assert one["engine.sink"].DISCARD is not other["engine.sink"].DISCARD


def test_inputs_are_made_from_their_number() -> None:
    for subject in SUBJECTS.values():
        assert subject.make(Random(7)) == subject.make(Random(7))


class TestADifference:
    """What is shown of one: planted here, in a subject that tells which engine it runs on."""

    @staticmethod
    def observe(engine: Engine, steps: Steps) -> object:
        return [step for step in steps if step != b"bad"] if engine.kind == "plain" else list(steps)

    def planted(self, steps: Steps) -> Subject:
        return Subject("planted", lambda _: steps, self.observe, 1)

    def test_is_found_and_shortened(self, engines: tuple[Engine, Engine]) -> None:
        steps: Steps = [b"a" * 10, ("x",), b"bad", b"b", ("y", 1)]
        subject = self.planted(steps)
        assert differs(subject, steps, engines) == ([b"a" * 10, ("x",), b"b", ("y", 1)], steps)
        found = check(subject, 5, engines)
        assert found is not None
        assert "ENGINES_REPLAY=planted:5" in found
        assert "input (1 of 5 steps): [b'bad']" in found
        assert "plain: []" in found
        assert "compiled: [b'bad']" in found

    def test_is_not_there(self, engines: tuple[Engine, Engine]) -> None:
        assert check(self.planted([b"a", b"b"]), 0, engines) is None

    def test_may_be_that_one_fails(self, engines: tuple[Engine, Engine]) -> None:
        def fails(engine: Engine, steps: Steps) -> object:
            if engine.kind == "plain":
                raise IndexError("so")
            return len(steps)

        found = check(Subject("fails", lambda _: [1, 2], fails, 1), 0, engines)
        assert found is not None
        assert "IndexError" in found

    def test_is_shortened_inside_its_bytes(self) -> None:
        def bad(steps: Steps) -> bool:
            return any(b"B" in step for step in steps if isinstance(step, bytes))

        assert shortened([b"xxxx", b"aaaaBaaaa", (1,)], bad) == [b"B"]
