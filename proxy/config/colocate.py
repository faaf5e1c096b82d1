"""The co-location rules of the configuration: ``[[colocate]]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from proxy.config.secret import Problems
from proxy.config.section import Section, default, one_or_many, short_name
from proxy.config.values import Count


class ColocateSection(Section):
    """One table ``[[colocate]]``: a rule for keys with common prefixes, so that related keys share a slot."""

    name: Annotated[str | None, AfterValidator(short_name)] = default(
        None, "Required with prefixes: their keys are in the slot of a key of this name."
    )
    prefixes: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = default(
        (), "None: a rule has prefixes or a prefix. All keys that begin with one of these share a slot."
    )
    prefix: str | None = default(
        None, 'None: a rule has a prefix or prefixes. The fields of keys with it are counted; "" is for all keys.'
    )
    upto: Count | None = default(None, "Required with prefix: how many fields are hashed.", ge=1, le=64)
    separator: str = default(":", "The colon is the usual separator of fields in keys.")
    hash_tags: bool = default(True, "An application that writes a hash tag means it.")

    def named_prefixes(self) -> Iterator[tuple[str, str]]:
        """Yield each prefix with its key in this table."""
        if self.prefix is not None:
            yield "prefix", self.prefix
        for index, prefix in enumerate(self.prefixes):
            yield f"prefixes[{index}]", prefix

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        problems = [*_rule_problems(self)]
        if problems:
            raise Problems(*problems)
        return self


def _has_brace(rule: ColocateSection, prefix: str) -> bool:
    return rule.hash_tags and ("{" in prefix or "}" in prefix)


def _rule_problems(rule: ColocateSection) -> Iterator[tuple[str, str]]:
    if rule.prefix is None:
        if not rule.prefixes:
            yield "", "matches no keys: set prefixes = [...] and a name, or prefix = ... and upto = ..."
        elif not rule.name:
            yield "name", "is missing: it chooses the slot of the keys, so it should never change later"
        for key in "upto", "separator":
            if key in rule.model_fields_set:
                yield key, "goes with prefix only: prefixes keep all their keys together"
    else:
        if rule.prefixes:
            yield "prefixes", "are set beside prefix: make two rules of them"
        braced = _has_brace(rule, rule.prefix)  # reported below; the number of fields is not checked then
        if rule.upto is None and not braced:
            yield "upto", f'is missing: write how many fields are hashed, 2 for "{rule.prefix}<name>"'
        if len(rule.separator.encode()) != 1 or (rule.hash_tags and rule.separator in "{}"):
            yield "separator", 'is not one ASCII character, as in separator = ":"; braces are for hash tags'
        elif rule.upto is not None and rule.prefix.count(rule.separator) >= rule.upto and not braced:
            yield "upto", "ends within the prefix, so that all keys share a slot: make it larger, or use prefixes"
    for key, prefixes in ("prefix", rule.prefix is not None and [rule.prefix]), ("prefixes", rule.prefixes):
        for prefix in prefixes or ():
            if not prefix and key == "prefixes":
                yield key, '"" matches every key: to keep all keys together, use one shard'
            elif _has_brace(rule, prefix):
                yield key, f'"{prefix}" has a brace: a hash tag takes precedence over rules, so leave it out'
