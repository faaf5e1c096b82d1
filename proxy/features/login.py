"""Logins that take time: those that are delayed, and passwords whose digest takes long to compute (scrypt), which are
verified in a thread while other clients are served.

An accepted password is remembered (``proxy.session.passwords``), so that its digest is computed only once. If any user
has such a digest, every failing login takes equally long, so that the time does not reveal whether the user exists.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from proxy.features.host import Host
from proxy.features.request import Request
from proxy.session.acl_text import name_text
from proxy.session.session import DEFAULT_USER, Session
from proxy.transport.flow_control import Stop

_COMMANDS = frozenset(("auth", "hello"))


def may_change_user(client: Host) -> bool:
    """Whether the client may get another user. If users have limits, it may when all that it has asked for is answered,
    so that this counts for its present user; until then nothing is read from the client."""
    return not client.service.clients.limited or client.alone()


def takes_long(session: Session, request: Request) -> bool:
    """Whether a request logs in, and has to wait or has a password that has to be verified in the thread."""
    users, delays = session.world.users, session.world.delays
    if not (users.slow or delays.active) or request.fact.name not in _COMMANDS:
        return False
    found = _credentials(request.fact.name, request.args)
    if found is None:
        return False
    delays.settle()
    return delays.due(session, found[0]) > 0 or users.authenticate(*found) is None


def verify(client: Host, request: Request, then: Callable[[], object]) -> int:
    """Verify the password of a request that ``takes_long``, and call ``then`` unless the client is gone by that time.
    Returns the reason for which the caller stops the client meanwhile."""
    delays = client.session.world.delays
    found = _credentials(request.fact.name, request.args)
    assert found is not None
    delay = delays.due(client.session, found[0])

    def waited() -> None:
        delays.waiting.pop(client.number, None)
        client.flow.stop(Stop.ORDER)
        client.flow.go(Stop.LOGIN)
        _verify(client, *found, checked)

    def checked() -> None:
        # Logins that have failed meanwhile do not count.
        delays.checked = client.number
        try:
            then()
        finally:
            delays.checked = 0

    if not delay:
        _verify(client, *found, checked)
        return Stop.ORDER
    delays.delayed += 1
    delays.waiting[client.number] = client.service.turn.clock.call_later(delay, waited).cancel
    return Stop.LOGIN


def _verify(client: Host, name: str, password: bytes, then: Callable[[], object]) -> None:
    """Verify a password in the thread if it has to be, and call ``then`` unless the client is gone by that time."""
    users, delays = client.session.world.users, client.session.world.delays
    if users.authenticate(name, password) is not None:
        then()
        return

    loop = client.service.loop

    def start() -> None:
        if users.authenticate(name, password) is not None:
            # The same password was verified meanwhile, or the user has changed.
            loop.call_soon(delays.verify_next)
            then()
            return
        digests = users.slow_digests(name)
        verified = loop.run_in_executor(_thread(), users.passwords.verify_slowly, digests, password)
        verified.add_done_callback(done)

    def done(future: asyncio.Future[list[str]]) -> None:
        users.passwords.remember(future.result(), password)
        delays.verify_next()
        if not client.gone:
            then()

    delays.verify_later(client.session, start, users.passwords.mark(name, password))


@cache
def _thread() -> ThreadPoolExecutor:
    """The only thread that verifies passwords: logins are verified one by one and leave the processor to others."""
    return ThreadPoolExecutor(1, "login")


def _credentials(command: str, args: Sequence[bytes]) -> tuple[str, bytes] | None:
    """The user and password of AUTH or HELLO; None if the command has none."""
    if command == "auth":
        if len(args) > 3:
            return None
        return (DEFAULT_USER if len(args) == 2 else name_text(args[1])), args[-1]
    at = 2
    found = None
    while at < len(args):
        option = args[at].lower()
        if option == b"auth" and at + 2 < len(args):
            found = name_text(args[at + 1]), args[at + 2]
            at += 3
        else:
            at += 2
    return found
