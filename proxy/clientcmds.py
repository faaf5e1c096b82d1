"""The CLIENT subcommands, answered about the proxy's own clients.

Source: https://redis.io/docs/latest/commands/client/ and what Redis 7 answers.
"""

from collections.abc import Callable, Mapping, Sequence

from proxy import errors
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.session import COMMANDS, Command, ReplyMode, Session, no_cluster, printable

_TYPES = (b"normal", b"master", b"replica", b"slave", b"pubsub")

Filter = Callable[[Session], bool]


def run(session: Session, name: str, args: Sequence[bytes], now: float) -> bytes:
    """The reply to the session's own command ``name`` (as a fact names it); ``now`` is the loop's clock, in seconds."""
    command = COMMANDS.get(name) or _SUBCOMMANDS.get(name)
    if command is not None:
        return command(session, args)
    timed = _TIMED.get(name)
    if timed is not None:
        return timed(session, args, now)
    if name.startswith("cluster|"):
        return no_cluster(session, args)
    return encode.error(errors.refused(name, "it is about the one server that a client is connected to"))


def line(session: Session, now: float) -> str:
    """A client as CLIENT LIST shows it. What only a server knows (buffers of the query, memory) is 0."""
    flags = "N" if not session.no_evict else "e"
    return (
        f"id={session.id} addr={session.address} laddr={session.local_address} fd=-1 name={session.name} "
        f"age={int(now - session.created)} idle={int(now - session.last_active)} flags={flags} db={session.db} "
        "sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 "
        f"omem=0 tot-mem=0 events=r cmd={session.last_command} user={session.user} redir=-1 resp={session.protocol} "
        f"lib-name={session.lib_name} lib-ver={session.lib_ver}"
    )


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
    return encode.integer(-1)


def _trackinginfo(session: Session, args: Sequence[bytes]) -> bytes:
    return encode.mapping(
        {
            encode.bulk("flags"): encode.set_of((encode.bulk("off"),), session.protocol),
            encode.bulk("redirect"): encode.integer(-1),
            encode.bulk("prefixes"): encode.EMPTY_ARRAY,
        },
        session.protocol,
    )


def _unblock(session: Session, args: Sequence[bytes]) -> bytes:
    if len(args) > 4:
        return encode.error(errors.wrong_subcommand("client", args[1]))
    if len(args) == 4 and args[3].lower() not in (b"timeout", b"error"):
        return encode.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    if parse_integer(args[2]) is None:
        return encode.error(errors.NOT_AN_INTEGER)
    return encode.ZERO


def _pause(session: Session, args: Sequence[bytes]) -> bytes:
    writes_only = False
    if len(args) == 4:
        mode = args[3].lower()
        if mode not in (b"write", b"all"):
            return encode.error("ERR CLIENT PAUSE mode must be WRITE or ALL")
        writes_only = mode == b"write"
    elif len(args) > 4:
        return encode.error(errors.wrong_subcommand("client", args[1]))
    milliseconds = parse_integer(args[2])
    if milliseconds is None:
        return encode.error("ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        return encode.error("ERR timeout is negative")
    session.world.directory.pause(milliseconds / 1000, writes_only)
    return encode.OK


def _unpause(session: Session, args: Sequence[bytes]) -> bytes:
    session.world.directory.unpause()
    return encode.OK


def _capa(session: Session, args: Sequence[bytes]) -> bytes:
    return encode.OK


def _info(session: Session, args: Sequence[bytes], now: float) -> bytes:
    return encode.verbatim(line(session, now) + "\n", session.protocol)


def _list(session: Session, args: Sequence[bytes], now: float) -> bytes:
    wanted = _list_filter(args)
    if isinstance(wanted, str):
        return encode.error(wanted)
    clients = [client for client in session.world.directory.sessions() if wanted(client)]
    clients.sort(key=lambda client: client.id)
    return encode.verbatim("".join(line(client, now) + "\n" for client in clients), session.protocol)


def _list_filter(args: Sequence[bytes]) -> Filter | str:
    """The filter that CLIENT LIST's options stand for, or the error they deserve."""
    if len(args) == 2:
        return lambda _: True
    if len(args) == 4 and args[2].lower() == b"type":
        if args[3].lower() not in _TYPES:
            return f"ERR Unknown client type '{errors.text(args[3])}'"
        normal = args[3].lower() == b"normal"
        return lambda _: normal
    if len(args) > 3 and args[2].lower() == b"id":
        ids = {parse_integer(arg) for arg in args[3:]}
        return "ERR Invalid client ID" if None in ids else lambda client: client.id in ids
    return errors.SYNTAX


def _kill(session: Session, args: Sequence[bytes], now: float) -> bytes:
    if len(args) == 3:
        address = errors.text(args[2])
        victims = [client for client in session.world.directory.sessions() if client.address == address]
        if not victims:
            return encode.error("ERR No such client")
        _close(session, victims)
        return encode.OK
    filters: list[Filter] = []
    skip_me = True
    if len(args) % 2:
        return encode.error(errors.SYNTAX)
    for option, value in zip(args[2::2], args[3::2], strict=True):
        if option.lower() == b"skipme":
            if value.lower() not in (b"yes", b"no"):
                return encode.error(errors.SYNTAX)
            skip_me = value.lower() == b"yes"
            continue
        if option.lower() == b"user" and value.decode("utf-8", "replace") not in session.world.accounts:
            return encode.error(f"ERR No such user '{errors.text(value)}'")
        made = _kill_filter(option.lower(), value, now)
        if isinstance(made, str):
            return encode.error(made)
        filters.append(made)
    victims = [
        client
        for client in session.world.directory.sessions()
        if all(matches(client) for matches in filters) and not (skip_me and client is session)
    ]
    _close(session, victims)
    return encode.integer(len(victims))


def _kill_filter(option: bytes, value: bytes, now: float) -> Filter | str:
    """The filter that an option of CLIENT KILL stands for, or the error it deserves."""
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
            return lambda client: client.user.encode() == value
        case b"type":
            if value.lower() not in _TYPES:
                return f"ERR Unknown client type '{text}'"
            normal = value.lower() == b"normal"
            return lambda client: normal
        case b"maxage":
            age = parse_integer(value)
            if age is None:
                return "ERR maxage is not an integer or out of range"
            return lambda client: now - client.created >= age
        case _:
            return errors.SYNTAX


def _close(session: Session, victims: Sequence[Session]) -> None:
    """Close clients; the caller itself only after it has its reply."""
    for victim in victims:
        if victim is session:
            victim.closing = True
        else:
            session.world.directory.kill(victim)


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
    "client|unblock": _unblock,
    "client|pause": _pause,
    "client|unpause": _unpause,
    "client|capa": _capa,
}
_TIMED: Mapping[str, Callable[[Session, Sequence[bytes], float], bytes]] = {
    "client|info": _info,
    "client|list": _list,
    "client|kill": _kill,
}
