"""The (first key, last key, step) of a COMMAND reply: all that servers without key specs tell about keys."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.commands.facts import BeginIndex, FindRange, KeySpec


def legacy_range(specs: Sequence[KeySpec]) -> tuple[tuple[int, int, int], bool]:
    """The range over the specs that follow each other, and whether it holds the keys of all specs (if not, the command
    is "movablekeys").

    The rules are those of Redis's populateCommandLegacyRangeSpec (src/server.c); (0, 0, 0) means no range.
    """
    spans = [_span(spec) for spec in specs]
    if len(spans) == 1 and spans[0] is not None:
        return spans[0], True
    first = last = 0
    whole = True
    for span in spans:
        if span is None or span[2] != 1 or (last and last != span[0] - 1):
            whole = False
            continue
        first = first or span[0]
        last = span[1] if span[1] < 0 or last >= 0 else last
    return ((first, last, 1) if first else (0, 0, 0)), whole


def _span(spec: KeySpec) -> tuple[int, int, int] | None:
    if not isinstance(spec.begin, BeginIndex) or not isinstance(spec.find, FindRange):
        return None
    last = spec.find.lastkey
    return spec.begin.index, last if last < 0 else spec.begin.index + last, spec.find.keystep
