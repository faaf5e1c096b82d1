"""A worker's clients without their connections: sessions that talk, and are listed, killed and paused."""

import hashlib
from collections.abc import Iterable, Mapping

from proxy.commands.categories import CommandSet
from proxy.commands.table import CommandTable
from proxy.session import commands
from proxy.session.acl_rules import AclUser
from proxy.session.acl_users import Users
from proxy.session.listener import Listener
from proxy.session.session import Load, Session, World
from proxy.session.users import configured, open_to_all

TABLE = CommandTable.builtin()
COMMANDS = CommandSet(TABLE)
OPEN = {"default": open_to_all("default")}
ONLY = Listener()


def account(name: str, digests: frozenset[str] = frozenset(), nopass: bool = False, admin: bool = False) -> AclUser:
    """A user without rules of its own."""
    return configured(name, COMMANDS, digests, nopass, admin)


def sha256(password: str) -> frozenset[str]:
    return frozenset({hashlib.sha256(password.encode()).hexdigest()})


class Room:
    """All sessions of a worker, and what was done to them; the ``Directory`` that they look into."""

    def __init__(self, users: Mapping[str, AclUser] = OPEN, listener: Listener = ONLY) -> None:
        self.listener = listener
        self.world = World(Users(COMMANDS, users.values()), self)
        self.clients: list[Session] = []
        self.killed: list[int] = []
        self.loads: dict[int, Load] = {}
        self.pauses: list[tuple[float, bool] | None] = []
        self.listening: dict[int, list[tuple[bytes, bool]]] = {}
        self.told: list[int] = []
        self.unblocked: list[tuple[int, bool]] = []

    def enter(self, now: float = 100.0) -> Session:
        """A new client; the first has id 1 and port 5001."""
        number = len(self.clients) + 1
        session = Session(self.world, number, f"127.0.0.1:{5000 + number}", "127.0.0.1:6380", now, self.listener)
        self.clients.append(session)
        return session

    def sessions(self) -> Iterable[Session]:
        return list(self.clients)

    def load(self, session: Session) -> Load:
        return self.loads.get(session.id, Load(in_flight=session.id))

    def kill(self, session: Session) -> None:
        self.killed.append(session.id)

    def pause(self, seconds: float, writes_only: bool) -> None:
        self.pauses.append((seconds, writes_only))

    def unpause(self) -> None:
        self.pauses.append(None)

    def channels(self, session: Session) -> Iterable[tuple[bytes, bool]]:
        return self.listening.get(session.id, ())

    def rules_changed(self, session: Session) -> None:
        self.told.append(session.id)

    def unblock(self, number: int, error: bool) -> bool:
        self.unblocked.append((number, error))
        return any(session.id == number and session.blocked for session in self.clients)


def say(session: Session, *words: bytes | str, now: float = 100.0) -> bytes:
    """The reply to a command of the session's own."""
    args = [word.encode() if isinstance(word, str) else word for word in words]
    fact = TABLE.resolve(args)
    assert fact is not None
    assert fact.accepts(len(args))
    return commands.find(fact.name).run(session, args, now)
