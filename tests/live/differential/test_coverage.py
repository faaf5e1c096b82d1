"""Nearly every command that a server's COMMAND lists is compared, and each other one is named with its reason."""

import pytest

from tests.live.differential.coverage import COVERED_AT_LEAST, LEFT_OUT, commands_of, compared, share
from tests.support.site import Site

pytestmark = pytest.mark.live


def test_every_command_is_compared_or_named(swift: Site) -> None:
    commands, found = commands_of(swift), compared(swift)
    names = set().union(*commands.values())
    assert not names - found - set(LEFT_OUT), "neither a case nor a reason"
    assert not found & set(LEFT_OUT), "there are cases for what is said to be left out"
    assert share(commands, found) >= COVERED_AT_LEAST, sorted(names - found)
