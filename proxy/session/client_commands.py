"""The CLIENT subcommands about the client that sends them; ``cross_worker`` has those about all clients.

Source: https://redis.io/docs/latest/commands/client/ and the replies of Redis 7.
"""

from collections.abc import Sequence

from proxy import errors
from proxy.resp import encode
from proxy.session import tracking_options
from proxy.session.client_line import line
from proxy.session.session import Command, ReplyMode, Session, printable


def number(session: Session, args: Sequence[bytes]) -> bytes:
    """The reply to CLIENT ID."""
    return encode.integer(session.id)


def info(session: Session, args: Sequence[bytes], now: float) -> bytes:
    """The reply to CLIENT INFO."""
    return encode.verbatim(line(session, now, args) + "\n", session.protocol)


def getname(session: Session, args: Sequence[bytes]) -> bytes:
    """The reply to CLIENT GETNAME."""
    return encode.bulk(session.name.encode("latin-1")) if session.name else encode.null(session.protocol)


def setname(session: Session, args: Sequence[bytes]) -> bytes:
    """Carry out CLIENT SETNAME."""
    wrong = session.rename(args[2])
    return encode.error(wrong) if wrong else encode.OK


def setinfo(session: Session, args: Sequence[bytes]) -> bytes:
    """Carry out CLIENT SETINFO."""
    option = args[2].lower()
    if option not in (b"lib-name", b"lib-ver"):
        return encode.error(f"ERR Unrecognized option '{errors.text(args[2])}'")
    if not printable(args[3]):
        return encode.error(f"ERR {errors.text(args[2])} cannot contain spaces, newlines or special characters.")
    if option == b"lib-name":
        session.lib_name = errors.text(args[3])
    else:
        session.lib_ver = errors.text(args[3])
    return encode.OK


def switch(attribute: str) -> Command:
    """The handler of CLIENT NO-EVICT or CLIENT NO-TOUCH, which sets the session's ``attribute`` to whether it is ON."""

    def command(session: Session, args: Sequence[bytes]) -> bytes:
        value = args[2].lower()
        if value not in (b"on", b"off"):
            return encode.error(errors.SYNTAX)
        setattr(session, attribute, value == b"on")
        return encode.OK

    return command


def reply(session: Session, args: Sequence[bytes]) -> bytes:
    """Carry out CLIENT REPLY."""
    mode = args[2].lower()
    if mode == b"on":
        session.reply_mode = ReplyMode.ON
        return encode.OK
    if mode == b"off":
        session.reply_mode = ReplyMode.OFF
        return b""
    if mode == b"skip":
        if session.reply_mode is not ReplyMode.OFF:
            session.reply_mode = ReplyMode.SKIP
        return b""
    return encode.error(errors.SYNTAX)


def getredir(session: Session, args: Sequence[bytes]) -> bytes:
    """The reply to CLIENT GETREDIR."""
    return encode.integer(-1 if session.tracking is None else session.tracking.redirect)


def trackinginfo(session: Session, args: Sequence[bytes]) -> bytes:
    """The reply to CLIENT TRACKINGINFO."""
    return tracking_options.describe(session.tracking, session.protocol)


def capa(session: Session, args: Sequence[bytes]) -> bytes:
    """The reply to CLIENT CAPA: no capability changes what the proxy does."""
    return encode.OK


def refused(name: str) -> Command:
    """The handler of the subcommand ``name`` (as a fact names it), which has no meaning through a proxy."""

    def command(session: Session, args: Sequence[bytes]) -> bytes:
        return encode.error(errors.refused(name, "it is about the one server that a client is connected to"))

    return command
