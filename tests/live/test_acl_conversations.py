"""Random rules and random conversations: a proxy and a plain server answer the same, and note the same denials.

What is only decided while a client is in some state, or by the rules of the moment, is not seen by DRYRUN: transactions
whose user changes, or whose rules do; subscribers; options that are looked at when a command is executed; inline
requests; logins and RESET.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.devservers.servers import LocalServer, find_server
from proxy.resp import encode
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, decode

pytestmark = pytest.mark.live

ADMIN = '[[users]]\nname = "default"\nnopass = true\nadmin = true\n[limits]\nauth_delay_max = "0s"\n'
OK = b"+OK\r\n"
KEYS = ["a", "a1", "a2", "b", "b1", "c", "c1", "{a}1", "", "a*"]
CHANNELS = ["ch", "ch1", "x", "ch*"]
RULES = [
    *("~a*", "~a", "~?1", "~[ab]*", "~\\a*", "%R~b*", "%W~c*", "%R~*", "%W~*", "%RW~*", "~*", "resetkeys", "~{a}*"),
    *("&ch*", "&ch1", "&*", "resetchannels", "+@all", "+@all", "-@all", "+@read", "+@write", "-@write", "-@dangerous"),
    *("+@pubsub", "+@transaction", "+@connection", "-@connection", "+@scripting", "+@slow", "-@fast", "+@keyspace"),
    *("+get", "-set", "-multi", "-exec", "+select|0", "-select", "+sort", "-sort", "-watch", "-discard", "-subscribe"),
    *("+object|encoding", "-object|encoding", "-hello", "-auth", "-reset", "+get|a", "-client|setname", "-echo"),
    *("(~c* +@all)", "(%R~* +sort)", "(+@all ~b* &*)", "(%R~* +@read)", "(%W~* +@write)", "()", "(~a) +@all)"),
]
LINES = [
    *(
        "get K",
        "set K 1",
        "set K 1 get",
        "set K get",
        "set K 1 ex get",
        "mget K K",
        "mset K 1 K 2",
        "del K K",
        "exists K",
    ),
    *("getex K", "getdel K", "append K 1", "strlen K", "type K", "expire K 1000", "rename K K", "copy K K", "lcs K K"),
    *("object encoding K", "object help", "memory usage K", "restore K 0 x", "sort K", "sort K by x", "sort K by a*"),
    *("sort K get #", "sort K store K", "sort K store K store K", "sort K by", "sort_ro K get b*", "sort_ro K store K"),
    *(
        "lpush K 1",
        "lmove K K left right",
        "lmpop 2 K K left",
        "lmpop 5 K left",
        "blpop K 0.01",
        "blmpop 0.01 1 K left",
    ),
    *(
        "sinter K K",
        "sintercard 2 K K",
        "sintercard x K",
        "sintercard -1 K",
        "sunionstore K K K",
        "zunionstore K 2 K K",
    ),
    *("zrangestore K K 0 -1", "zdiffstore K 3 K", "pfcount K K", "bitop and K K", "bitfield K get u8 0", "bitfield K"),
    *("bitfield K set u8 0 1", "bitfield_ro K get u8 0", "georadius K 1 1 1 m store K", "geosearchstore K K", "xlen K"),
    *("georadius K 1 1 1 m storedist K store K", "xread streams K 0", "xread count 1 streams K K 0 0", "xinfo help"),
    *("xreadgroup group g c streams K >", "xreadgroup group streams c streams K >", "xgroup create K g 0"),
    *(
        "eval return+1 1 K",
        "eval return+1 0",
        "eval return+1 2 K K",
        "eval return+1 3 K",
        "eval return+1 x",
        "fcall f 1 K",
    ),
    *(
        "evalsha f 1 K",
        "script exists f",
        "publish C m",
        "spublish C m",
        "subscribe C",
        "subscribe C C",
        "psubscribe C",
    ),
    *("ssubscribe C", "unsubscribe", "punsubscribe", "sunsubscribe", "unsubscribe C", "ping", "ping x", "echo x"),
    *(
        "multi",
        "multi",
        "exec",
        "exec",
        "exec",
        "discard",
        "watch K",
        "unwatch",
        "select 0",
        "select 1",
        "select",
        "reset",
    ),
    *("client setname n", "client getname", "client help", "client nosuch", "client", "acl whoami", "acl nosuch"),
    *(
        "auth t p",
        "auth t wrong",
        "auth nobody p",
        "auth",
        "auth a b c",
        "hello 9",
        "hello 2 auth t p",
        "nosuch K",
        "get",
    ),
    *("get K K", "move K 1", "dbsize", "command getkeys get K", "command getkeys sort K store K", "object nosuch K"),
]


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    names = {"K": KEYS, "C": CHANNELS}
    words = draw(st.sampled_from(LINES)).split(" ")
    made = [draw(st.sampled_from(names[word])) if word in names else word.replace("+", " ") for word in words]
    return [made[0].upper() if draw(st.booleans()) else made[0], *made[1:]]


STEP = st.one_of(
    *[commands().map(lambda words: ("ask", words))] * 8,
    commands().map(lambda words: ("type", words)),
    st.lists(st.sampled_from(RULES), min_size=1, max_size=2).map(lambda rules: ("rules", rules)),
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of a plain server, and of a proxy in front of another one."""
    with ExitStack() as stack:
        servers = [LocalServer(find_server(), tmp_path_factory.mktemp(name)) for name in ("plain", "behind")]
        for server in servers:
            server.start()
            stack.callback(server.stop)
        folder = tmp_path_factory.mktemp("proxy")
        proxy = ProxyProcess(folder, "--static", servers[1].address, config=ADMIN)
        proxy.start()
        stack.callback(proxy.stop)
        yield servers[0].address, proxy.address


def denials(client: Wire) -> list[object]:
    """What ACL LOG says without times, clients and ids."""
    found = decode(client.ask("ACL", "LOG", 50))
    assert isinstance(found, list)
    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in found]
    return [[entry[name] for name in (b"count", b"reason", b"context", b"object", b"username")] for entry in entries]


def all_replies(client: Wire) -> list[bytes]:
    """A server's replies to a request, of which there is at least one."""
    found = client.replies(1)
    while not client.silent(0.002):
        found.append(client.reply())
    return found


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=7),
    protocol=st.sampled_from([2, 3]),
    steps=st.lists(STEP, min_size=1, max_size=20),
)
def test_random_conversations(
    both: tuple[str, str], rules: list[str], protocol: int, steps: list[tuple[str, list[str]]]
) -> None:
    with ExitStack() as stack:
        admins = [stack.enter_context(Wire(address)) for address in both]

        def admin(*args: str) -> bytes:
            first, second = (each.ask(*args) for each in admins)
            assert first == second, args
            return first

        for line in ("FLUSHALL", "SET a 1", "SET b1 2", "RPUSH a1 1 2", "SADD c 1", "XADD c1 1-1 f v"):
            admin(*line.split())
        admin("ACL", "DELUSER", "t")
        if admin("ACL", "SETUSER", "t", "on", ">p", *rules) != OK:
            return
        admin("ACL", "LOG", "RESET")
        clients = [stack.enter_context(Wire(address)) for address in both]
        for client in clients:
            assert not client.ask("HELLO", protocol, "AUTH", "t", "p").startswith(b"-")
        for kind, words in steps:
            if kind == "rules":
                admin("ACL", "SETUSER", "t", *words)
                continue
            typed = kind == "type" and all(word and not {*" {}"} & {*word} for word in words)
            for client in clients:
                client.send(" ".join(words).encode() + b"\r\n" if typed else encode.request(words))
            try:
                expected = all_replies(clients[0])
            except ConnectionError:
                with pytest.raises(ConnectionError):
                    clients[1].reply()
                break
            found = clients[1].replies(len(expected))
            if not (
                words[0].lower() == "hello" and expected[0][:1] == found[0][:1] != b"-"
            ):  # that has the client's id
                assert found == expected, words
        first, second = map(denials, admins)
        assert first == second
