"""A server's reply is one reply: an error line with a line break inside does not become two, on any connection.

Real servers remove line breaks nearly everywhere (``test_frames`` has where not); here one speaks that does not.
"""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from proxy.backends.handshake import Credentials
from proxy.backends.query import Line, TooManyReplies, ask
from proxy.sharding.topology import Node
from tests.live.speaker import Answer, Speaker
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Argument, Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

ERROR = b"-ERR one\r\n"
SPLIT = ERROR + b"+INJECTED\r\n"
VALUE = b"$5\r\nvalue\r\n"
UNFIT = b"-ERR the shards' answers do not fit together\r\n"


@pytest.fixture(scope="module")
def standing() -> Iterator[Speaker]:
    """The server of all tests."""
    with Speaker() as speaking:
        yield speaking


@pytest.fixture(scope="module")
def proxy(standing: Speaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before it."""
    with ProxyProcess(tmp_path_factory.mktemp("one"), "--static", standing.address).serving() as started:
        yield started


@pytest.fixture
def speaker(standing: Speaker) -> Iterator[Speaker]:
    """The server, which is honest at first, and afterwards."""
    yield standing
    standing.answer = lambda args: None


def splits(*names: bytes) -> Answer:
    """Answers these commands by an error that comes in two."""
    return lambda args: SPLIT if args[0].upper() in names else None


@pytest.mark.parametrize("protocol", [2, 3])
class TestAClient:
    """It hears one reply to the odd request, and its own to the next; so does everybody else."""

    @pytest.mark.parametrize(
        ("names", "requests"),
        [
            ((b"SET",), [("SET", "k", "v")]),
            ((b"BLPOP",), [("BLPOP", "k", "1")]),
            ((b"WATCH",), [("WATCH", "k")]),
            ((b"EVAL",), [("EVAL", '#!lua "x"\nreturn 1', "1", "k")]),
            ((b"EVAL",), [("EVAL", '#!lua "x"\nreturn 1', "0")]),
            ((b"SCRIPT",), [("SCRIPT", "LOAD", '#!lua "x"\nreturn 1')]),
            ((b"FUNCTION",), [("FUNCTION", "LOAD", "#!lua name=x\nreturn 1")]),
            ((b"FUNCTION",), [("FUNCTION", "RESTORE", "x")]),
            ((b"FUNCTION",), [("FUNCTION", "LIST", "x\r\n")]),
            ((b"FUNCTION",), [("FUNCTION", "KILL")]),
        ],
        ids=[
            "shared",
            "blocking",
            "watch",
            "script",
            "script without keys",
            "script load",
            "function load",
            "function restore",
            "function list",
            "function kill",
        ],
    )
    def test_an_error_in_two(
        self,
        speaker: Speaker,
        proxy: ProxyProcess,
        protocol: int,
        names: Sequence[bytes],
        requests: list[tuple[Argument, ...]],
    ) -> None:
        speaker.answer = splits(*names)
        with Wire(proxy.address, protocol=protocol) as client, Wire(proxy.address) as other:
            for request in requests * 3:
                assert client.ask(*request) == ERROR
                client.send(pipeline(("GET", "a"), ("ECHO", "x"), ("GET", "b")))
                assert client.replies(3) == [VALUE, b"$1\r\nx\r\n", VALUE]
                assert other.ask("GET", "c") == VALUE

    def test_neighbours_of_what_is_not_shared(self, speaker: Speaker, proxy: ProxyProcess, protocol: int) -> None:
        """In flight together: nobody's reply is another's, and nobody's write becomes uncertain."""
        speaker.answer = splits(b"EVAL")
        odd = ("EVAL", '#!lua "x"\nreturn 1', "1", "k")
        with Wire(proxy.address, protocol=protocol) as attacker, Wire(proxy.address) as innocent:
            for _ in range(20):
                attacker.send(pipeline(("GET", "a"), odd, ("GET", "a"), odd))
                innocent.send(pipeline(*[("GET", "b"), ("SET", "b", "1")] * 20))
                assert innocent.replies(40) == [VALUE, b"+OK\r\n"] * 20
                assert attacker.replies(4) == [VALUE, ERROR] * 2

    def test_exec(self, speaker: Speaker, proxy: ProxyProcess, protocol: int) -> None:
        """An element in two garbles the whole array: what it says is not passed on as if it were whole."""

        def answer(args: Sequence[bytes]) -> bytes | None:
            if args[0] == b"EXEC":
                return b"*2\r\n" + SPLIT + b":2\r\n"
            return b"+QUEUED\r\n" if args[0] in (b"EVAL", b"INCR") else None

        speaker.answer = answer
        with Wire(proxy.address, protocol=protocol) as client:
            block = [("MULTI",), ("EVAL", '#!lua "x"\nreturn 1', "1", "k"), ("INCR", "k"), ("EXEC",), ("GET", "a")]
            client.send(pipeline(*block))
            *queued, executed, value = client.replies(5)
            assert queued == [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n"]
            assert executed.startswith(b"-UNCERTAIN ")
            assert value == VALUE

    def test_a_transaction_that_watches(self, speaker: Speaker, proxy: ProxyProcess, protocol: int) -> None:
        speaker.answer = lambda args: SPLIT if args[0] == b"EXEC" else b"+QUEUED\r\n" if args[0] == b"SET" else None
        with Wire(proxy.address, protocol=protocol) as client:
            for _ in range(3):
                client.send(pipeline(("WATCH", "k"), ("MULTI",), ("SET", "k", "1"), ("EXEC",), ("GET", "a")))
                assert client.replies(5)[3:] == [ERROR, VALUE]


@pytest.mark.parametrize(
    "said", [b"+OK\r\n", b"*1\r\n:1\r\n", b"*0\r\n", b"$1\r\n1\r\n", b":x\r\n", b"_\r\n", b"%1\r\n+a\r\n:1\r\n"]
)
def test_what_is_no_number_of_replicas(speaker: Speaker, proxy: ProxyProcess, said: bytes) -> None:
    """WAIT is answered, by an error, and so is what comes behind it."""
    speaker.answer = lambda args: said if args[0].startswith(b"WAIT") else None
    with Wire(proxy.address) as client:
        client.send(pipeline(("WAIT", 1, 10), ("GET", "a"), ("WAITAOF", 0, 1, 10), ("GET", "b")))
        assert client.replies(4) == [UNFIT, VALUE, UNFIT, VALUE]
    assert "Traceback" not in proxy.log


def test_a_tracking_client(speaker: Speaker, proxy: ProxyProcess) -> None:
    """Over its own connections; what is pushed beside is no reply."""
    with Wire(proxy.address, protocol=3) as client:
        assert client.ask("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
        speaker.answer = splits(b"SET")

        def reply() -> bytes:
            while (found := client.reply())[:1] == b">":
                pass
            return found

        for _ in range(3):
            client.send(pack("SET", "k", "v"))
            assert reply() == ERROR
            client.send(pipeline(("GET", "a"), ("ECHO", "x")))
            assert [reply(), reply()] == [VALUE, b"$1\r\nx\r\n"]


def test_a_subscriber(speaker: Speaker, proxy: ProxyProcess) -> None:
    """The link is closed; what was injected is no message to anybody, and the next subscription is a clean one."""
    speaker.answer = lambda args: (
        SPLIT + b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\nevil\r\n" if args[0] == b"subscribe" else None
    )
    with Wire(proxy.address) as client:
        assert client.ask("SUBSCRIBE", "c") == ERROR
        assert client.silent()
        assert client.ask("GET", "a") == VALUE

        def answer(args: Sequence[bytes]) -> bytes | None:
            if args[0] != b"subscribe":
                return None
            confirmed = b"".join(
                b">3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(name), name) for name in args[1:]
            )
            return confirmed + b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\ngood\r\n"

        speaker.answer = answer
        client.send(pack("SUBSCRIBE", "c"))
        assert decode(client.reply()) == [b"subscribe", b"c", 1]
        assert decode(client.reply()) == [b"message", b"c", b"good"]


class TestTheProxysOwnQuestions:
    def test_at_once(self, speaker: Speaker) -> None:
        host, _, port = speaker.address.rpartition(":")
        speaker.answer = splits(b"CONFIG")

        async def run() -> None:
            with pytest.raises(TooManyReplies):
                await ask(Node(host, int(port)), Credentials(), (("PING",), ("CONFIG", "GET", "x")), 5)

        asyncio.run(run())

    def test_over_a_connection_that_is_kept(self, speaker: Speaker) -> None:
        """What comes late is not taken for the answer to the next question; the next connection is a clean one."""
        host, _, port = speaker.address.rpartition(":")

        async def run() -> None:
            line = Line(Node(host, int(port)), Credentials())
            assert await line.connect((("PING",),)) == [b"PONG"]
            speaker.answer = splits(b"ROLE")
            with pytest.raises(TooManyReplies):
                await line.ask((("ROLE",),))
            assert not line.connected
            speaker.answer = lambda args: None
            assert await line.connect((("PING",),)) == [b"PONG"]
            speaker.say(b"+LATE\r\n")
            await asyncio.sleep(0.2)
            with pytest.raises(TooManyReplies):
                await line.ask((("GET", "a"),))
            assert not line.connected
            assert await line.connect((("PING",),)) == [b"PONG"]
            assert await line.ask((("GET", "a"),)) == [b"value"]
            line.close()

        asyncio.run(run())

    def test_a_proxy_that_learns_from_such_a_server(self, speaker: Speaker, serve: Serve) -> None:
        """It serves all the same, and says nothing of one question as if it were of another."""
        speaker.answer = lambda args: SPLIT if args[0] == b"COMMAND" else None
        proxy = serve("--static", speaker.address)
        with Wire(proxy.address) as client:
            assert client.ask("GET", "a") == VALUE
        assert eventually(lambda: "more replies than it was asked for" in proxy.log)
