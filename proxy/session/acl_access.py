"""Whether a client may run a command by the rules of its user. What was denied is recorded in the log. Pure."""

from collections.abc import Iterator, Sequence

from proxy.commands.facts import Fact
from proxy.engine.jobs import Job, at_once
from proxy.session.acl_check import Denial, Permissions, Reason
from proxy.session.session import Session

_REASONS = {Reason.COMMAND: "command", Reason.KEY: "key", Reason.CHANNEL: "channel"}


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
    option = yield from permissions.checking_sort(fact, args)
    return f"ERR {option} option of SORT denied due to insufficient ACL permissions." if option else ""


def denied_at_exec(
    session: Session, before: object, queued: Sequence[tuple[Fact, Sequence[bytes]]]
) -> Iterator[tuple[int, str]]:
    """Yield the position and the error of each queued command that the client may not run any more.

    ``before``: the permissions when the commands were queued. Nothing is checked if they are unchanged.
    """
    permissions = session.permissions
    if permissions is before or permissions.unrestricted:
        return
    describing = session.world.users.describing
    for at, (fact, args) in enumerate(queued):
        denial = permissions.check(fact, args)
        if denial is not None:
            _note(session, denial, fact, args)
            yield at, describing.at_exec(session.user, denial, fact)


def _note(session: Session, denial: Denial, fact: Fact, args: Sequence[bytes]) -> None:
    object_ = fact.name.encode() if denial.reason is Reason.COMMAND else args[denial.position]
    denials = session.world.denials
    denials.command(session, _REASONS[denial.reason], object_)
    if denials.audit is not None:
        denials.audit.denied(session, fact, args, _REASONS[denial.reason])
