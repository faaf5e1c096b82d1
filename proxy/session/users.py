"""The users that a configuration names. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from proxy.commands.categories import CommandSet
from proxy.session.acl_rules import AclUser, change, everything

DEFAULT_RULES = (
    "on ~* &* +@all -@admin +role +module|list +client|list -flushall -swapdb "
    "-function|load -function|delete -function|flush -function|restore -function|kill "
    "-script|flush -script|kill -script|debug"
)
"""What a user may do that is neither an admin nor has rules of its own: what an application does to its own data and
connection. It reaches no other client (CLIENT LIST shows those of the same user), and not all of the servers' data."""


def configured(
    name: str,
    commands: CommandSet,
    digests: Iterable[str] = (),
    nopass: bool = False,
    admin: bool = False,
    rules: Sequence[bytes] | None = None,
) -> AclUser:
    """A user of ``[[users]]``. Raises what ``acl_rules.change`` raises.

    An admin may do everything that its ``rules`` do not take away. Rules of another user say all that it may do.
    """
    if admin:
        user = replace(everything(name), nopass=False)
    else:
        begin = DEFAULT_RULES.encode().split() if rules is None else [b"on"]
        user = change(AclUser(name, admin=rules is not None), begin, commands)
    user = replace(user, nopass=nopass, digests=tuple(sorted(digests)))
    return user if rules is None else change(user, rules, commands)


def open_to_all(name: str) -> AclUser:
    """The user of a configuration that names none: as a server's own "default", but no admin."""
    return replace(everything(name), admin=False)
