"""A client's line has the values that Redis's formulas give, in the servers' own fields and order."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from proxy.session.client_line import FIELDS, line
from proxy.session.session import Load, Session
from proxy.session.tracking_options import Tracking
from tests.support.sessions import Room

KNOWN = (*FIELDS, "capa", "tot-net-out", "tot-cmds")
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=12)
SIZES = st.integers(0, 2**20) | st.integers(0, 2**40) | st.sampled_from((0, 1, 1023, 1024, 1025, 16383, 16384, 16385))
COUNTS = st.integers(0, 5)
LOADS = st.builds(Load, SIZES, SIZES, SIZES, SIZES, SIZES, SIZES, SIZES)
TRACKINGS = st.builds(Tracking, bcast=st.booleans(), redirect=st.integers(0, 99), broken=st.booleans())
ARGUMENTS = st.lists(st.binary(max_size=120), max_size=12)


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    room = Room()
    session = room.enter(draw(st.floats(0, 1e6)))
    session.last_active = session.created + draw(st.floats(0, 1e6))
    session.id = draw(st.integers(1, 2**62))
    room.loads[session.id] = draw(LOADS)
    session.address, session.local_address, session.name = draw(WORDS), draw(WORDS), draw(WORDS)
    session.lib_name, session.lib_ver, session.user = draw(WORDS), draw(WORDS), draw(WORDS)
    session.last_command = draw(st.sampled_from(("NULL", "get", "client|info")))
    session.db, session.protocol = draw(st.integers(0, 2**31 - 1)), draw(st.sampled_from((2, 3)))
    session.queued, session.watched = draw(st.integers(-1, 5)), draw(COUNTS)
    session.listening = draw(st.tuples(COUNTS, COUNTS, COUNTS))
    session.blocked, session.no_evict = draw(st.booleans()), draw(st.booleans())
    session.tracking = draw(st.none() | TRACKINGS)
    return session


def said(session: Session, now: float, asking: Sequence[bytes]) -> dict[str, object]:
    """The values by name."""
    load = session.world.directory.load(session)
    tracking = session.tracking
    tracks = "" if tracking is None else "t" + "R" * tracking.broken + "B" * tracking.bcast
    flags = "P" * any(session.listening) + "x" * (session.queued >= 0) + "b" * session.blocked + tracks
    arguments = sum(map(len, asking))
    request = b"*%d\r\n" % len(asking) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in asking)
    query = load.kept + (len(request) if asking else 0)
    free = max(16384 - query, 0) if query else 0
    waiting = load.unread + load.parked
    buffer = min(max(1024, 1 << max(waiting - 1, 0).bit_length()), 16384)
    first = min(waiting, buffer)
    rest = waiting - first
    return {
        "id": session.id,
        "addr": session.address,
        "laddr": session.local_address,
        "fd": -1,
        "name": session.name,
        "age": int(now - session.created),
        "idle": 0 if asking else int(now - session.last_active),
        "flags": flags + "e" * session.no_evict or "N",
        "db": session.db,
        "sub": session.listening[0],
        "psub": session.listening[1],
        "ssub": session.listening[2],
        "multi": session.queued,
        "watch": session.watched,
        "qbuf": query,
        "qbuf-free": free,
        "argv-mem": arguments,
        "multi-mem": load.queued,
        "rbs": buffer,
        "rbp": first,
        "obl": first,
        "oll": -(-rest // 16384),
        "omem": rest,
        "tot-mem": 2048 + query + free + arguments + 16 * len(asking) + load.queued + buffer + rest,
        "events": "r",
        "cmd": session.last_command,
        "user": session.user,
        "redir": -1 if tracking is None else tracking.redirect,
        "resp": session.protocol,
        "lib-name": session.lib_name,
        "lib-ver": session.lib_ver,
        "capa": "",
        "tot-net-out": load.written,
        "tot-cmds": load.commands,
    }


@given(sessions(), st.floats(0, 1e6), ARGUMENTS, st.lists(st.sampled_from(KNOWN) | WORDS))
def test_every_field(session: Session, later: float, asking: list[bytes], fields: list[str]) -> None:
    """Those of a server, whatever it calls them; where none has said which it has, Redis's own."""
    now = session.created + later
    values = said(session, now, asking)
    for names in (FIELDS, KNOWN, tuple(fields)):
        session.world.client_fields = names
        expected = " ".join(f"{name}={values.get(name, 0)}" for name in names or FIELDS)
        assert line(session, now, asking) == expected


def test_a_name_is_no_format() -> None:
    session = Room().enter()
    session.world.client_fields = ("%(id)s", "{id}", "%", "id", "id")
    assert line(session, 0.0) == "%(id)s=0 {id}=0 %=0 id=1 id=1"
