"""The state of one client, and the proxy's own commands that change or show only that state. Pure: no I/O, no clock.

Sources: https://redis.io/docs/latest/commands/ (SELECT, RESET, QUIT, PING, ECHO), and the replies of Redis 7.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from proxy import errors
from proxy.commands.categories import CommandSet
from proxy.commands.facts import Fact
from proxy.commands.table import CommandTable
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.session.acl_check import Permissions
from proxy.session.acl_log import Denials
from proxy.session.acl_rules import AclUser
from proxy.session.acl_text import name_text
from proxy.session.acl_users import DEFAULT, Users, UsersFile
from proxy.session.listener import USUAL, Listener, UserRoute
from proxy.session.login_delays import LoginDelays
from proxy.session.script_cache import Scripts
from proxy.session.tracking_options import Tracking
from proxy.sharding.colocation import SlotOf
from proxy.sharding.slots import key_slot

DEFAULT_USER = DEFAULT
_RESET = encode.simple("RESET")


class ReplyMode(Enum):
    """The modes of CLIENT REPLY: whether the client gets replies. ``SKIP`` leaves out the reply to the next command."""

    ON = "on"
    OFF = "off"
    SKIP = "skip"


_ON = ReplyMode.ON
_LISTENS_TO_NOTHING = (0, 0, 0)
_ONLY_LISTENER = Listener()
_CERTIFICATE = b"CERTIFICATE"
"""What stands in the audit log for the command of a client that a certificate has logged in."""


class ClientMode:
    """The states of a client for the own fast path. Plain integers, because comparing an enum's members is slow."""

    LONG = 0
    """The fast path is off: the client is paused, monitored, muted or blocked, or uses tracking."""
    OWN = 1
    """No special state."""
    QUEUES = 2
    """The client is in a transaction: commands are queued."""
    SPOILED = 3
    """The client is in a transaction of which a command was refused: EXEC will execute nothing."""
    LISTENS = 4
    """The client is subscribed in RESP2, where few commands are allowed."""


class Load:
    """The load of a client: requests in flight; bytes of replies that the client has not read, and that wait for an
    earlier reply; bytes of requests that are not carried out yet, and that wait for EXEC; and how many bytes the client
    was sent, and requests it has made."""

    __slots__ = ("commands", "in_flight", "kept", "parked", "queued", "unread", "written")

    def __init__(
        self,
        in_flight: int = 0,
        unread: int = 0,
        parked: int = 0,
        kept: int = 0,
        queued: int = 0,
        written: int = 0,
        commands: int = 0,
    ) -> None:
        self.in_flight = in_flight
        self.unread = unread
        self.parked = parked
        self.kept = kept
        self.queued = queued
        self.written = written
        self.commands = commands

    def __repr__(self) -> str:
        return f"Load({self.in_flight} in flight, {self.unread} bytes unread, {self.parked} parked, {self.kept} kept)"


class Directory(Protocol):
    """The worker's clients, as the session of one client sees them."""

    def sessions(self) -> Iterable["Session"]:
        """Return the sessions of all connected clients."""

    def load(self, session: "Session") -> "Load":
        """Return the load of a client."""

    def kill(self, session: "Session") -> None:
        """Close a client's connection."""

    def pause(self, seconds: float, writes_only: bool) -> None:
        """Hold the commands of all clients, or only those that may write, for ``seconds``."""

    def unpause(self) -> None:
        """End the pause."""

    def unblock(self, number: int, error: bool) -> bool:
        """End the blocking command of client ``number``, by a timeout or by an error; return whether there was one."""

    def channels(self, session: "Session") -> Iterable[tuple[bytes, bool]]:
        """Return the channels and patterns that a client is subscribed to, each with whether it is a pattern."""

    def rules_changed(self, session: "Session") -> None:
        """Take note that the rules of a client's user have changed."""


@dataclass(slots=True)
class World:
    """The state that all sessions of a worker share. "Learned" says that a value is set once backends have answered."""

    users: Users
    directory: Directory
    server_version: str = "7.0.0"
    """The lowest version of the backends. Learned."""
    databases: int = 16
    """The number of databases that every backend has. Learned."""
    scripts: Scripts = field(default_factory=lambda: Scripts(0, 0))
    """The scripts that this worker keeps."""
    slot_of: SlotOf = key_slot
    """The function that computes a key's slot, by the rules of the configuration."""
    modules: Mapping[int, bytes] = field(default_factory=lambda: dict.fromkeys((2, 3), encode.EMPTY_ARRAY))
    """The reply to MODULE LIST by protocol: the modules that every backend has. Learned."""
    client_fields: Sequence[str] = ()
    """The fields of CLIENT LIST, in the order of the backend with the lowest version; empty if unknown. Learned."""
    selects: bool = True
    """Whether all backends know SELECT; the nodes of a cluster know it from Valkey 9 on only. Learned."""
    commands: CommandTable = field(default_factory=CommandTable.builtin)
    """All commands. Learned."""
    denials: Denials = field(default_factory=Denials)
    """The log of what was denied to this worker's clients."""
    delays: LoginDelays = field(default_factory=LoginDelays)
    """The delays of logins where many have failed."""
    enter_user: Callable[[int, str], str] = lambda number, user: ""
    """Counts the client of an id as one of a user, or (``""``) as one that is not logged in. Returns the error, and
    changes nothing, if the user has as many clients as it may have."""
    full: Callable[[int, str], str] = lambda number, user: ""
    """Returns the error with which ``enter_user`` would refuse the client, and changes nothing."""
    users_file: UsersFile | None = None
    """The aclfile, if there is one."""
    reload: Callable[[bool], Awaitable[list[str]]] | None = None
    """Reads the configuration again, and returns what has changed; True: changes nothing. Raises SlotgateError."""
    routes: Mapping[str, UserRoute] = field(default_factory=dict)
    """The users whose commands reach the servers in another way than all others'."""


class Session:
    """The state of one client. Attributes are grouped by lifetime: connection, authentication, conversation."""

    __slots__ = (
        "address",
        "authenticated",
        "blocked",
        "calls_scripts",
        "closing",
        "created",
        "db",
        "full",
        "id",
        "last_active",
        "last_command",
        "lib_name",
        "lib_ver",
        "listener",
        "listening",
        "local_address",
        "name",
        "no_evict",
        "no_touch",
        "protocol",
        "queued",
        "reads_replicas",
        "reply_mode",
        "tracking",
        "unrestricted",
        "user",
        "watched",
        "world",
    )

    def __init__(
        self,
        world: World,
        client_id: int,
        address: str,
        local_address: str,
        now: float,
        listener: Listener = _ONLY_LISTENER,
    ) -> None:
        self.world = world
        self.listener = listener
        self.id = client_id
        self.address = address
        self.local_address = local_address
        self.created = now
        self.last_active = now
        self.closing = False
        self.blocked = False
        """Whether the client waits in a blocking command."""
        self.calls_scripts = False
        """Whether the client has called a script: from then on it shares connections with other callers of scripts."""
        self.lib_name = ""
        self.lib_ver = ""
        self.start_over()

    def __repr__(self) -> str:
        return f"Session({self.id} {self.address} user={self.user} db={self.db} resp={self.protocol})"

    def start_over(self) -> None:
        """Reset the state to that of a new connection (RESET)."""
        self.user = DEFAULT_USER
        self.authenticated = self.listener.open_to_all(self.world.users)
        self.full = ""
        """The error for a client that is not logged in because its first user has as many clients as it may have."""
        self.unrestricted = self.permissions.unrestricted
        """Whether the user may do everything, so that no command needs a check by the rules."""
        self.db = 0
        self.protocol = 2
        self.name = ""
        self.reads_replicas = False
        self.tracking: Tracking | None = None
        self.reply_mode = _ON
        self.no_evict = False
        self.no_touch = False
        self.last_command = "NULL"
        self.queued = -1
        """The number of commands that wait for EXEC; -1 outside of a transaction."""
        self.watched = 0
        """The number of watched keys."""
        self.listening = _LISTENS_TO_NOTHING
        """The numbers of channels, patterns and shard channels that the client is subscribed to."""

    @property
    def admin(self) -> bool:
        """Whether the client's user may run the commands about the proxy and its servers."""
        return self.authenticated and self.permissions.user.admin

    @property
    def permissions(self) -> Permissions:
        """The permissions of the client's user."""
        return self.world.users.get(self.user) or _NOTHING_ALLOWED

    @property
    def route(self) -> UserRoute:
        """How the client's commands reach the servers, by its user."""
        return self.world.routes.get(self.user, USUAL)

    def refusal(self, fact: Fact, args: Sequence[bytes]) -> str | None:
        """Return the error if this client may not call ``fact`` now, whatever its user's rules say; else None."""
        if not self.authenticated and "no_auth" not in fact.flags:
            refusal, why = self.full or errors.NOAUTH, "not logged in"
        elif fact.privileged and not self.admin:
            refusal, why = errors.no_permission(fact.name), "admin"
        else:
            return None
        if (audit := self.world.denials.audit) is not None:
            audit.denied(self, fact, args, why)
        return refusal

    def enter(self) -> None:
        """Count a new client, or one after RESET, which is logged in unless a password is needed."""
        world = self.world
        if not self.authenticated or (full := world.enter_user(self.id, self.user)):
            self.full = full if self.authenticated else ""
            self.authenticated = False
            world.enter_user(self.id, "")

    def log_in(self, user: bytes, password: bytes, command: bytes) -> str:
        """Log in as ``user`` if the password is right. Otherwise change nothing, and return the error; a failure is
        logged with ``command``."""
        name = name_text(user)
        world = self.world
        known = world.users.get(name)
        # A command in a transaction can not wait: a password that has to is not checked, and delays no further logins.
        late = world.delays.due(self, name) > 0
        accepted = not late and world.users.authenticate(name, password) is True
        if not accepted or known is None or not self.listener.admits(name):
            if late or known is None:
                why = "not delayed" if late else "unknown user"
            elif known.user.enabled:
                why = "user of other listeners" if accepted else "wrong password"
            else:
                why = "disabled user"
            world.denials.login(self, command, name, why)
            if not late:
                world.delays.failed(self, name)
            return errors.WRONGPASS
        return self._become(known, command)

    def _become(self, known: Permissions, command: bytes) -> str:
        """Make this the session of a user, or change nothing and return the error, if the user has as many clients as
        it may have."""
        changes = known.user.name != self.user or not self.authenticated
        if changes and (refusal := self.world.enter_user(self.id, known.user.name)):
            self.world.denials.turned_away(self, command, known.user.name)
            return refusal
        self.full = ""
        self.user = known.user.name
        self.unrestricted = known.unrestricted
        self.authenticated = True
        if self.world.denials.audit is not None:
            self.world.denials.audit.logged_in(self, command)
        return ""

    def certify(self, names: Iterable[str]) -> None:
        """Log in as the first user among ``names``, those of the client's certificate; if there is none, leave the
        client as it is and log that, as Redis 8.6 does."""
        tried = None
        for name in names:
            known = self.world.users.get(name)
            if known is not None and known.user.enabled and self.listener.admits(name):
                refusal = self._become(known, _CERTIFICATE)
                if not self.authenticated:
                    self.full = refusal
                return
            tried = name if tried is None else tried
        if tried is not None:
            self.world.denials.certificate(self, _CERTIFICATE, tried)

    def rename(self, name: bytes) -> str | None:
        """Set the client's name; return the error if the name is not allowed."""
        if not printable(name):
            return errors.BAD_CLIENT_NAME
        self.name = errors.text(name)
        return None

    def muted(self) -> bool:
        """Whether the current command gets no reply; ends a SKIP."""
        mode = self.reply_mode
        if mode is ReplyMode.SKIP:
            self.reply_mode = ReplyMode.ON
        return mode is not ReplyMode.ON


_NOTHING_ALLOWED = Permissions(AclUser("", admin=False), CommandSet(()))
"""The permissions of a client whose user was deleted, and that is being closed."""
Command = Callable[[Session, Sequence[bytes]], bytes]
_IN_NAMES = bytes(range(33, 127))


def printable(text: bytes) -> bool:
    """Whether ``text`` has only the characters that Redis allows in names."""
    return not text.translate(None, _IN_NAMES)


def ping(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to PING."""
    if len(args) > 2:
        return encode.error(errors.wrong_arity("ping"))
    if session.protocol < 3 and session.listening != _LISTENS_TO_NOTHING:
        return pong(args)
    return encode.bulk(args[1]) if len(args) == 2 else encode.PONG


def pong(args: Sequence[bytes]) -> bytes:
    """Return the reply to PING for a client that is subscribed in RESP2."""
    return encode.array((encode.bulk("pong"), encode.bulk(args[1] if len(args) == 2 else b"")))


def echo(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ECHO."""
    return encode.bulk(args[1])


def quit(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to QUIT; the client is closed once it has its reply."""
    session.closing = True
    return encode.OK


def reset(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to RESET, and reset the session."""
    session.start_over()
    session.enter()
    return _RESET


def select(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to SELECT."""
    db = parse_integer(args[1])
    if db is None:
        return encode.error(errors.NOT_AN_INTEGER)
    if not -(2**31) <= db < 2**31:
        return encode.error(errors.NOT_AN_INT32)
    if not 0 <= db < session.world.databases:
        return encode.error(errors.DB_OUT_OF_RANGE if session.world.selects else errors.NO_SELECT)
    session.db = db
    return encode.OK
