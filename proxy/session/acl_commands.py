"""The ACL subcommands. Those that change users span all workers: each worker is sent the users as they are to be.

Source: https://redis.io/docs/latest/commands/acl/ and the replies of Redis 7. ACL CAT is answered by a server.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence

from proxy import errors
from proxy.commands.table import UnknownSubcommand
from proxy.engine.jobs import MORE, Job, short
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.session import acl_log
from proxy.session.acl_rules import AclUser, change
from proxy.session.acl_text import EXACT, Describing, name_bytes, name_text
from proxy.session.acl_users import DEFAULT, AclFileError, Users, lost_channels, parse_file
from proxy.session.cross_worker import Args, CrossWorkerCommand, Part
from proxy.session.session import Session, World

_MOST_BITS = 4096
_NO_FILE = (
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER "
    "command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store "
    "users in the Redis configuration."
)
_NOT_SAVED = "ERR There was an error trying to save the ACLs. Please check the server logs for more information"


def whoami(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ACL WHOAMI."""
    return encode.bulk(name_bytes(session.user))


def users(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ACL USERS."""
    return encode.array(encode.bulk(name_bytes(user.name)) for user in session.world.users)


def list_users(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ACL LIST."""
    known = session.world.users
    return encode.array(encode.bulk(known.describing.line(user)) for user in known)


def getuser(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ACL GETUSER."""
    known = session.world.users
    found = known.get(name_text(args[2]))
    return encode.null(session.protocol) if found is None else known.describing.getuser(found.user, session.protocol)


def genpass(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ACL GENPASS."""
    if len(args) > 3:
        return encode.error(errors.wrong_subcommand("acl", args[1]))
    bits = parse_integer(args[2]) if len(args) == 3 else 256
    if bits is None:
        return encode.error(errors.NOT_AN_INTEGER)
    if not 0 < bits <= _MOST_BITS:
        return encode.error(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to "
            f"{_MOST_BITS}"
        )
    digits = (bits + 3) // 4
    return encode.bulk(secrets.token_hex((digits + 1) // 2)[:digits])


def dryrun(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ACL DRYRUN."""
    known = session.world.users
    permissions = known.get(name_text(args[2]))
    if permissions is None:
        return encode.error(f"ERR User '{errors.text(args[2])}' not found")
    command = args[3:]
    try:
        fact = session.world.commands.resolve(command)
    except UnknownSubcommand:
        fact = None
    if fact is None:
        return encode.error(f"ERR Command '{errors.text(command[0])}' not found")
    if not fact.accepts(len(command)):
        return encode.error(errors.wrong_arity(fact.name))
    denial = permissions.check(fact, command)
    return encode.OK if denial is None else known.describing.dry_run(permissions.user, denial, fact, command)


# ---- subcommands that change users


def _check_setuser(world: World, args: Args) -> str | None:
    changed = world.users.changed(args[2], args[3:])
    return changed if isinstance(changed, str) else None


def _told_setuser(session: Session, args: Args) -> Args:
    """Return the complete user after the change, so that the user is the same in every worker afterwards."""
    changed = session.world.users.changed(args[2], args[3:])
    assert isinstance(changed, AclUser)
    return _setuser_args(session.world.users, changed)


def _setuser_args(known: Users, user: AclUser) -> list[bytes]:
    """Return the arguments of the ACL SETUSER that makes ``user``."""
    return [b"ACL", b"SETUSER", name_bytes(user.name), *Describing(known.commands, EXACT).rules(user)]


def _setuser_part(world: World, caller: int, args: Args, now: float) -> Job[Part]:
    user = change(AclUser(name_text(args[2])), args[3:], world.users.commands)
    known = world.users.get(user.name)
    world.users.put(user)
    yield from _apply(world, {user.name: known.user} if known is not None else {}, caller)


def _apply(world: World, before: Mapping[str, AclUser], caller: int) -> Job[None]:
    """Apply the new rules to the clients of the users in ``before``. A client is closed if its user was deleted, or if
    its user may no longer use a channel that the client is subscribed to."""
    for session in world.directory.sessions():
        old = before.get(session.user)
        if old is not None:
            found = world.users.get(session.user)
            if found is None or (
                lost_channels(old, found.user)
                and any(
                    not found.allows_channel(channel, literal) for channel, literal in world.directory.channels(session)
                )
            ):
                _close(world, session, caller)
            else:
                world.directory.rules_changed(session)
        yield MORE


def _close(world: World, session: Session, caller: int) -> None:
    if session.id == caller:
        session.closing = True
        session.authenticated = False
    else:
        world.directory.kill(session)


def _ok(parts: Sequence[Part], args: Args, protocol: int) -> bytes:
    failed = next((part for part in parts if isinstance(part, str)), None)
    return encode.OK if failed is None else encode.error(failed)


def _check_deluser(world: World, args: Args) -> str | None:
    return "ERR The 'default' user cannot be removed" if DEFAULT.encode() in args[2:] else None


def _deluser_part(world: World, caller: int, args: Args, now: float) -> Job[Part]:
    before = {user.name: user for user in world.users}
    removed = world.users.remove(map(name_text, args[2:]))
    yield from _apply(world, {name: before[name] for name in removed}, caller)
    return len(removed)


def _most(parts: Sequence[Part], args: Args, protocol: int) -> bytes:
    return encode.integer(max(parts))


def _read_file(world: World) -> list[AclUser] | str:
    """Return the users of the aclfile, or the error text."""
    file = world.users_file
    if file is None:
        return _NO_FILE
    try:
        return parse_file(file.read(), file.path, world.users.commands)
    except OSError as error:
        return f"ERR Error loading ACLs, opening file '{file.path}': {error.strerror}"
    except AclFileError as error:
        return f"ERR {error}"


def _check_load(world: World, args: Args) -> str | None:
    found = _read_file(world)
    return found if isinstance(found, str) else None


def _told_load(session: Session, args: Args) -> Args:
    """Return all users of the file, as each worker is to have them."""
    found = _read_file(session.world)
    if isinstance(found, str):
        return args  # the file has changed since the check
    text = Users(session.world.users.commands, found).file()
    return [b"ACL", b"LOAD", text]


def _load_part(world: World, caller: int, args: Args, now: float) -> Job[Part]:
    if len(args) < 3:
        return "ERR The ACL file was changed while it was loaded"
    yield from replace_users(world, parse_file(args[2], "", world.users.commands), caller)
    return None


def replace_users(world: World, users: Iterable[AclUser], caller: int = 0) -> Job[None]:
    """Replace all users, and apply the new rules to the clients. ``caller``: the client that has asked for it."""
    before = {user.name: user for user in world.users}
    world.users.replace_all(users)
    after = {user.name: user for user in world.users}
    yield from _apply(world, {name: user for name, user in before.items() if after.get(name) != user}, caller)


def save(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to ACL SAVE."""
    world = session.world
    if world.users_file is None:
        return encode.error(_NO_FILE)
    try:
        world.users_file.write(world.users.file())
    except OSError:
        return encode.error(_NOT_SAVED)
    return encode.OK


# ---- LOG


def _check_log(world: World, args: Args) -> str | None:
    if len(args) > 3:
        return errors.wrong_subcommand("acl", args[1])
    if len(args) == 3 and args[2].lower() != b"reset" and parse_integer(args[2]) is None:
        return errors.NOT_AN_INTEGER
    return None


def _log_part(world: World, caller: int, args: Args, now: float) -> Part:
    if len(args) == 3 and args[2].lower() == b"reset":
        world.denials.log.reset()
        return None
    wall = world.denials.now()
    return [wall, world.users.describing.dialect.numbers_log, world.denials.log.export()]


def _log_reply(parts: Sequence[Part], args: Args, protocol: int) -> bytes:
    if len(args) == 3 and args[2].lower() == b"reset":
        return encode.OK
    count = parse_integer(args[2]) if len(args) == 3 else acl_log.SHOWN
    now, numbered, _ = parts[0]
    return acl_log.reply([part[2] for part in parts], count or 0, now, protocol, numbered)


SETUSER = CrossWorkerCommand(short(_check_setuser), _setuser_part, _ok, told=_told_setuser)
DELUSER = CrossWorkerCommand(short(_check_deluser), _deluser_part, _most)
LOAD = CrossWorkerCommand(short(_check_load), _load_part, _ok, told=_told_load)
LOG = CrossWorkerCommand(short(_check_log), short(_log_part), _log_reply)
