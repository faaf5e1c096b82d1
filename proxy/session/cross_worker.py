"""The CLIENT subcommands about the clients of all workers: LIST, KILL, PAUSE, UNPAUSE, UNBLOCK.

Each command has three steps, so that it can span workers::

    check    checks the arguments           in the worker that is asked
    part     acts on a worker's clients     in every worker
    reply    combines the parts             in the worker that is asked

Source: https://redis.io/docs/latest/commands/client/ and the replies of Redis 7.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy import errors
from proxy.engine.jobs import ENOUGH, MORE, Job, at_once, short
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.session.acl_text import name_bytes, name_text
from proxy.session.client_line import line
from proxy.session.own_command import OwnCommand
from proxy.session.session import Session, World

_TYPES = (b"normal", b"master", b"replica", b"slave", b"pubsub")

Args = Sequence[bytes]
Part = Any
"""A JSON value, as it may come from another worker."""
Filter = Callable[[Session], bool]
_STEP = 32
"""The number of arguments after which a job may be interrupted."""
_CLOSED_AT_ONCE = 50
"""The number of clients that are closed in one go. Releasing a client's state takes longer than closing its connection,
and happens at the end of the loop's turn."""
PartOf = Callable[[World, int, Args, float], Job[Part]]


@dataclass(frozen=True, slots=True)
class CrossWorkerCommand(OwnCommand):
    """A command about all clients, which therefore spans all workers."""

    check: Callable[[World, Args], Job[str | None]]
    """Returns the error that the command deserves, or None. A job, because there may be very many arguments."""
    part: PartOf
    """Carries out the command for the clients of one worker. A job, because there may be many clients. The number is
    the asking client's id, the last argument the loop's clock."""
    reply: Callable[[Sequence[Part], Args, int], bytes]
    """Returns the reply, from the results of the parts, the arguments and the protocol version."""
    told: Callable[[Session, Args], Args] | None = None
    """Returns the arguments of the parts in place of the client's, if they depend on the client that asks."""

    def args(self, session: Session, args: Args) -> Args:
        """Return the arguments of the parts, for a well-formed command."""
        return args if self.told is None else self.told(session, args)

    def run(self, session: Session, args: Args, now: float) -> bytes:
        """Return the reply if there is only one worker."""
        wrong = at_once(self.check(session.world, args))
        if wrong is not None:
            return encode.error(wrong)
        part = at_once(self.part(session.world, session.id, self.args(session, args), now))
        return self.reply([part], args, session.protocol)


def _type(session: Session) -> bytes:
    return b"pubsub" if any(session.listening) else b"normal"


# ---- LIST

_OF_USER = b"\0of user"
"""An internal option, which no client can send: only the clients of the user whose name follows are listed."""


def _told_list(session: Session, args: Args) -> Args:
    """Return the arguments of the parts. A client whose user is no admin sees the clients of its own user only."""
    if session.admin or len(session.world.users) == 1:
        return args
    return [*args[:2], _OF_USER, name_bytes(session.user), *args[2:]]


def _check_list(world: World, args: Args) -> Job[str | None]:
    wanted = None if _lists_all(args) else (yield from _list_filter(args))
    return wanted if isinstance(wanted, str) else None


def _list_part(world: World, caller: int, args: Args, now: float) -> Job[Part]:
    """Return the id and the line of each client."""
    user = None
    if len(args) > 2 and args[2] == _OF_USER:
        user, args = name_text(args[3]), [*args[:2], *args[4:]]
    wanted = None if _lists_all(args) else (yield from _list_filter(args))
    assert not isinstance(wanted, str)
    found = []
    for client in world.directory.sessions():
        number = client.id
        if (wanted is None or wanted(client)) and (user is None or client.user == user):
            found.append((number, line(client, now, args if number == caller else ())))
        yield MORE
    return found


def _list_reply(parts: Sequence[Part], args: Args, protocol: int) -> bytes:
    rows = [(number, text) for part in parts for number, text in part]
    rows.sort()
    if len(args) > 3 and args[2].lower() == b"id":
        # The reply has the order of the ids, with repetitions. Very many of the ids may belong to no client.
        known = {b"%d" % number: (number, text) for number, text in rows}
        rows = [known[asked] for asked in args[3:] if asked in known]
    return encode.verbatim("".join([text + "\n" for _, text in rows]), protocol)


def _lists_all(args: Args) -> bool:
    """Whether CLIENT LIST has no options."""
    return len(args) == 2


def _list_filter(args: Args) -> Job[Filter | str]:
    """Return the filter that CLIENT LIST's options stand for, or the error that they deserve."""
    if len(args) == 4 and args[2].lower() == b"type":
        if args[3].lower() not in _TYPES:
            return f"ERR Unknown client type '{errors.text(args[3])}'"
        wanted = args[3].lower()
        return lambda client: _type(client) == wanted
    if len(args) > 3 and args[2].lower() == b"id":
        ids: set[int | None] = set()
        for at in range(3, len(args), _STEP):
            ids.update(map(parse_integer, args[at : at + _STEP]))
            yield MORE
        return "ERR Invalid client ID" if None in ids else lambda client: client.id in ids
    return errors.SYNTAX


# ---- SLOTGATE CLIENTS


def _clients_part(world: World, caller: int, args: Args, now: float) -> Job[Part]:
    """Return the id and the line of each client, as CLIENT LIST does, with the client's load in the proxy."""
    directory = world.directory
    found = []
    for client in directory.sessions():
        load = directory.load(client)
        waits = f"in-flight={load.in_flight} unread={load.unread} parked={load.parked}"
        found.append((client.id, f"{line(client, now)} {waits}"))
        yield MORE
    return found


# ---- KILL


def _check_kill(world: World, args: Args) -> Job[str | None]:
    wanted = yield from _kill_filter(args, 0.0, world)
    return wanted if isinstance(wanted, str) else None


def _kill_part(world: World, caller: int, args: Args, now: float) -> Job[Part]:
    """Return the number of closed clients. The calling client is closed only after its reply."""
    wanted = yield from _kill_filter(args, now, world)
    assert not isinstance(wanted, str)
    matches, skip_me = wanted
    killed = 0
    for client in world.directory.sessions():
        if matches(client) and not (skip_me and client.id == caller):
            killed += 1
            if client.id == caller:
                client.closing = True
            else:
                world.directory.kill(client)
            if not killed % _CLOSED_AT_ONCE:
                yield ENOUGH
        yield MORE
    return killed


def _kill_reply(parts: Sequence[Part], args: Args, protocol: int) -> bytes:
    killed = sum(parts)
    if len(args) == 3:
        return encode.OK if killed else encode.error("ERR No such client")
    return encode.integer(killed)


def _kill_filter(args: Args, now: float, world: World) -> Job[tuple[Filter, bool] | str]:
    """Return the filter that CLIENT KILL's options stand for (the last of each kind counts), and whether the calling
    client is spared; or the error that the options deserve."""
    if len(args) == 3:
        address = errors.text(args[2])
        return lambda client: client.address == address, False
    filters: dict[bytes, Filter] = {}
    skip_me = True
    if len(args) % 2:
        return errors.SYNTAX
    for at in range(2, len(args), 2):
        option, value = args[at].lower(), args[at + 1]
        if not at % _STEP:
            yield MORE
        if option == b"skipme":
            if value.lower() not in (b"yes", b"no"):
                return errors.SYNTAX
            skip_me = value.lower() == b"yes"
            continue
        if option == b"user" and name_text(value) not in world.users:
            return f"ERR No such user '{errors.text(value)}'"
        made = _kill_option(option, value, now)
        if isinstance(made, str):
            return made
        filters[option] = made
    wanted = tuple(filters.values())
    return lambda client: all(matches(client) for matches in wanted), skip_me


def _kill_option(option: bytes, value: bytes, now: float) -> Filter | str:
    """Return the filter that an option of CLIENT KILL stands for, or the error that the option deserves."""
    text = errors.text(value)
    match option:
        case b"id":
            client_id = parse_integer(value)
            if client_id is None or client_id < 1:
                return "ERR client-id should be greater than 0"
            return lambda client: client.id == client_id
        case b"addr":
            return lambda client: client.address == text
        case b"laddr":
            return lambda client: client.local_address == text
        case b"user":
            name = name_text(value)
            return lambda client: client.user == name
        case b"type":
            if value.lower() not in _TYPES:
                return f"ERR Unknown client type '{text}'"
            wanted = value.lower()
            return lambda client: _type(client) == wanted
        case b"maxage":
            age = parse_integer(value)
            if age is None:
                return "ERR maxage is not an integer or out of range"
            return lambda client: now - client.created >= age
        case _:
            return errors.SYNTAX


# ---- PAUSE, UNPAUSE


@dataclass(frozen=True, slots=True)
class Pause:
    """The time for which commands are held, in seconds (or a time on a clock), and whether only possible writes are
    held."""

    seconds: float
    writes_only: bool

    def joined(self, other: "Pause | None") -> "Pause":
        """Return the union of two pauses: the longer time and the stricter kind, as in Redis."""
        if other is None:
            return self
        return Pause(max(self.seconds, other.seconds), self.writes_only and other.writes_only)


def pause_asked(args: Args) -> Pause | str:
    """Return the pause that CLIENT PAUSE's arguments ask for, or the error that the arguments deserve."""
    writes_only = False
    if len(args) == 4:
        mode = args[3].lower()
        if mode not in (b"write", b"all"):
            return "ERR CLIENT PAUSE mode must be WRITE or ALL"
        writes_only = mode == b"write"
    elif len(args) > 4:
        return errors.wrong_subcommand("client", args[1])
    milliseconds = parse_integer(args[2])
    if milliseconds is None:
        return "ERR timeout is not an integer or out of range"
    if milliseconds < 0:
        return "ERR timeout is negative"
    return Pause(milliseconds / 1000, writes_only)


def _check_pause(world: World, args: Args) -> str | None:
    asked = pause_asked(args)
    return asked if isinstance(asked, str) else None


def _pause_part(world: World, caller: int, args: Args, now: float) -> Part:
    asked = pause_asked(args)
    assert isinstance(asked, Pause)
    world.directory.pause(asked.seconds, asked.writes_only)


def _unpause_part(world: World, caller: int, args: Args, now: float) -> Part:
    world.directory.unpause()


# ---- UNBLOCK


def _check_unblock(world: World, args: Args) -> str | None:
    if len(args) > 4:
        return errors.wrong_subcommand("client", args[1])
    if len(args) == 4 and args[3].lower() not in (b"timeout", b"error"):
        return "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
    return errors.NOT_AN_INTEGER if parse_integer(args[2]) is None else None


def _unblock_part(world: World, caller: int, args: Args, now: float) -> Part:
    number = parse_integer(args[2])
    assert number is not None
    return int(world.directory.unblock(number, args[-1].lower() == b"error"))


def _sum(parts: Sequence[Part], args: Args, protocol: int) -> bytes:
    return encode.integer(sum(part or 0 for part in parts))


def _nothing_wrong(world: World, args: Args) -> str | None:
    return None


def _ok(parts: Sequence[Part], args: Args, protocol: int) -> bytes:
    return encode.OK


def _script_part(world: World, caller: int, args: Args, now: float) -> Part:
    body = world.scripts.body(args[0])
    return None if body is None else body.decode("latin-1")


def _flush_part(world: World, caller: int, args: Args, now: float) -> Part:
    world.scripts.flush()


LIST = CrossWorkerCommand(_check_list, _list_part, _list_reply, told=_told_list)
CLIENTS = CrossWorkerCommand(short(_nothing_wrong), _clients_part, _list_reply)
KILL = CrossWorkerCommand(_check_kill, _kill_part, _kill_reply)
PAUSE = CrossWorkerCommand(short(_check_pause), short(_pause_part), _ok)
UNPAUSE = CrossWorkerCommand(short(_nothing_wrong), short(_unpause_part), _ok)
UNBLOCK = CrossWorkerCommand(short(_check_unblock), short(_unblock_part), _sum)
SCRIPTS: Mapping[str, PartOf] = {"script|show": short(_script_part), "script|flush": short(_flush_part)}
"""The parts that ``proxy.worker.script_lookup`` asks the other workers for; SCRIPT itself is sent to servers."""
