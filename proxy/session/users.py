"""The users of a configuration, as the ACL sees them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from proxy.commands.categories import CommandSet
from proxy.session.acl_rules import AclUser, change, everything

DEFAULT_RULES = (
    "on ~* &* +@all -@admin +role +module|list +client|list -flushall -swapdb "
    "-function|load -function|delete -function|flush -function|restore -function|kill "
    "-script|flush -script|kill -script|debug"
)
"""The rules of a user that neither is an admin nor has rules: the commands that an application uses on its own data and
connection. Such a user reaches no other client (CLIENT LIST shows the clients of the same user), and not all data of
the servers."""


def configured(
    name: str,
    commands: CommandSet,
    digests: Iterable[str] = (),
    nopass: bool = False,
    admin: bool = False,
    rules: Sequence[bytes] | None = None,
) -> AclUser:
    """Return a user of ``[[users]]``. Raises what ``acl_rules.change`` raises.

    An admin may do everything that its ``rules`` do not take away. The rules of another user name everything that the
    user may do.
    """
    if admin:
        user = replace(everything(name), nopass=False)
    else:
        begin = DEFAULT_RULES.encode().split() if rules is None else [b"on"]
        user = change(AclUser(name, admin=rules is not None), begin, commands)
    user = replace(user, nopass=nopass, digests=tuple(sorted(digests)))
    return user if rules is None else change(user, rules, commands)


def open_to_all(name: str) -> AclUser:
    """Return the user of a configuration without users: like a server's own "default", but no admin."""
    return replace(everything(name), admin=False)
