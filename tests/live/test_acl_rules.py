"""Rules of users against real servers: random lists of rules, what is said of them, and what they allow.

A server lists single commands in the order of its hash table, which differs from process to process: words are compared
in alphabetical order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.commands.categories import CATEGORIES, CommandSet, categories_of_redis_7_0
from proxy.commands.facts import Fact
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import CommandTable
from proxy.devservers.servers import LocalServer, ServerBinary
from proxy.session.acl_check import Permissions
from proxy.session.acl_rules import AclUser, change
from proxy.session.acl_text import REDIS_7_0, REDIS_7_2, Dialect
from proxy.session.acl_users import Users
from tests.support.wire import Wire

pytestmark = pytest.mark.live

TABLE = CommandTable.builtin()
FACTS = {fact.name: fact for fact in chain.from_iterable((top, *top.subcommands.values()) for top in TABLE)}
WORDS = [
    *("a1", "a2", "b1", "b2", "c1", "c2", "1", "2", "3", "0", "store", "get", "by", "limit", "streams", "keys"),
    *("group", "#", "nosuch*", "*", "copy", "count", "block", "storedist", "ch1", "ch2", "a*", "set", "u8", "incrby"),
]
COMMON = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass(frozen=True)
class AclServer:
    """A real server, and this side's view of users as such a server has it."""

    wire: Wire
    users: Users
    names: list[str] = field(repr=False)

    @property
    def valkey(self) -> bool:
        """Whether users have databases there too, and nothing is said of "sanitize-payload"."""
        return self.users.describing.dialect.keeps_rules

    def ask(self, *args: str) -> Any:
        """A server's reply, decoded; an error as its text."""
        return decoded(self.wire.ask(*args))

    def without_more(self, found: Any) -> Any:
        """A reply with its words in alphabetical order, and without what only Valkey 9 or only Redis says."""
        if isinstance(found, list):
            kept = [item for item in found if not (self.valkey and item == b"sanitize-payload")]
            if self.valkey and b"databases" in kept:
                at = kept.index(b"databases")
                del kept[at : at + 2]
            return [self.without_more(item) for item in kept]
        if isinstance(found, bytes):
            words = found.replace(b"(", b"( ").replace(b")", b" )").split(b" ")
            return sorted(word for word in words if not (self.valkey and word == b"sanitize-payload"))
        return found


def decoded(frame: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(frame)
    found = reader.gets()
    return str(found) if isinstance(found, hiredis.ReplyError) else found


@pytest.fixture(scope="module")
def acl_server(binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AclServer]:
    """A plain server of each kind."""
    dialect: Dialect = REDIS_7_2 if binary.kind == "valkey" else REDIS_7_0
    older = None if dialect.keeps_rules else categories_of_redis_7_0()
    names = [name for name in (FACTS if older is None else older) if not name.startswith("slotgate")]
    server = LocalServer(binary, tmp_path_factory.mktemp("acl"))
    server.start()
    try:
        with Wire(server.address) as wire:
            yield AclServer(wire, Users(CommandSet(TABLE, older), (), dialect), names)
    finally:
        server.stop()


def rules(names: list[str], nested: bool = True) -> st.SearchStrategy[str]:
    sign = st.sampled_from(["+", "-"])
    single = st.one_of(
        st.builds("{}@{}".format, sign, st.sampled_from([*CATEGORIES, "all", "ALL", "Read", "nope", ""])),
        st.builds("{}@{}".format, sign, st.sampled_from(CATEGORIES)),
        st.builds("{}{}".format, sign, st.sampled_from(names)),
        st.sampled_from(["+select|0", "+select|1", "-select|0", "+config|get", "-config|get", "+get|a", "+debug|x"]),
        st.sampled_from(["+nosuch", "+nosuch|x", "+config|nosuch", "+config|get|x", "+select|", "+|get", "+", "+GET"]),
        st.sampled_from(["~a*", "%R~b*", "%W~b*", "%rW~c", "%RR~c", "%", "%R", "~", "~a b", "%~x", "%R~*"]),
        st.sampled_from(["~*", "allkeys", "resetkeys", "&*", "allchannels", "resetchannels", "&a*", "&", "&b c"]),
        st.sampled_from(["on", "OFF", "nopass", "resetpass", ">a", ">b", "<a", "<b", ">", "#" + "a" * 64, "#abc"]),
        st.sampled_from(
            ["!" + "a" * 64, "reset", "clearselectors", "allcommands", "nocommands", "bad", "", "()", "@x"]
        ),
    )
    if not nested:
        return single
    inside = st.lists(rules(names, nested=False), max_size=4).map(" ".join)
    return st.one_of(
        single, single, single, inside.map("({})".format), st.sampled_from(['(+get "~a b")', '(+get "~a)'])
    )


@COMMON
@given(data=st.data())
def test_random_rules(acl_server: AclServer, data: st.DataObject) -> None:
    """SETUSER's answer, and what LIST and GETUSER say then, in both protocols."""
    said = data.draw(st.lists(rules(acl_server.names), min_size=1, max_size=8))
    users = acl_server.users
    acl_server.ask("ACL", "DELUSER", "t")
    users.remove(["t"])
    answer = acl_server.ask("ACL", "SETUSER", "t", *said)
    found = users.changed(b"t", [rule.encode() for rule in said])
    assert answer == (found if isinstance(found, str) else b"OK")
    if isinstance(found, str):
        return
    (listed,) = (line for line in acl_server.ask("ACL", "LIST") if line.startswith(b"user t "))
    assert acl_server.without_more(users.describing.line(found)) == acl_server.without_more(listed)
    asked = acl_server.ask("ACL", "GETUSER", "t")
    assert acl_server.without_more(decoded(users.describing.getuser(found, 2))) == acl_server.without_more(asked)
    back = change(AclUser("t"), users.describing.user(found).split(b" "), users.commands)
    assert users.describing.user(back) == users.describing.user(found), "what is described can be said again"


PERMITTED = [
    *("~a*", "%R~b*", "%W~c*", "%W~b2", "&ch1", "&a*", "~*", "&*", "allkeys", "resetkeys"),
    *("+@all", "-@all", "+@read", "+@write", "+get", "+config|get", "+select|0", "-@dangerous"),
    *("(~c* +@all)", "(%R~* +sort)", "(+@all ~b* &*)"),
]


def well_formed(fact: Fact, args: list[bytes]) -> bool:
    """Whether the keys can be found; where they can not, the planner refuses the command."""
    try:
        found = key_indexes(fact, args)
    except KeysError:
        return False
    return bool(found) or not fact.keyed


@COMMON
@given(data=st.data())
def test_random_commands(acl_server: AclServer, data: st.DataObject) -> None:
    """What DRYRUN answers."""
    users = acl_server.users
    said = data.draw(st.lists(st.sampled_from(PERMITTED), min_size=1, max_size=6))
    acl_server.ask("ACL", "DELUSER", "t")
    users.remove(["t"])
    user = users.changed(b"t", [rule.encode() for rule in said])
    if isinstance(user, str):
        return
    acl_server.ask("ACL", "SETUSER", "t", *said)
    permissions = Permissions(user, users.commands)
    for _ in range(15):
        name = data.draw(st.sampled_from(acl_server.names))
        fact = FACTS[name]
        if fact.subcommands or name == "migrate":
            continue
        more = data.draw(st.integers(0, 6)) if fact.arity < 0 else 0
        words = name.split("|")
        missing = abs(fact.arity) + more - len(words)
        words += data.draw(st.lists(st.sampled_from(WORDS), min_size=missing, max_size=missing))
        compare(acl_server, permissions, fact, words)


def compare(acl_server: AclServer, permissions: Permissions, fact: Fact, words: list[str]) -> None:
    args = [word.encode() for word in words]
    answer = acl_server.ask("ACL", "DRYRUN", permissions.user.name, *words)
    if not well_formed(fact, args) or (isinstance(answer, str) and "wrong number of arguments" in answer):
        return
    denial = permissions.check(fact, args)
    describing = acl_server.users.describing
    expected = b"OK" if denial is None else decoded(describing.dry_run(permissions.user, denial, fact, args))
    assert expected == answer, words


def test_keys_that_depend_on_arguments(acl_server: AclServer) -> None:
    users = acl_server.users
    said = ["on", "+@all", "%R~r*", "%W~w*", "&ch*"]
    acl_server.ask("ACL", "SETUSER", "some", *said)
    user = users.changed(b"some", [rule.encode() for rule in said])
    assert isinstance(user, AclUser)
    permissions = Permissions(user, users.commands)
    for line in (
        "sort w1 store r1",
        "sort r1 store w1",
        "sort r1 by x* get # limit 0 1 store w1",
        "georadius r1 1 1 1 m store w1",
        "georadius w1 1 1 1 m",
        "xreadgroup GROUP streams c STREAMS r1 >",
        "xread count 1 block 0 streams r1 w1 0 0",
        "eval x 2 r1 w1",
        "eval x 0",
        "evalsha x 1 zz a",
        "fcall f 1 r1",
        "object encoding r1",
        "exists w1",
        "exists z",
        "bitfield r1 get u8 0",
        "bitfield w1 set u8 0 1",
        "set w1 1 get",
        "set w1 1 ex 5",
        "zunionstore w1 2 r1 r2",
        "zunionstore x 0 r1",
        "zunionstore w1 0 x",
        "zinterstore x 0 x",
        "zdiffstore x 0 x",
        "zdiff 0 x",
        "copy r1 w1",
        "copy w1 r1",
        "lmove r1 w1 left left",
        "getex r1",
        "xgroup create w1 a 0",
        "subscribe ch1 x",
        "psubscribe ch*",
        "psubscribe ch1*",
        "publish ch1 m",
        "spublish x m",
        "unsubscribe x",
        "mset w1 1 w2 2",
        "lmpop 2 w1 r1 left",
    ):
        words = line.split()
        args = [word.encode() for word in words]
        fact = TABLE.resolve(args)
        assert fact is not None
        compare(acl_server, permissions, fact, words)
