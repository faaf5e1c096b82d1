"""TLS between a transport and a protocol, with a client in memory: every byte is passed on by the test."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from proxy.engine.receive_buffer import Room
from proxy.engine.receiver import Receiver
from proxy.transport.client_tls import ClientTls
from proxy.transport.handshakes import Handshakes, Shaking
from tests.support.certificates import Authority, Pair
from tests.support.new_keys import want_new_keys

KB = 1024


class Below:
    """The transport below: what it was told, and the bytes that it has sent or keeps."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.kept = bytearray()
        self.taking = True
        self.reading = True
        self.closed = False
        self.aborted = False
        self.high = 64 * KB
        self.slow = False
        self.protocol: ClientTls

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        if self.taking:
            self.sent += data
            return
        self.kept += data
        if len(self.kept) > self.high and not self.slow:
            self.slow = True
            self.protocol.pause_writing()

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.write(b"".join(pieces))

    def take(self) -> None:
        """Send what is kept, and take all that follows."""
        self.taking = True
        self.sent += self.kept
        self.kept.clear()
        if self.slow:
            self.slow = False
            self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = 64 * KB if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 1234) if name == "peername" else default


class Above(Receiver):
    """The protocol above: what it was told."""

    def __init__(self) -> None:
        self.transport: ClientTls
        self.got = bytearray()
        self.pieces = 0
        self.ended = False
        self.lost: list[Exception | None] = []
        self.slow: list[bool] = []
        self.names: Sequence[str] = ()
        self.on_data: Callable[[bytes], None] | None = None
        self.keeps_open = True

    def connection_made(self, transport: ClientTls) -> None:
        self.transport = transport

    def certified(self, names: Sequence[str]) -> None:
        self.names = names

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.pieces += 1
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self) -> bool:
        self.ended = True
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.slow.append(True)

    def resume_writing(self) -> None:
        self.slow.append(False)


class Later:
    """The loop: what is to be called soon."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def call_soon(self, call: Callable[[], object]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class AtOnce:
    """Handshakes without a thread."""

    def __init__(self) -> None:
        self.loop = Later()
        self.open: list[Shaking] = []
        self.full = False
        self.refuses = True
        self.held: list[Shaking] | None = None

    def begin(self, connection: Shaking) -> None:
        self.open.append(connection)

    def end(self, connection: Shaking) -> None:
        if connection in self.open:
            self.open.remove(connection)

    def wait_to_refuse(self, connection: Shaking) -> bool:
        return self.refuses

    def submit(self, connection: Shaking) -> bool:
        if self.full:
            return False
        if self.held is not None:
            self.held.append(connection)
            return True
        connection.stepped(*connection.step())
        return True


class Settings:
    """The TLS of a listener."""

    def __init__(self, context: ssl.SSLContext, asks: bool = False) -> None:
        self.context = context
        self.steps = AtOnce()
        self.handshakes = cast(Handshakes, self.steps)
        self.asks = asks
        self.complete = 0
        self.failures: list[Exception] = []

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self.context.wrap_bio(incoming, outgoing, server_side=True)

    def names_of(self, connection: ssl.SSLObject) -> Sequence[str] | None:
        return ["alice"] if self.asks else None

    def established(self, connection: ssl.SSLObject) -> None:
        self.complete += 1

    def failed(self, transport: asyncio.Transport, error: Exception) -> None:
        self.failures.append(error)


class Talk:
    """A client in memory, connected to a ``ClientTls``."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, asks: bool = False) -> None:
        self.settings = Settings(server, asks)
        self.below = Below()
        self.above = Above()
        self.tls = ClientTls(self.settings, lambda: self.above)
        self.below.protocol = self.tls
        self.tls.connection_made(cast(asyncio.BaseTransport, self.below))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.incoming, self.outgoing, server_hostname="redis.test")

    def exchange(self, piece: int = 1 << 20) -> None:
        """Pass bytes on in both directions, to the proxy in pieces, until there are none."""
        while True:
            data = self.outgoing.read()
            answer = bytes(self.below.sent)
            self.below.sent.clear()
            if not data and not answer:
                return
            for at in range(0, len(data), piece):
                if not self.below.closed:
                    self.tls.data_received(data[at : at + piece])
            if answer:
                self.incoming.write(answer)
                if not self.shaken:
                    self.shake()

    shaken = False

    def shake(self) -> None:
        try:
            self.client.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass

    def open(self, piece: int = 1 << 20) -> "Talk":
        self.shake()
        self.exchange(piece)
        assert self.shaken
        return self

    def say(self, data: bytes, piece: int = 1 << 20) -> None:
        """Have the client send ``data``."""
        self.client.write(data)
        self.exchange(piece)

    def hear(self) -> bytes:
        """All plaintext that the client has got; ends with b"" from a goodbye."""
        self.exchange()
        got = bytearray()
        while True:
            try:
                piece = self.client.read(1 << 20)
            except ssl.SSLWantReadError:
                return bytes(got)
            if not piece:
                return bytes(got)
            got += piece

    def said_goodbye(self) -> bool:
        """Whether the proxy has sent TLS's own end."""
        self.exchange()
        try:
            return self.client.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLWantReadError:
            return False


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Authority(tmp_path_factory.mktemp("tls")).sign("server")


@pytest.fixture(scope="module", params=["1.2", "1.3"])
def contexts(request: pytest.FixtureRequest, pair: Pair) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate, pair.key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2 if request.param == "1.2" else ssl.TLSVersion.TLSv1_3
    return server, client


@pytest.fixture
def talk(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Talk:
    return Talk(*contexts).open()


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
def test_handshake_and_data_in_pieces(contexts: Any, piece: int) -> None:
    talk = Talk(*contexts).open(piece)
    assert talk.settings.complete == 1
    assert not talk.settings.steps.open
    talk.say(b"PING\r\n" * 10, piece)
    assert talk.above.got == b"PING\r\n" * 10
    talk.tls.write(b"+PONG\r\n")
    assert talk.hear() == b"+PONG\r\n"


@pytest.mark.parametrize("piece", [1000, 16 * KB, 64 * KB, 256 * KB])
def test_large_data_both_ways(talk: Talk, piece: int) -> None:
    data = bytes(range(256)) * 3000
    talk.say(data, piece)
    assert talk.above.got == data
    talk.tls.writelines([b"", data[:10], data[10:300_000], data[300_000:]])
    got = talk.hear()
    while talk.settings.steps.loop.calls:
        talk.settings.steps.loop.turn()
        got += talk.hear()
    assert got == data


def test_small_pieces_share_a_record(talk: Talk) -> None:
    talk.hear()
    talk.below.sent.clear()
    talk.tls.writelines([b"+OK\r\n"] * 1000)
    assert len(talk.below.sent) < 5 * 1000 + 100
    assert talk.hear() == b"+OK\r\n" * 1000


def test_data_with_the_last_flight(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.shake()
    while not talk.shaken:
        data = talk.outgoing.read()
        talk.tls.data_received(data)
        talk.incoming.write(bytes(talk.below.sent))
        talk.below.sent.clear()
        talk.shake()
    talk.say(b"PING\r\n")
    assert talk.above.got == b"PING\r\n"


def test_data_while_the_thread_works(contexts: Any) -> None:
    talk = Talk(*contexts)
    steps = talk.settings.steps
    steps.held = []
    talk.shake()
    hello = talk.outgoing.read()
    talk.tls.data_received(hello[:3])
    talk.tls.data_received(hello[3:])
    assert len(steps.held) == 1
    talk.tls.stepped(*talk.tls.step())
    steps.held = None
    talk.exchange()
    assert talk.shaken
    talk.say(b"x")
    assert talk.above.got == b"x"


@pytest.mark.parametrize("contexts", ["1.3"], indirect=True)
@pytest.mark.parametrize("first", [100, 1 << 20])
@pytest.mark.parametrize("read", [10 * KB, 64 * KB, 256 * KB])
def test_much_data_right_behind_the_handshake(contexts: Any, first: int, read: int) -> None:
    """The socket is not read while more than a little waits for the thread, and nothing is lost."""
    talk = Talk(*contexts)
    steps = talk.settings.steps
    steps.held = []
    talk.shake()
    talk.tls.data_received(talk.outgoing.read())
    steps.held.clear()
    talk.tls.stepped(*talk.tls.step())
    talk.incoming.write(bytes(talk.below.sent))
    talk.shake()
    assert talk.shaken
    flight = talk.outgoing.read()
    data = bytes(range(256)) * 4 * KB
    talk.client.write(data)
    records = talk.outgoing.read()
    records = flight[first:] + records
    sent = [flight[:first], *(records[at : at + read] for at in range(0, len(records), read))]
    most = passed = 0
    while sent or steps.held:
        if sent and talk.below.reading:
            piece = sent.pop(0)
            talk.tls.data_received(piece)
            passed += len(piece) if steps.held else 0
        else:
            most, passed = max(most, passed), 0
            assert steps.held
            steps.held.clear()
            talk.tls.stepped(*talk.tls.step())
    assert most < 64 * KB + 2 * read
    assert not talk.settings.failures
    assert talk.settings.complete == 1
    assert talk.below.reading
    assert talk.above.got == data


def test_lost_while_the_thread_works(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.settings.steps.held = []
    talk.shake()
    talk.tls.data_received(talk.outgoing.read())
    talk.tls.connection_lost(None)
    assert talk.above.lost == [None]
    talk.tls.stepped(*talk.tls.step())
    assert not talk.below.sent
    assert not talk.settings.complete


def test_names_of_the_certificate_come_before_data(contexts: Any) -> None:
    server, client = contexts
    talk = Talk(server, client, asks=True)
    assert not talk.above.names
    talk.open()
    assert list(talk.above.names) == ["alice"]


@pytest.mark.parametrize(
    "said", [b"PING\r\n", b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x05" + b"x" * 50]
)
def test_no_tls_is_closed_without_a_word(contexts: Any, said: bytes) -> None:
    talk = Talk(*contexts)
    talk.tls.data_received(said)
    assert talk.below.closed
    assert not talk.below.sent
    assert len(talk.settings.failures) == 1
    assert not talk.settings.steps.open


def test_garbage_inside_the_handshake(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.tls.data_received(b"\x16\x03\x01\x00\x20" + b"\xff" * 32)
    assert talk.below.closed
    assert talk.below.sent.startswith(b"\x15\x03")  # an alert, as OpenSSL sends one
    assert len(talk.settings.failures) == 1


def test_handshake_without_end_is_bounded(contexts: Any) -> None:
    talk = Talk(*contexts)
    for _ in range(40):
        talk.tls.data_received(b"\x16\x03\x01\x40\x00"[:5] + b"\x00" * 10 if not _ else b"\x00" * 16)
    assert not talk.below.closed
    talk = Talk(*contexts)
    talk.settings.steps.held = []
    talk.tls.data_received(b"x" * 100)
    for _ in range(20):
        talk.tls.data_received(b"x" * 10 * KB)
    assert talk.below.closed
    assert "too much" in str(talk.settings.failures[0])


def test_handshake_of_many_records_is_bounded(contexts: Any) -> None:
    """A hello that OpenSSL would still wait for: each record is a step."""
    talk = Talk(*contexts)
    talk.tls.data_received(b"\x16\x03\x01\x00\x04\x01\x02\x01\x44")
    for at in range(1, 9):
        assert not talk.below.closed, at
        talk.tls.data_received(b"\x16\x03\x01\x3f\xff" + bytes(0x3FFF))
    assert talk.below.closed
    assert "too much" in str(talk.settings.failures[0])
    assert not talk.settings.steps.open


def test_too_many_wait(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.settings.steps.full = True
    talk.shake()
    talk.tls.data_received(talk.outgoing.read())
    assert talk.below.closed
    assert isinstance(talk.settings.failures[0], ConnectionAbortedError)


def test_timed_out(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.tls.timed_out(10.0)
    assert talk.below.closed
    assert isinstance(talk.settings.failures[0], TimeoutError)
    talk.tls.timed_out(10.0)
    assert len(talk.settings.failures) == 1


def test_eof_in_the_handshake(contexts: Any) -> None:
    talk = Talk(*contexts)
    assert talk.tls.eof_received() is False
    assert isinstance(talk.settings.failures[0], ssl.SSLEOFError)
    assert not talk.above.ended


def test_paused_reading_stops_the_socket_and_keeps_what_was_read(talk: Talk) -> None:
    records = [bytes([at]) * 10 * KB for at in range(20)]
    for record in records:
        talk.client.write(record)
    data = talk.outgoing.read()
    talk.above.on_data = lambda _: talk.tls.pause_reading()
    talk.tls.data_received(data)
    assert not talk.below.reading
    first = len(talk.above.got)
    assert first < 60 * KB
    talk.above.on_data = None
    talk.tls.resume_reading()
    assert len(talk.above.got) == first  # not before the next turn
    assert not talk.below.reading
    talk.settings.steps.loop.turn()
    assert talk.above.got == b"".join(records)
    assert talk.below.reading


def test_paused_and_resumed_within_a_call(talk: Talk) -> None:
    def again(_: bytes) -> None:
        talk.tls.pause_reading()
        talk.tls.resume_reading()

    talk.above.on_data = again
    data = b"x" * 200 * KB
    talk.say(data)
    for _ in range(50):
        talk.settings.steps.loop.turn()
    assert talk.above.got == data
    assert talk.below.reading


def test_paused_before_the_handshake_is_complete(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.tls.pause_reading()
    assert talk.below.reading  # the handshake goes on
    talk.open()
    talk.say(b"early")
    assert not talk.below.reading
    assert not talk.above.got
    talk.tls.resume_reading()
    talk.settings.steps.loop.turn()
    assert talk.above.got == b"early"


def test_protocol_with_its_own_buffer(talk: Talk) -> None:
    """A large request is read into its buffer; what follows goes to the protocol before."""

    class Lands(asyncio.BufferedProtocol):
        def __init__(self, size: int) -> None:
            self.room = bytearray(size)
            self.filled = 0

        def get_buffer(self, sizehint: int) -> memoryview:
            return memoryview(self.room)[self.filled :]

        def buffer_updated(self, nbytes: int) -> None:
            self.filled += nbytes
            if self.filled == len(self.room):
                talk.tls.set_protocol(talk.above)

    data = bytes(range(256)) * 1000
    lands = Lands(len(data))
    talk.tls.set_protocol(lands)
    talk.say(data + b"behind", 64 * KB)
    assert lands.room == data
    assert talk.above.got == b"behind"
    assert talk.tls.get_write_buffer_size() == 0


def test_a_large_request_of_the_engine(talk: Talk) -> None:
    """The engine's own buffer: compiled, it is no bytearray."""
    data = bytes(range(256)) * 1000
    room = Room(len(data), data[:10])

    class Lands(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return room.buffer()  # type: ignore[return-value]  # any writable buffer will do

        def buffer_updated(self, nbytes: int) -> None:
            room.filled(nbytes)
            if not room.left:
                talk.tls.set_protocol(talk.above)

    talk.tls.set_protocol(Lands())
    talk.say(data[10:] + b"behind", 64 * KB)
    assert room.take() == data
    assert talk.above.got == b"behind"


def test_slow_client_keeps_plaintext_and_tells_the_protocol(talk: Talk) -> None:
    talk.hear()
    talk.tls.set_write_buffer_limits(high=300 * KB)
    talk.below.taking = False
    talk.tls.write(b"a" * 200 * KB)
    assert not talk.above.slow
    talk.tls.write(b"b" * 200 * KB)
    assert talk.above.slow == [True]
    assert len(talk.below.kept) < 250 * KB  # the rest is not encrypted
    assert talk.tls.get_write_buffer_size() >= 400 * KB
    talk.below.take()
    for _ in range(10):
        talk.settings.steps.loop.turn()
    assert talk.above.slow == [True, False]
    assert talk.hear() == b"a" * 200 * KB + b"b" * 200 * KB


def test_a_large_reply_is_encrypted_over_several_turns(talk: Talk) -> None:
    talk.hear()
    talk.tls.write(b"x" * 5_000_000)
    assert len(talk.below.sent) < 1_500_000
    assert talk.settings.steps.loop.calls
    got = talk.hear()
    for _ in range(10):
        talk.settings.steps.loop.turn()
        got += talk.hear()
    assert len(got) == 5_000_000
    assert not talk.settings.steps.loop.calls


@pytest.mark.parametrize("contexts", ["1.3"], indirect=True)
def test_new_keys_are_answered_behind_data(talk: Talk) -> None:
    """Nothing stays in OpenSSL when the data itself has no reply."""
    talk.hear()
    for _ in range(50):
        talk.client.write(b"\r\n")
        want_new_keys(talk.client)
    talk.client.write(b"\r\n")
    talk.tls.data_received(talk.outgoing.read())
    assert talk.above.got == b"\r\n" * 51
    assert len(talk.below.sent) > 50 * 20
    talk.tls.write(b"+PONG\r\n")
    assert talk.hear() == b"+PONG\r\n"


@pytest.mark.parametrize("contexts", ["1.3"], indirect=True)
@pytest.mark.parametrize("lands", [False, True])
def test_answers_that_are_not_read_are_bounded(talk: Talk, lands: bool) -> None:
    class Lands(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray(100)

        def buffer_updated(self, nbytes: int) -> None:
            pass

    talk.hear()
    if lands:
        talk.tls.set_protocol(Lands())
    talk.below.taking = False
    for _ in range(2_000):
        for _ in range(10):
            want_new_keys(talk.client)
            talk.client.write(b"\r\n")
        talk.tls.data_received(talk.outgoing.read())
        if talk.below.closed:
            break
    assert talk.below.aborted
    assert len(talk.below.kept) < 300 * KB


def test_goodbye_of_the_client(talk: Talk) -> None:
    talk.client.write(b"PING\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        talk.client.unwrap()
    talk.exchange()
    assert talk.above.got == b"PING\r\n"
    assert talk.above.ended
    talk.tls.write(b"+PONG\r\n")
    assert bytes(talk.below.sent)
    assert talk.tls.eof_received() is True
    talk.tls.close()
    assert talk.below.closed


def test_goodbye_of_the_client_that_the_protocol_ends(talk: Talk) -> None:
    talk.above.keeps_open = False
    with pytest.raises(ssl.SSLWantReadError):
        talk.client.unwrap()
    talk.exchange()
    assert talk.below.closed


def test_end_without_a_goodbye(talk: Talk) -> None:
    assert talk.tls.eof_received() is True
    assert talk.above.ended


def test_end_behind_bytes_that_are_not_passed_on_yet(talk: Talk) -> None:
    talk.tls.pause_reading()
    talk.client.write(b"PING\r\n")
    talk.tls.data_received(talk.outgoing.read())
    assert talk.tls.eof_received() is True
    assert not talk.above.ended
    talk.tls.resume_reading()
    talk.settings.steps.loop.turn()
    assert talk.above.got == b"PING\r\n"
    assert talk.above.ended


@pytest.mark.parametrize("paused", [False, True])
def test_end_while_the_thread_works(contexts: Any, paused: bool) -> None:
    """A client may send its requests and the end together with the last part of its handshake."""
    talk = Talk(*contexts)
    steps = talk.settings.steps
    talk.shake()
    talk.tls.data_received(talk.outgoing.read())
    talk.incoming.write(bytes(talk.below.sent))
    talk.below.sent.clear()
    talk.shake()
    if talk.shaken:
        talk.client.write(b"PING\r\n")
    if paused:
        talk.tls.pause_reading()
    steps.held = []
    talk.tls.data_received(talk.outgoing.read())
    assert talk.tls.eof_received() is True
    assert not talk.above.ended
    talk.tls.stepped(*talk.tls.step())
    if paused:
        talk.tls.resume_reading()
        steps.loop.turn()
    assert talk.above.ended
    assert talk.above.got == (b"PING\r\n" if talk.shaken else b"")


def test_goodbye_of_the_proxy(talk: Talk) -> None:
    talk.tls.write(b"+OK\r\n")
    talk.tls.close()
    assert talk.below.closed
    assert talk.hear() == b"+OK\r\n"
    assert talk.said_goodbye()


def test_close_waits_for_what_is_kept(talk: Talk) -> None:
    talk.hear()
    talk.below.taking = False
    talk.tls.write(b"x" * 400 * KB)
    talk.tls.close()
    assert not talk.below.closed
    assert talk.tls.is_closing()
    talk.tls.write(b"not any more")
    talk.below.take()
    for _ in range(10):
        talk.settings.steps.loop.turn()
    assert talk.below.closed
    assert talk.hear() == b"x" * 400 * KB


def test_abort(talk: Talk) -> None:
    talk.below.taking = False
    talk.tls.write(b"x" * 400 * KB)
    talk.tls.abort()
    assert talk.below.aborted
    talk.tls.connection_lost(None)
    assert talk.above.lost == [None]
    assert talk.tls.get_write_buffer_size() == 0
    assert talk.tls.get_extra_info("peername") is None
    talk.tls.write(b"x")
    talk.tls.resume_reading()
    talk.tls.close()


def test_broken_record_closes(talk: Talk) -> None:
    talk.client.write(b"PING\r\n")
    data = bytearray(talk.outgoing.read())
    data[-1] ^= 1
    talk.tls.data_received(bytes(data))
    assert talk.below.closed
    assert not talk.above.got


def test_refused_client_is_told_why(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.tls.write(b"-DENIED\r\n")
    talk.tls.close()
    assert not talk.below.closed
    talk.open()
    assert talk.below.closed
    assert talk.hear() == b"-DENIED\r\n"
    assert talk.said_goodbye()


def test_too_many_refused_clients_are_closed(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.settings.steps.refuses = False
    talk.tls.write(b"-DENIED\r\n")
    talk.tls.close()
    assert talk.below.closed
    assert not talk.below.sent
    assert not talk.settings.steps.open


def test_closed_in_the_handshake(contexts: Any) -> None:
    talk = Talk(*contexts)
    talk.shake()
    talk.tls.data_received(talk.outgoing.read())
    talk.tls.close()
    assert talk.below.closed
    talk.tls.data_received(b"more")
    assert not talk.settings.failures


def test_failing_protocol_does_not_leave_the_connection_open(talk: Talk) -> None:
    def fails(_: bytes) -> None:
        raise RuntimeError("a bug")

    talk.tls.pause_reading()
    talk.client.write(b"x")
    talk.tls.data_received(talk.outgoing.read())
    talk.above.on_data = fails
    talk.tls.resume_reading()
    talk.settings.steps.loop.turn()
    assert talk.below.closed
