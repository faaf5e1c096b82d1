"""One client's conversation: who it is, and the commands that are the proxy's own. Pure: no I/O, no clock.

Sources: https://redis.io/docs/latest/commands/ (HELLO, AUTH, SELECT, RESET, QUIT, PING, ECHO, ROLE, CLUSTER ...), and
what Redis 7 answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
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
from proxy.session.script_cache import Scripts
from proxy.session.tracking_options import Tracking
from proxy.session.virtual_cluster import Presented
from proxy.sharding.colocation import SlotOf
from proxy.sharding.slots import key_slot

DEFAULT_USER = DEFAULT
_DEFAULT_USER = DEFAULT_USER.encode()
_RESET = encode.simple("RESET")
_PROTOCOLS = {b"2": 2, b"3": 3}
_HELLO_NOAUTH = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)


class ReplyMode(Enum):
    """CLIENT REPLY: whether this client is answered; ``SKIP`` leaves out the next command's reply."""

    ON = "on"
    OFF = "off"
    SKIP = "skip"


_ON = ReplyMode.ON
_LISTENS_TO_NOTHING = (0, 0, 0)


class ClientMode:
    """What a client is in the middle of, for the own fast path. Plain integers: an enum's are dear to compare."""

    LONG = 0
    """Everything goes the long way: it is paused, watched, not answered, blocked, or tracks."""
    OWN = 1
    """Nothing."""
    QUEUES = 2
    """MULTI: commands are queued."""
    SPOILED = 3
    """MULTI, and one of its commands was refused: EXEC will execute nothing."""
    LISTENS = 4
    """It is subscribed in RESP2, where few commands are allowed."""


class Load:
    """What waits in the proxy for a client: requests in flight; bytes of replies that it has not read, and of those
    that wait for an earlier one; of requests that are not carried out yet, and of those that wait for EXEC. And how
    many bytes it was sent, and requests it has made."""

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
    """The worker's clients, as one of them may see them."""

    def sessions(self) -> Iterable["Session"]:
        """All connected clients."""

    def load(self, session: "Session") -> "Load":
        """What waits in the proxy for a client."""

    def kill(self, session: "Session") -> None:
        """Close a client's connection."""

    def pause(self, seconds: float, writes_only: bool) -> None:
        """Hold all clients' commands (or what is not readonly) for a while."""

    def unpause(self) -> None:
        """End the pause."""

    def unblock(self, number: int, error: bool) -> bool:
        """End the blocking command of client ``number``, as if its time were over or by an error: whether it was in
        one."""

    def channels(self, session: "Session") -> Iterable[tuple[bytes, bool]]:
        """What a client is subscribed to, and of each whether it is a pattern."""

    def rules_changed(self, session: "Session") -> None:
        """The rules of a client's user are others now."""


@dataclass(slots=True)
class World:
    """What all sessions of a worker share."""

    users: Users
    directory: Directory
    server_version: str = "7.0.0"
    """The lowest version of the backends; learned when they are reached."""
    databases: int = 16
    """How many databases every backend has; learned."""
    scripts: Scripts = field(default_factory=lambda: Scripts(0, 0))
    """What this worker keeps of them."""
    slot_of: SlotOf = key_slot
    """The slot of a key, as the configuration's rules have it."""
    modules: Mapping[int, bytes] = field(default_factory=lambda: dict.fromkeys((2, 3), encode.EMPTY_ARRAY))
    """MODULE LIST, by the protocol: what every backend has; learned."""
    client_fields: Sequence[str] = ()
    """Those of CLIENT LIST, in the backend's order that has the lowest version; none: not known. Learned."""
    selects: bool = True
    """Whether they know SELECT: the nodes of a cluster do so from Valkey 9 on only; learned."""
    presented: Presented | None = None
    """The cluster that the proxy passes for; None: it passes for one server."""
    commands: CommandTable = field(default_factory=CommandTable.builtin)
    """All commands; learned."""
    denials: Denials = field(default_factory=Denials)
    """The log of what was denied to this worker's clients."""
    users_file: UsersFile | None = None
    """The aclfile, if there is one."""


class Session:
    """The state of one client. Attributes are grouped by lifetime: connection, authentication, conversation."""

    __slots__ = (
        "address",
        "authenticated",
        "blocked",
        "closing",
        "created",
        "db",
        "id",
        "last_active",
        "last_command",
        "lib_name",
        "lib_ver",
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

    def __init__(self, world: World, client_id: int, address: str, local_address: str, now: float) -> None:
        self.world = world
        self.id = client_id
        self.address = address
        self.local_address = local_address
        self.created = now
        self.last_active = now
        self.closing = False
        self.blocked = False
        """It waits in a blocking command."""
        self.lib_name = ""
        self.lib_ver = ""
        self.start_over()

    def __repr__(self) -> str:
        return f"Session({self.id} {self.address} user={self.user} db={self.db} resp={self.protocol})"

    def start_over(self) -> None:
        """The state of a new connection (RESET)."""
        self.user = DEFAULT_USER
        self.authenticated = self.world.users.default_open
        self.unrestricted = self.permissions.unrestricted
        """Whether its user may do everything: then nothing it sends needs a look at the user's rules."""
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
        """How many commands wait for EXEC; -1 outside of a transaction."""
        self.watched = 0
        """How many keys are watched."""
        self.listening = _LISTENS_TO_NOTHING
        """How many channels, patterns and channels of shards it is subscribed to."""

    @property
    def admin(self) -> bool:
        """Whether its user may run what is about the proxy and its servers."""
        return self.authenticated and self.permissions.user.admin

    @property
    def permissions(self) -> Permissions:
        """What its user may do."""
        return self.world.users.get(self.user) or _NOTHING_ALLOWED

    def refusal(self, fact: Fact) -> str | None:
        """Why this client may not call ``fact`` now, whatever its user's rules say; None if it may."""
        if not self.authenticated and "no_auth" not in fact.flags:
            return errors.NOAUTH
        if fact.privileged and not self.admin:
            return errors.no_permission(fact.name)
        return None

    def authenticate(self, user: bytes, password: bytes, command: bytes = b"AUTH") -> bool:
        """Become ``user`` if the password is right; ``command`` is what asks for it, as the log shows it."""
        name = name_text(user)
        known = self.world.users.get(name)
        if self.world.users.authenticate(name, password) is not True or known is None:
            why = "unknown user" if known is None else "wrong password" if known.user.enabled else "disabled user"
            self.world.denials.login(self, command, name, why)
            return False
        self.user = known.user.name
        self.unrestricted = known.unrestricted
        self.authenticated = True
        return True

    def rename(self, name: bytes) -> str | None:
        """Take a name; why not, if it is not allowed."""
        if not printable(name):
            return errors.BAD_CLIENT_NAME
        self.name = errors.text(name)
        return None

    def muted(self) -> bool:
        """Whether the command that comes now is answered by nothing; ends a SKIP."""
        mode = self.reply_mode
        if mode is ReplyMode.SKIP:
            self.reply_mode = ReplyMode.ON
        return mode is not ReplyMode.ON


_NOTHING_ALLOWED = Permissions(AclUser("", admin=False), CommandSet(()))
"""Of a client whose user was deleted: it is being closed."""
Command = Callable[[Session, Sequence[bytes]], bytes]
_IN_NAMES = bytes(range(33, 127))


def printable(text: bytes) -> bool:
    """Whether ``text`` has only the characters that Redis allows in names."""
    return not text.translate(None, _IN_NAMES)


def ping(session: Session, args: Sequence[bytes]) -> bytes:
    """PING."""
    if len(args) > 2:
        return encode.error(errors.wrong_arity("ping"))
    if session.protocol < 3 and session.listening != _LISTENS_TO_NOTHING:
        return pong(args)
    return encode.bulk(args[1]) if len(args) == 2 else encode.PONG


def pong(args: Sequence[bytes]) -> bytes:
    """The reply to PING for a client that is subscribed in RESP2."""
    return encode.array((encode.bulk("pong"), encode.bulk(args[1] if len(args) == 2 else b"")))


def echo(session: Session, args: Sequence[bytes]) -> bytes:
    """ECHO."""
    return encode.bulk(args[1])


def quit(session: Session, args: Sequence[bytes]) -> bytes:
    """QUIT: the client is closed once it has its reply."""
    session.closing = True
    return encode.OK


def reset(session: Session, args: Sequence[bytes]) -> bytes:
    """RESET, as far as the session goes."""
    session.start_over()
    return _RESET


def select(session: Session, args: Sequence[bytes]) -> bytes:
    """SELECT."""
    db = parse_integer(args[1])
    if db is None:
        return encode.error(errors.NOT_AN_INTEGER)
    if not -(2**31) <= db < 2**31:
        return encode.error(errors.NOT_AN_INT32)
    if not 0 <= db < session.world.databases:
        return encode.error(errors.DB_OUT_OF_RANGE if session.world.selects else errors.NO_SELECT)
    session.db = db
    return encode.OK


def auth(session: Session, args: Sequence[bytes]) -> bytes:
    """AUTH."""
    if len(args) > 3:
        return encode.error(errors.SYNTAX)
    if len(args) == 2 and session.world.users.default_nopass:
        return encode.error(errors.NO_PASSWORD_SET)
    user = args[1] if len(args) == 3 else _DEFAULT_USER
    if not session.authenticate(user, args[-1], args[0]):
        return encode.error(errors.WRONGPASS)
    return encode.OK


def hello(session: Session, args: Sequence[bytes]) -> bytes:
    """HELLO."""
    protocol = session.protocol
    if len(args) >= 2:
        asked = _PROTOCOLS.get(args[1])
        if asked is None:
            if parse_integer(args[1]) is None:
                return encode.error("ERR Protocol version is not an integer or out of range")
            return encode.error(errors.NOPROTO)
        protocol = asked
    name, user, wrong = _hello_options(args)
    if wrong:
        return encode.error(f"ERR Syntax error in HELLO option '{errors.text(args[wrong])}'")
    credentials = (args[user], args[user + 1]) if user else None
    if name and not printable(args[name]):
        return encode.error(errors.BAD_CLIENT_NAME)
    if credentials is not None and not session.authenticate(*credentials, args[0]):
        return encode.error(errors.WRONGPASS)
    if not session.authenticated:
        return encode.error(_HELLO_NOAUTH)
    if name:
        session.rename(args[name])
    session.protocol = protocol
    world = session.world
    before, behind = _greeting(protocol, world.server_version, world.presented is not None, world.modules[protocol])
    return b"%b%d%b" % (before, session.id, behind)


def _hello_options(args: Sequence[bytes]) -> tuple[int, int, int]:
    """Where the name and the user stand, the last ones, and what is no option; 0: nowhere. There may be very many."""
    name = user = 0
    at = 2
    count = len(args)
    while at < count:
        option = args[at]
        if option != b"AUTH" and option != b"SETNAME":
            option = option.upper()
        if option == b"AUTH" and at + 2 < count:
            user = at + 1
            at += 3
        elif option == b"SETNAME" and at + 1 < count:
            name = at + 1
            at += 2
        else:
            return name, user, at
    return name, user, 0


@cache
def _greeting(protocol: int, version: str, cluster: bool, modules: bytes) -> tuple[bytes, bytes]:
    """HELLO's reply, before and behind the client's id."""
    pairs = {
        encode.bulk("server"): encode.bulk("redis"),
        encode.bulk("version"): encode.bulk(version),
        encode.bulk("proto"): encode.integer(protocol),
        encode.bulk("id"): encode.integer(0),
        encode.bulk("mode"): encode.bulk("cluster" if cluster else "standalone"),
        encode.bulk("role"): encode.bulk("master"),
        encode.bulk("modules"): modules,
    }
    before, found, behind = encode.mapping(pairs, protocol).partition(encode.bulk("id") + b":")
    return before + found, behind[1:]
