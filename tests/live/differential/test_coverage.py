"""Nearly every command that a server's COMMAND lists is compared, and each other one is named with its reason."""

import pytest

from tests.live.differential.coverage import COVERED_AT_LEAST, LEFT_OUT, ONLY_ERRORS, commands_of, compared
from tests.live.site import Site

pytestmark = pytest.mark.live


def test_every_command_is_compared_or_named(swift: Site) -> None:
    wanted, found = commands_of(swift), compared(swift)
    assert not wanted - found - set(LEFT_OUT), "neither a case nor a reason"
    covered = len(wanted & found) / len(wanted)
    assert covered >= COVERED_AT_LEAST, f"{covered:.1%} of {len(wanted)}, without {sorted(wanted - found)}"


def test_nothing_is_named_in_vain(swift: Site) -> None:
    """What is left out has no case, on any server; what is excused answers nothing but errors on some."""
    assert not set(LEFT_OUT) & set(ONLY_ERRORS)
    if swift.plain.binary.kind == "redis":
        assert not compared(swift) & set(LEFT_OUT)
