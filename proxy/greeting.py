"""What is said on a new backend connection before any client's request: who we are, which protocol, which database."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

import hiredis

from proxy.clock import timeout
from proxy.errors import BackendError
from proxy.resp import encode
from proxy.tls import Tls, lost_words

Step = tuple[str | int | bytes, ...]
"""A command."""

_REPLICA = (b"slave", b"replica")
"""Dragonfly says replica."""
_UNSYNCED = {b"connect", b"connecting", b"handshake", b"sync"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the proxy is to servers of one kind, and over what it says so.

    No password means that it does not authenticate, no ``tls`` that it speaks without.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    tls: Tls | None = None

    def arguments(self) -> list[str]:
        """The arguments of AUTH; none without a password."""
        if not self.password:
            return []
        return [self.username, self.password] if self.username else [self.password]


class Greeting:
    """The first exchange on a connection. ``done`` gets True, or a ``BackendError`` that says why it can not be used.

    A replica is asked for its ``ROLE``: one that is still copying its primary's data is not used yet. With ``verify``,
    as where servers change their roles, so is a primary: what is written to one that has become a replica, or read from
    a replica that has become a primary, would be lost on the others. ``cluster``: a replica of a Redis Cluster must be
    told that it may answer reads. ``identify``: ask for the connection's id (``client_id``). ``steps``: what else it is
    told, all of which it must take.
    """

    def __init__(
        self,
        protocol: int,
        db: int,
        primary: bool,
        credentials: Credentials,
        *,
        verify: bool = False,
        cluster: bool = False,
        identify: bool = False,
        steps: Sequence[Step] = (),
    ) -> None:
        self.client_id = 0
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # Who has given up waiting does not look at why it failed.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._tls = credentials.tls
        self._heard = False
        self._reader = hiredis.Reader()
        self._role = "" if not verify else "master" if primary else "slave"
        """What it must be; "" if it may be anything."""
        self._steps: list[Step] = []
        auth = credentials.arguments()
        if protocol >= 3:
            named = ["default", *auth][-2:] if auth else []
            self._steps.append(("HELLO", 3, "AUTH", *named) if auth else ("HELLO", 3))
        elif auth:
            self._steps.append(("AUTH", *auth))
        if db:
            self._steps.append(("SELECT", db))
        if cluster and not primary:
            self._steps.append(("READONLY",))
        if verify or not primary:
            self._steps.append(("ROLE",))
        if identify:
            self._steps.append(("CLIENT", "ID"))
        self._further = set(steps)
        self._steps += steps
        self._steps.append(("PING",))

    async def exchange(self, connecting: Awaitable[None], seconds: float) -> None:
        """Wait until ``connecting`` has made the connection and the server has answered all. Raises ``BackendError``,
        ``TimeoutError`` after so many seconds, and what ``connecting`` raises."""
        async with timeout(seconds):
            await connecting
            await self.done

    def request(self) -> bytes:
        """The bytes to send."""
        return b"".join(encode.request(step) for step in self._steps)

    def feed(self, data: bytes) -> None:
        """Take what the server answers."""
        self._heard = True
        self._reader.feed(data)
        try:
            while self._steps and not self.done.done():
                reply = self._reader.gets()
                if reply is False:
                    return
                self._take(self._steps.pop(0), reply)
        except (hiredis.ProtocolError, BackendError) as error:
            if not self.done.done():
                self.done.set_exception(error if isinstance(error, BackendError) else BackendError(str(error)))
            return
        if not self.done.done():
            self.done.set_result(True)

    def lost(self, error: Exception | None) -> None:
        """The connection is gone, by ``error`` or in order."""
        if not self.done.done():
            self.done.set_exception(BackendError(lost_words(error, self._tls, self._heard)))

    def _take(self, step: Step, reply: object) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._refused(step, str(reply))
        elif step[0] == "CLIENT" and isinstance(reply, int):
            self.client_id = reply
        elif step[0] == "ROLE" and isinstance(reply, list) and reply:
            self._is(reply)

    def _is(self, role: list[object]) -> None:
        """``role``: https://redis.io/docs/latest/commands/role/."""
        if role[0] == b"sentinel":
            raise BackendError("the server is a sentinel, it holds no keys")
        if role[0] in _REPLICA and self._role == "master":
            words = [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in role[1:3]]
            raise BackendError(f"the server is no primary, it replicates {':'.join(words) or 'another'}")
        if role[0] == b"master" and self._role == "slave":
            raise BackendError("the server is no replica, it says that it is a primary")
        if role[0] in _REPLICA and _UNSYNCED.intersection(role[3:4]):
            raise BackendError("the replica is not in sync with its primary")

    def _refused(self, asked: Step, words: str) -> None:
        step = str(asked[0])
        code = words.partition(" ")[0]
        if code == "NOAUTH":
            raise BackendError("the server asks for a password: set backend.password")
        if step in ("AUTH", "HELLO") and code in ("WRONGPASS", "ERR"):
            raise BackendError(f"the server refuses the proxy's {step}: {words}")
        if asked in self._further:
            raise BackendError(f"the server refuses {step} {asked[1]!s}: {words}")
        if code == "NOPERM" or (code == "BUSY" and step != "SELECT"):
            # A user that may not ask; a script that runs too long, which SCRIPT KILL must be able to reach.
            return
        raise BackendError(f"the server answers {step} with: {words}")
