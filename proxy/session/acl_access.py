"""Whether a client may run a command by the rules of its user. What was denied is recorded in the log. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy

from proxy.commands.facts import Fact
from proxy.engine.jobs import Job, at_once
from proxy.session.acl_check import Denial, Permissions, Reason
from proxy.session.login_commands import foresee
from proxy.session.session import Session

_REASONS = {Reason.COMMAND: "command", Reason.KEY: "key", Reason.CHANNEL: "channel"}
LOGINS = frozenset(("auth", "hello"))
"""The commands that may change the user."""
_SORT_DENIED = "ERR {} option of SORT denied due to insufficient ACL permissions."


def denied(session: Session, fact: Fact, args: Sequence[bytes]) -> str:
    """Return the error for a command that the client may not run, else empty. The arity is checked before."""
    permissions = session.permissions
    return "" if permissions.unrestricted else at_once(_denying(session, permissions, fact, args))


def denying(session: Session, fact: Fact, args: Sequence[bytes]) -> Job[str]:
    """Return the same as ``denied``, as a job, because there may be very many keys."""
    permissions = session.permissions
    return "" if permissions.unrestricted else (yield from _denying(session, permissions, fact, args))


def _denying(session: Session, permissions: Permissions, fact: Fact, args: Sequence[bytes]) -> Job[str]:
    if not session.authenticated:
        return ""  # before a login, only commands that need no login get here
    denial = yield from permissions.checking(fact, args)
    if denial is not None:
        _note(session, denial, fact, args)
        return session.world.users.describing.refusal(session.user, denial, fact)
    if session.queued >= 0:
        return ""  # the options of SORT are checked when it is executed, as in Redis
    option = yield from permissions.checking_sort(fact, args)
    return _SORT_DENIED.format(option) if option else ""


def denied_at_exec(
    session: Session, before: object, queued: Iterable[tuple[int, Fact, Sequence[bytes]]]
) -> Iterator[tuple[int, str]]:
    """Yield the position and the error of each queued command that the client may not run, or not any more.

    ``before``: the permissions when the commands were queued. If they are unchanged, only the options of SORT are
    checked, which are not when it is queued. ``queued``: the positions, facts and arguments of the commands. Those
    behind a login are checked by the rules of the user as which the client will have logged in.
    """
    permissions = session.permissions
    describing = session.world.users.describing
    for at, fact, args in queued:
        denial = None if permissions is before else permissions.check(fact, args)
        if denial is None and fact.privileged and not permissions.user.admin:
            denial = Denial(Reason.COMMAND)
        if denial is not None:
            _note(session, denial, fact, args)
            yield at, describing.at_exec(session.user, denial, fact)
        elif option := at_once(permissions.checking_sort(fact, args)):
            yield at, _SORT_DENIED.format(option)
        elif fact.name in LOGINS:
            _, known = foresee(session, fact.name, args)
            if known is not None:
                permissions = known
                session = copy(session)
                session.user = known.user.name


def _note(session: Session, denial: Denial, fact: Fact, args: Sequence[bytes]) -> None:
    object_ = fact.name.encode() if denial.reason is Reason.COMMAND else args[denial.position]
    denials = session.world.denials
    denials.command(session, _REASONS[denial.reason], object_)
    if denials.audit is not None:
        denials.audit.denied(session, fact, args, _REASONS[denial.reason])
