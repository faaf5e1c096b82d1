"""AUTH and HELLO. Pure: no I/O, no clock.

Sources: https://redis.io/docs/latest/commands/hello/, https://redis.io/docs/latest/commands/auth/, and the replies of
Redis 7.
"""

from collections.abc import Sequence
from functools import cache

from proxy import errors
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.session.acl_check import Permissions
from proxy.session.acl_text import name_text
from proxy.session.session import DEFAULT_USER, Session, printable

_DEFAULT_USER = DEFAULT_USER.encode()
_PROTOCOLS = {b"2": 2, b"3": 3}
_HELLO_NOAUTH = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)


def auth(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to AUTH."""
    if len(args) > 3:
        return encode.error(errors.SYNTAX)
    if len(args) == 2 and session.world.users.default_nopass and session.listener.admits(DEFAULT_USER):
        return encode.error(errors.NO_PASSWORD_SET)
    user = args[1] if len(args) == 3 else _DEFAULT_USER
    refusal = session.log_in(user, args[-1], args[0])
    return encode.error(refusal) if refusal else encode.OK


def hello(session: Session, args: Sequence[bytes]) -> bytes:
    """Reply to HELLO."""
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
    if credentials is not None and (refusal := session.log_in(*credentials, args[0])):
        return encode.error(refusal)
    if not session.authenticated:
        return encode.error(session.full or _HELLO_NOAUTH)
    if name:
        session.rename(args[name])
    session.protocol = protocol
    world = session.world
    before, behind = _greeting(
        protocol, world.server_version, session.listener.presented is not None, world.modules[protocol]
    )
    return b"%b%d%b" % (before, session.id, behind)


def foresee(session: Session, name: str, args: Sequence[bytes]) -> tuple[int, Permissions | None]:
    """Return what AUTH or HELLO (``name``) would do now, and do nothing: the protocol of the client behind it, and the
    permissions of the user as which the client would log in; None if it would not."""
    if name == "auth":
        if len(args) > 3 or (
            len(args) == 2 and session.world.users.default_nopass and session.listener.admits(DEFAULT_USER)
        ):
            return session.protocol, None
        return session.protocol, _acceptable(session, args[1] if len(args) == 3 else _DEFAULT_USER, args[-1])
    asked = _PROTOCOLS.get(args[1]) if len(args) > 1 else session.protocol
    named, user, wrong = _hello_options(args)
    if asked is None or wrong or (named and not printable(args[named])):
        return session.protocol, None
    if not user:
        return asked, None
    known = _acceptable(session, args[user], args[user + 1])
    return (session.protocol if known is None else asked), known


def _acceptable(session: Session, user: bytes, password: bytes) -> Permissions | None:
    """Return the permissions of a user as which the client could log in with the password; None if it could not."""
    name = name_text(user)
    world = session.world
    if world.delays.due(session, name) > 0 or world.users.authenticate(name, password) is not True:
        return None
    if not session.listener.admits(name) or world.full(session.id, name):
        return None
    return world.users.get(name)


def _hello_options(args: Sequence[bytes]) -> tuple[int, int, int]:
    """Return the positions of the last name, the last user and the first invalid option; 0 for those not given."""
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
    """Return HELLO's reply, before and behind the client's id."""
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
