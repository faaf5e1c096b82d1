"""The users of the configuration or an aclfile, and their changes while the proxy runs."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from proxy import errors
from proxy.commands.categories import CommandSet, categories_of_redis_7_0
from proxy.commands.table import CommandTable
from proxy.config import Config
from proxy.config.users import default_user
from proxy.engine.jobs import MORE, Job
from proxy.errors import ConfigError
from proxy.session.acl_log import LogEntry
from proxy.session.acl_rules import RuleError, UnmatchedParenthesis
from proxy.session.acl_text import REDIS_7_0, dialect_of
from proxy.session.acl_users import DEFAULT, AclFileError, Users, parse_file
from proxy.session.passwords import Scrypt
from proxy.session.session import World
from proxy.session.users import configured, open_to_all
from proxy.transport.log_rate import LogRate

log = logging.getLogger(__name__)

_LOGINS_LOGGED = 10
"""The number of failed logins that are logged one by one in each second."""
_NAME_MOST = 64


class AclFile:
    """The file with the users, in Redis's format. The file is replaced as a whole."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"AclFile({self.path!r})"

    def read(self) -> bytes:
        """Return the text of the file. Raises OSError."""
        return Path(self.path).read_bytes()

    def write(self, text: bytes) -> None:
        """Replace the text of the file; after an error the old text is still there. Raises OSError, which is logged."""
        path = Path(self.path)
        temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}-{time.monotonic_ns()}")
        try:
            with temporary.open("xb") as file:
                with contextlib.suppress(OSError):
                    os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            log.warning("the aclfile was not saved path=%s reason=%r", path, error.strerror)
            temporary.unlink(missing_ok=True)
            raise


def users_file_of(config: Config) -> AclFile | None:
    """Return the aclfile, if one is configured."""
    return None if config.aclfile is None else AclFile(config.aclfile)


def users_of(config: Config) -> Users:
    """Return the users. Raises ConfigError if their rules, their digests or the aclfile are invalid."""
    commands = CommandSet(CommandTable.builtin(), categories_of_redis_7_0())
    file = users_file_of(config)
    if file is not None:
        try:
            return Users(commands, parse_file(file.read(), file.path, commands), REDIS_7_0)
        except OSError as error:
            raise ConfigError((("aclfile", f"names {file.path}, which can not be read: {error.strerror}"),)) from None
        except AclFileError as error:
            raise ConfigError((("aclfile", str(error)),)) from None
    if config.users == default_user(()):
        return Users(commands, [open_to_all(DEFAULT)], REDIS_7_0)
    users, problems = [], []
    for at, user in enumerate(config.users):
        rules = None if user.rules is None else user.rules.get_secret_value().encode().split()
        try:
            for digest in user.password_hash:
                Scrypt.parse(digest.get_secret_value())
            users.append(configured(user.name, commands, user.passwords, user.nopass, user.admin, rules))
        except ValueError as error:
            problems.append((f"users[{at}].password_hash", str(error)))
        except RuleError as error:
            shown = "a password" if error.rule[:1] in (b">", b"<", b"#", b"!") else repr(errors.text(error.rule))
            problems.append((f"users[{at}].rules", f"{error.why}: {shown}"))
        except UnmatchedParenthesis as error:
            problems.append((f"users[{at}].rules", str(error)))
    if problems:
        raise ConfigError(tuple(problems))
    return Users(commands, users, REDIS_7_0)


def logging_logins(clock: Callable[[], float]) -> Callable[[LogEntry, str], None]:
    """Return a function that logs failed logins, a few in each second, and afterwards how many more there were."""
    rate = LogRate(clock, _LOGINS_LOGGED, partial(log.warning, "more logins failed count=%d"))

    def on_login(entry: LogEntry, why: str) -> None:
        if rate.allows():
            address = dict(field.partition("=")[::2] for field in entry.client_info.split(" ")).get("addr", "")
            log.warning("login failed user=%r address=%s reason=%r", entry.username[:_NAME_MOST], address, why)

    return on_login


def learn_users(world: World, table: CommandTable) -> Job[None]:
    """Apply users' rules to the commands in ``table``, and show the rules as servers of the lowest version do. The job
    tells the connected clients one by one; new clients see the change at once."""
    dialect = dialect_of(world.server_version)
    if dialect is world.users.describing.dialect and list(table) == list(world.commands):
        return _telling(world, anybody=False)
    world.commands = table
    world.users.learn(CommandSet(table, None if dialect.keeps_rules else categories_of_redis_7_0()), dialect)
    return _telling(world)


def _telling(world: World, anybody: bool = True) -> Job[None]:
    if not anybody or all(user.unrestricted for user in world.users):
        return
    for session in world.directory.sessions():
        if not session.unrestricted:
            world.directory.rules_changed(session)
        yield MORE


class ChangedUsers:
    """The users as ACL SETUSER, DELUSER and LOAD have changed them. A worker that starts gets these changes.

    Each change holds the complete user (``proxy.session.acl_commands``), so the last change of each user is enough.
    """

    def __init__(self, config: Config, users: Users | None = None) -> None:
        self._changes: dict[str, tuple[str, int, Sequence[str]]] = {}
        """The changes by the user's name. A change of all users comes first, under an empty name."""
        if config.aclfile is not None:
            # The users are read once, because the file may have changed when a worker starts again.
            users = users or users_of(config)
            self._changes[""] = "acl|load", 0, ("ACL", "LOAD", users.file().decode("latin-1"))

    def __repr__(self) -> str:
        return f"<ChangedUsers: {len(self._changes)}>"

    def note(self, change: tuple[str, int, Sequence[str]]) -> None:
        """Keep ``change``, a command about all clients that was carried out, if the command changes users."""
        name, _, args = change
        if name == "acl|load":
            self._changes = {"": change}
        elif name == "acl|setuser":
            self._changes[args[2]] = change
        elif name == "acl|deluser":
            for user in args[2:]:
                self._changes[user] = name, 0, (*args[:2], user)

    def parts(self) -> Iterable[tuple[str, int, Sequence[str]]]:
        """Return the commands after which a worker has the same users as the others."""
        return self._changes.values()
