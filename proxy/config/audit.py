"""The table ``[audit]``: which commands and logins are recorded, and where."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ValidationInfo, model_validator

from proxy.config.secret import full_path
from proxy.config.section import Section, default, one_or_many
from proxy.config.values import Count, Size

Names = Annotated[tuple[str, ...], BeforeValidator(one_or_many)]


class AuditRuleSection(Section):
    """One table ``[[audit.rules]]``: a command is recorded if all that the rule names fits."""

    users: Names = default((), "All users: a rule is usually about what is done.")
    commands: Names = default((), "All commands: a rule may be about a user or about keys.")
    keys: Names = default((), "Any keys, or none.")
    outcome: Literal["any", "allowed", "denied"] = default("any", "What was denied matters as much as what was done.")


class AuditSection(Section):
    """The table ``[audit]``."""

    path: str | None = default(None, "None: nothing is recorded unless you ask for it.", min_length=1)
    rules: tuple[AuditRuleSection, ...] = default((), "Required with path: what is recorded costs time.")
    arguments: Literal["none", "keys", "all"] = default(
        "keys", "Keys say what was touched; values are what must not leave the servers."
    )
    max_argument: Count = default(64, "Enough to recognize a key, and too few for a document.", ge=1, le=65536)
    queue: Size = default("4mb", "Some seconds of a busy proxy, if the disk does not take them.", gt=0)
    on_full: Literal["drop", "refuse"] = default("drop", "A full disk should not stop an application.")

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        if self.path is not None:
            object.__setattr__(self, "path", str(full_path(self.path, info.context)))
        return self
