"""Cases of a test that run with the drills only, because they take long beside others of their kind."""

from typing import Any

import pytest


def drilled(*values: Any, name: str | None = None) -> Any:
    """Return a case of ``pytest.mark.parametrize`` that ``make drill`` runs, and ``make test`` does not."""
    return pytest.param(*values, id=name, marks=pytest.mark.drill)
