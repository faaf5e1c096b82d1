"""The handshake of a new backend connection: authentication, protocol, database, and checks of the server's role and
identity."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import hiredis

from proxy.errors import BackendError, PlaceRefused, ServerBusy, WrongRole
from proxy.resp import encode
from proxy.resp.bounded_reader import SHORT, BoundedReader, ReplyTooLong
from proxy.resp.info import Replication
from proxy.resp.replies import BadReply
from proxy.resp.role import RoleReply
from proxy.transport.clock import timeout
from proxy.transport.tls import Tls, lost_words

Step = tuple[str | int | bytes, ...]
"""A command."""

IDENTITY = ("CLUSTER", "MYID")
"""Asks a node of a Redis Cluster for its id, by which the others know it:
https://redis.io/docs/latest/commands/cluster-myid/
"""
Stranger = Callable[[str], str]
"""Returns why a server with this id is not to be used, "" if it may be used. The id is "" if the server gives none."""

STAY: Step = ("CLIENT", "NO-EVICT", "ON")
"""Tells a server not to close a connection to save memory: https://redis.io/docs/latest/commands/client-no-evict/"""
NEEDS_PASSWORD = "the server asks for a password: set backend.password"
TAKES_NO_HEADER = 'the server takes the PROXY header for a command: set backend.proxy_protocol = "off"'
_SELF: tuple[Step, ...] = (("INFO", "replication"), ("ROLE",))
"""Commands that ask for a server's role if no other source confirms it. Errors in reply to them are ignored."""
_MAKE_STATE = frozenset(("AUTH", "HELLO", "SELECT"))
"""The commands without which the connection is not in the state of its place: requests would run as another user, or in
another database."""
_SELF2: Step = ("HELLO", 2)
"""HELLO, which any user may call and whose reply has the role; with RESP3 it is sent anyhow."""


@dataclass(slots=True)
class Credentials:
    """The proxy's user, password and TLS settings for servers of one kind. All connections share them, so that a new
    password holds for each connection that is made later.

    Without a password the proxy does not authenticate; without ``tls`` the connection is not encrypted. ``header`` is
    sent ahead of everything (the PROXY protocol).
    """

    username: str = ""
    password: str = field(default="", repr=False)
    tls: Tls | None = None
    header: bytes = b""

    def renew(self, other: "Credentials") -> None:
        """Adopt the user and password of ``other``."""
        self.username, self.password = other.username, other.password

    def arguments(self) -> list[str]:
        """The arguments of AUTH; empty without a password."""
        if not self.password:
            return []
        return [self.username, self.password] if self.username else [self.password]


class Greeting:
    """The handshake on a connection. ``done`` gets True, or a ``BackendError`` that says why the server can not be
    used.

    A replica is asked for its ``ROLE``: one that is still copying its primary's data is not used yet. With ``verify``,
    which is set where servers change roles, a primary is asked too: writes to a server that has become a replica, and
    reads from a replica that has become a primary, would be wrong. ``alone``: only the configuration says that the
    server is a primary; if the server says that it is a replica, it is used only if it takes writes all the same.
    ``cluster``: a replica of a Redis Cluster must be told that it may answer reads. ``stranger`` says why a server with
    a certain id is not to be used. A server that is too busy with a script to give its id, or its role where that
    matters, is used with ``at_busy`` only, to end that script; otherwise ``done`` gets the server's error as a
    ``ServerBusy``. ``identify``: ask for the connection's id (``client_id``). ``shared``: many clients use the
    connection, so the server should not close it to save memory. ``steps``: further commands, none of which the server
    may refuse. ``own``: the proxy's own user, if ``credentials`` are those of another one, who may perhaps not ask a
    server for its id and its role: so the own user asks, before the other one logs in.
    """

    def __init__(
        self,
        protocol: int,
        db: int,
        primary: bool,
        credentials: Credentials,
        *,
        verify: bool = False,
        alone: bool = False,
        cluster: bool = False,
        stranger: Stranger | None = None,
        at_busy: bool = False,
        identify: bool = False,
        shared: bool = False,
        steps: Sequence[Step] = (),
        own: Credentials | None = None,
    ) -> None:
        self.client_id = 0
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # Reading the exception keeps asyncio from logging it if the caller has given up waiting.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._tls = credentials.tls
        self._heard = False
        alone = alone and primary
        self._role = "master" if alone or (verify and primary) else "slave" if verify else ""
        """The role that the server must have, "" if any will do."""
        self._alone = alone
        self._takes_writes = False
        self._said: object = None
        """The role by other replies than that to ROLE."""
        self._steps: list[Step] = []
        self._stranger = stranger
        self._at_busy = at_busy
        identity = [IDENTITY] if stranger is not None else []
        role: tuple[Step, ...] = (("ROLE",),) if verify or not primary else ()
        if alone:
            role = _SELF if protocol >= 3 and own is None else (_SELF2, *_SELF)
        if own is not None:
            self._steps += (*_login(own, 2), *identity, *role)
        self._steps += _login(credentials, protocol)
        if db:
            self._steps.append(("SELECT", db))
        if own is None:
            self._steps += identity
        if cluster and not primary:
            self._steps.append(("READONLY",))
        if own is None:
            self._steps += role
        if identify:
            self._steps.append(("CLIENT", "ID"))
        if shared:
            self._steps.append(STAY)
        self._further = set(steps)
        self._steps += steps
        self._steps.append(("PING",))
        self._reader = BoundedReader(repeat(SHORT, len(self._steps)))

    async def exchange(self, connecting: Awaitable[None], seconds: float) -> None:
        """Wait until ``connecting`` has made the connection and the server has answered all commands. Raises
        ``BackendError``, ``TimeoutError`` after ``seconds``, and the errors of ``connecting``."""
        async with timeout(seconds):
            await connecting
            await self.done

    def request(self) -> bytes:
        """The bytes to send."""
        return b"".join(encode.request(step) for step in self._steps)

    def feed(self, data: bytes) -> None:
        """Take ``data``, replies of the server."""
        self._heard = True
        try:
            self._reader.feed(data)
            while self._steps and not self.done.done():
                reply = self._reader.gets()
                if reply is False:
                    return
                self._take(self._steps.pop(0), reply)
        except ReplyTooLong as error:
            self._fail(BackendError(f"the server's reply to the handshake is too long: {error}"))
            return
        except (hiredis.ProtocolError, BadReply) as error:
            words = str(error)
            self._fail(BackendError(words if isinstance(error, hiredis.ProtocolError) else f"Protocol error: {words}"))
            return
        except BackendError as error:
            self._fail(error)
            return
        if not self.done.done():
            self.done.set_result(True)

    def _fail(self, error: BackendError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def lost(self, error: Exception | None) -> None:
        """End the handshake, as the connection is lost; ``error`` is None if the server closed it in order."""
        if not self.done.done():
            self.done.set_exception(BackendError(lost_words(error, self._tls, self._heard)))

    def _take(self, step: Step, reply: object) -> None:
        if refuses_header(reply):
            raise BackendError(TAKES_NO_HEADER)
        if step is IDENTITY and self._stranger is not None:
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("BUSY"):
                if not self._at_busy:
                    raise ServerBusy(str(reply))
            elif words := refused_identity(reply, self._stranger):
                raise BackendError(words)
        elif isinstance(reply, hiredis.ReplyError):
            self._refused(step, str(reply))
        elif step[0] == "CLIENT" and isinstance(reply, int):
            self.client_id = reply
        elif step[0] == "HELLO" and isinstance(reply, dict | list):
            pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=False)
            self._said = next((value for name, value in pairs if name == b"role"), None)
        elif step[0] == "INFO" and isinstance(reply, bytes):
            replication = Replication.read(reply)
            self._said, self._takes_writes = replication.role, replication.takes_writes
        elif step[0] == "ROLE":
            self._is(RoleReply.read(reply))

    def _is(self, role: RoleReply | None) -> None:
        if role is None:
            return
        if role.sentinel:
            raise BackendError("the server is a sentinel, it holds no keys")
        if role.replica and self._role == "master" and not self._takes_writes:
            words = [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in role.source]
            raise WrongRole(f"the server is no primary, it replicates {':'.join(words) or 'another'}")
        if role.primary and self._role == "slave":
            raise WrongRole("the server is no replica, it says that it is a primary")
        if role.copying:
            raise BackendError("the replica is not in sync with its primary")

    def _refused(self, asked: Step, words: str) -> None:
        step, words = str(asked[0]), without_arguments(words)
        code = words.partition(" ")[0]
        if code == "NOAUTH":
            raise BackendError(NEEDS_PASSWORD)
        if self._alone and asked in (_SELF2, *_SELF):
            if step == "ROLE":
                self._is(RoleReply.read([self._said]))
            return
        if step in ("AUTH", "HELLO") and code in ("WRONGPASS", "ERR"):
            raise BackendError(f"the server refuses the proxy's {step}: {words}")
        if code == "BUSY" and step == "SELECT":
            raise ServerBusy(words)
        if asked in self._further:
            raise PlaceRefused(f"the server refuses {step} {asked[1]!s}: {words}")
        if asked == STAY:
            return  # unknown, or not allowed: the server may close the connection to save memory
        if step == "ROLE" and self._role and code == "BUSY" and not self._at_busy:
            # The reply to HELLO has the role, if HELLO was sent.
            if self._said is None:
                raise ServerBusy(words)
            self._is(RoleReply.read([self._said]))
            return
        if code in ("NOPERM", "BUSY") and step not in _MAKE_STATE:
            # The user may not ask, or a script runs too long, which SCRIPT KILL must be able to reach.
            return
        fault = PlaceRefused if step in ("HELLO", "SELECT") and code != "LOADING" else BackendError
        raise fault(f"the server answers {step} with: {words}")


def without_arguments(words: str) -> str:
    """Return a server's error without the arguments that it quotes: a server that does not know AUTH or HELLO quotes
    the password."""
    return words.partition(", with args beginning with")[0]


def _login(credentials: Credentials, protocol: int) -> list[Step]:
    """The commands that log in as the user of ``credentials``, and choose the protocol."""
    auth = credentials.arguments()
    if protocol < 3:
        return [("AUTH", *auth)] if auth else []
    return [("HELLO", 3, "AUTH", *["default", *auth][-2:])] if auth else [("HELLO", 3)]


def refuses_header(reply: object) -> bool:
    """Whether a server answers the header of the PROXY protocol, version 1, as it answers an unknown command."""
    words = str(reply) if isinstance(reply, hiredis.ReplyError) else ""
    return words.startswith("ERR unknown command") and "PROXY" in words


def refused_identity(reply: object, stranger: Stranger) -> str:
    """Why a server that gives this reply to ``IDENTITY`` is not to be used, "" if it may be used.

    If the user may not ask, or the server does not know the command, the server is taken as the right one. A server
    that is in no cluster is refused, and so is one that gives its id only later, as it loads data or runs a script: it
    would get requests then, whatever its id is.
    """
    if isinstance(reply, hiredis.ReplyError):
        words = str(reply)
        if words.startswith("NOAUTH"):
            return NEEDS_PASSWORD
        if "cluster support disabled" in words:
            return "the server is no node of the cluster: it is not in cluster mode"
        if words.startswith(("BUSY", "LOADING")):
            return f"the server does not say its id yet: {words}"
        return stranger("")
    return stranger(reply.decode("utf-8", "replace") if isinstance(reply, bytes) else "")


def moves(before: tuple[int, int], now: tuple[int, int]) -> list[Step]:
    """The commands that change a connection's protocol and database from ``before`` to ``now``."""
    found: list[Step] = []
    if before[0] != now[0]:
        found.append(("HELLO", now[0]))
    if before[1] != now[1]:
        found.append(("SELECT", now[1]))
    return found
