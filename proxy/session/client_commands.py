"""The CLIENT subcommands, answered about the client that asks; ``cross_worker`` has those about all of them.

Source: https://redis.io/docs/latest/commands/client/ and what Redis 7 answers.
"""

from collections.abc import Mapping, Sequence

from proxy import errors
from proxy.resp import encode
from proxy.session import cluster_commands, cross_worker, tracking_options
from proxy.session.client_line import line
from proxy.session.session import COMMANDS, Command, ReplyMode, Session, printable


def command(name: str) -> Command | None:
    """What answers the session's own command ``name`` (as a fact names it), if the session is all that it looks at."""
    return COMMANDS.get(name) or _SUBCOMMANDS.get(name)


def run(session: Session, name: str, args: Sequence[bytes], now: float) -> bytes:
    """The reply to the session's own command ``name`` (as a fact names it); ``now`` is the loop's clock, in seconds."""
    known = command(name)
    if known is not None:
        return known(session, args)
    if name == "client|info":
        return encode.verbatim(line(session, now, args) + "\n", session.protocol)
    spanning = cross_worker.COMMANDS.get(name)
    if spanning is not None:
        return cross_worker.run(spanning, session, args, now)
    if name.startswith("cluster|"):
        return cluster_commands.run(session, name, args)
    return encode.error(errors.refused(name, "it is about the one server that a client is connected to"))


def _id(session: Session, args: Sequence[bytes]) -> bytes:
    return encode.integer(session.id)


def _getname(session: Session, args: Sequence[bytes]) -> bytes:
    return encode.bulk(session.name.encode("latin-1")) if session.name else encode.null(session.protocol)


def _setname(session: Session, args: Sequence[bytes]) -> bytes:
    wrong = session.rename(args[2])
    return encode.error(wrong) if wrong else encode.OK


def _setinfo(session: Session, args: Sequence[bytes]) -> bytes:
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


def _switch(attribute: str) -> Command:
    def command(session: Session, args: Sequence[bytes]) -> bytes:
        value = args[2].lower()
        if value not in (b"on", b"off"):
            return encode.error(errors.SYNTAX)
        setattr(session, attribute, value == b"on")
        return encode.OK

    return command


def _reply(session: Session, args: Sequence[bytes]) -> bytes:
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


def _getredir(session: Session, args: Sequence[bytes]) -> bytes:
    return encode.integer(-1 if session.tracking is None else session.tracking.redirect)


def _trackinginfo(session: Session, args: Sequence[bytes]) -> bytes:
    return tracking_options.describe(session.tracking, session.protocol)


def _capa(session: Session, args: Sequence[bytes]) -> bytes:
    return encode.OK


_SUBCOMMANDS: Mapping[str, Command] = {
    "client|id": _id,
    "client|getname": _getname,
    "client|setname": _setname,
    "client|setinfo": _setinfo,
    "client|no-evict": _switch("no_evict"),
    "client|no-touch": _switch("no_touch"),
    "client|reply": _reply,
    "client|getredir": _getredir,
    "client|trackinginfo": _trackinginfo,
    "client|capa": _capa,
}
