"""What clients and servers can send that takes long: each prepares a site, and gives what is to be measured."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from proxy.resp import encode
from tests.live.patient_site import PatientSite
from tests.support.wire import Wire, pipeline

Act = Callable[[PatientSite], contextlib.AbstractContextManager[Callable[[], object]]]
"""Prepares, and gives what is to be measured."""

STIMULI: dict[str, Act] = {}


def stimulus(function: Callable[[PatientSite], Iterator[Callable[[], object]]]) -> Act:
    act = contextlib.contextmanager(function)
    STIMULI[function.__name__] = act
    return act


def _then(*steps: Callable[[], object]) -> Callable[[], None]:
    """One after the other."""

    def act() -> None:
        for step in steps:
            step()

    return act


def _names(count: int, prefix: str = "channel") -> list[str]:
    return [f"{prefix}:{number}" for number in range(count)]


def _told(wire: Wire, *args: str | bytes | int, replies: int = 1) -> list[bytes]:
    wire.send(encode.request(args))
    return wire.replies(replies)


def _drop_until(wire: Wire, size: int) -> None:
    """Read so many bytes, at least."""
    while size > 0:
        size -= len(wire.socket.recv(1 << 20))


# ---- subscriptions


def _subscribe(
    word: str, protocol: int = 2, count: int = 20_000
) -> Callable[[PatientSite], Iterator[Callable[[], object]]]:
    def act(site: PatientSite) -> Iterator[Callable[[], object]]:
        with site.client(protocol) as wire:
            yield lambda: _told(wire, word, *_names(count), replies=count)

    act.__name__ = f"{word} of {count:,} channels"
    return act


stimulus(_subscribe("SUBSCRIBE"))
stimulus(_subscribe("SSUBSCRIBE"))
stimulus(_subscribe("PSUBSCRIBE", count=4000))  # before Redis 8 the server itself looks each up in a list


@stimulus
def subscribe_again(site: PatientSite) -> Iterator[Callable[[], object]]:
    """A second client to the same 20,000."""
    names = _names(20_000)
    with site.client() as first, site.client() as second:
        _told(first, "SUBSCRIBE", *names, replies=len(names))
        yield lambda: _told(second, "SUBSCRIBE", *names, replies=len(names))


@stimulus
def unsubscribe_all(site: PatientSite) -> Iterator[Callable[[], object]]:
    names = _names(20_000)
    with site.client() as wire:
        _told(wire, "SUBSCRIBE", *names, replies=len(names))
        yield lambda: _told(wire, "UNSUBSCRIBE", replies=len(names))


def _subscribed(wire: Wire, count: int, word: str = "SUBSCRIBE") -> None:
    names = _names(count)
    for at in range(0, count, 1000):
        _told(wire, word, *names[at : at + 1000], replies=len(names[at : at + 1000]))


@stimulus
def reset_of_100_000_subscriptions(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client(3) as wire:
        _subscribed(wire, 100_000)
        yield _then(lambda: _told(wire, "RESET"), lambda: time.sleep(2))


@stimulus
def disconnect_with_100_000_subscriptions(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire, site.client() as other:
        _subscribed(wire, 100_000)

        def act() -> None:
            wire.close()
            time.sleep(2)
            other.ask("PING")

        yield act


@stimulus
def hello_with_100_000_subscriptions(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client(3) as wire:
        _subscribed(wire, 100_000)
        yield lambda: _told(wire, "HELLO", 2)


@stimulus
def first_publish_after_5_000_patterns(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire, site.client() as other:
        names = [f"p{number}*[a-z]?x*y" for number in range(5000)]
        _told(wire, "PSUBSCRIBE", *names, replies=len(names))
        yield lambda: other.ask("PUBLISH", "none", "m")


@stimulus
def publish_over_5_000_patterns(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire, site.client() as other:
        names = [f"*{number}*" for number in range(5000)]
        for at in range(0, len(names), 1000):
            _told(wire, "PSUBSCRIBE", *names[at : at + 1000], replies=1000)
        for _ in range(10):
            other.ask("PUBLISH", "none", "m")
        yield _then(
            lambda: other.send(pipeline(*[("PUBLISH", f"none{number}", "m") for number in range(50)])),
            lambda: other.replies(50),
        )


@stimulus
def publish_over_slow_patterns(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire, site.client() as other:
        names = ["*a" * 400 + "*b" + str(number) for number in range(2000)]
        for at in range(0, len(names), 200):
            _told(wire, "PSUBSCRIBE", *names[at : at + 200], replies=200)
        other.ask("PUBLISH", "none", "m")
        yield lambda: other.ask("PUBLISH", "a" * 5000, "m")


@stimulus
def message_matching_2_000_patterns_of_one(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire, site.client() as other:
        names = ["n" + "*" * (number + 1) for number in range(1000)]
        _told(wire, "PSUBSCRIBE", *names, replies=len(names))
        yield _then(
            lambda: other.send(pipeline(*[("PUBLISH", "none", "m" * 1000) for _ in range(20)])),
            lambda: wire.replies(len(names) * 20),
        )


@stimulus
def pubsub_channels_of_100_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire, site.client() as other:
        _subscribed(wire, 100_000)
        yield lambda: other.ask("PUBSUB", "CHANNELS")


@stimulus
def pubsub_numsub_of_100_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as other:
        yield lambda: other.ask("PUBSUB", "NUMSUB", *_names(100_000))


@stimulus
def pubsub_numpat_of_4_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire, site.client() as other:
        _subscribed(wire, 4000, "PSUBSCRIBE")
        yield lambda: other.ask("PUBSUB", "NUMPAT")


@stimulus
def subscription_lost_with_20_000_channels(site: PatientSite) -> Iterator[Callable[[], object]]:
    """The servers close the connections: all is subscribed again."""
    with site.client() as wire:
        _subscribed(wire, 20_000)

        def act() -> None:
            for server in site.shards.primaries:
                server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            time.sleep(3)

        yield act


# ---- all clients


def _beside_idle(name: str, *args: str, count: int = 5000) -> None:
    def act(site: PatientSite) -> Iterator[Callable[[], object]]:
        with site.idle_clients(count), site.client() as wire:
            yield _then(lambda: wire.ask(*args), lambda: time.sleep(1))

    act.__name__ = f"{name} of {count:,}"
    stimulus(act)


_beside_idle("client list", "CLIENT", "LIST")
_beside_idle("client list type", "CLIENT", "LIST", "TYPE", "pubsub")
_beside_idle("client kill none", "CLIENT", "KILL", "ADDR", "1.2.3.4:5")
_beside_idle("client kill all", "CLIENT", "KILL", "TYPE", "normal")
_beside_idle("client pause", "CLIENT", "PAUSE", "200")
_beside_idle("slotgate clients", "SLOTGATE", "CLIENTS")
_beside_idle("ping and metrics", "PING")


@stimulus
def monitor_begins_with_5_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.idle_clients(5000), site.client() as wire:
        yield _then(lambda: wire.ask("MONITOR"), lambda: wire.close(), lambda: time.sleep(1))


@stimulus
def monitor_of_500_and_1_000_commands(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.idle_clients(500) as clients, site.client() as wire:
        for client in clients:
            client.sendall(b"MONITOR\r\n")
            client.recv(5)
        yield _then(lambda: wire.send(b"PING\r\n" * 1000), lambda: wire.replies(1000), lambda: time.sleep(1))


@stimulus
def disconnect_of_5_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(site.idle_clients(5000))
        yield _then(lambda: stack.close(), lambda: time.sleep(2.5))


# ---- many keys


def _keys(count: int, *, slots: bool = True) -> list[str]:
    return [f"key:{number}" for number in range(count)]


def _many(name: str, count: int, *, step: int = 1) -> None:
    def act(site: PatientSite) -> Iterator[Callable[[], object]]:
        with site.client() as wire:
            keys = _keys(count)
            args = keys if step == 1 else [word for key in keys for word in (key, "v")]
            frame = encode.request((name, *args))
            yield _then(lambda: wire.send(frame), lambda: wire.reply())

    act.__name__ = f"{name} of {count:,} keys"
    stimulus(act)


for _word in ("DEL", "EXISTS", "MGET"):
    _many(_word, 100_000)
_many("MSET", 100_000, step=2)
_many("DEL", 1_000_000)
_many("MGET", 1_000_000)


@stimulus
def sinter_of_100_000_keys(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        keys = [f"{{k}}{number}" for number in range(100_000)]
        yield lambda: wire.ask("SUNION", *keys)


@stimulus
def xread_of_the_ends_of_20_000_streams(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        keys = [f"{{k}}{number}" for number in range(20_000)]
        yield _then(
            lambda: wire.ask("XREAD", "BLOCK", 1, "STREAMS", *keys, *"$" * len(keys)),
            lambda: wire.ask("XREAD", "BLOCK", 1, "STREAMS", *keys[:1000], *"$" * 1000),
        )


@stimulus
def eval_of_100_000_keys(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        keys = [f"{{k}}{number}" for number in range(100_000)]
        yield lambda: wire.ask("EVAL", "return #KEYS", len(keys), *keys)


@stimulus
def del_in_multi_of_100_000_keys(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        keys = [f"{{k}}{number}" for number in range(100_000)]
        wire.ask("MULTI")
        yield _then(lambda: wire.ask("DEL", *keys), lambda: wire.ask("EXEC"))


@stimulus
def exec_of_100_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        wire.ask("MULTI")
        for _ in range(100):
            wire.send(pipeline(*[("SET", "k", "v")] * 1000))
            wire.replies(1000)
        yield lambda: wire.ask("EXEC")


@stimulus
def exec_of_100_000_of_its_own(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        wire.ask("MULTI")
        for _ in range(100):
            wire.send(pipeline(*[("SET", "k", "v"), ("PING",)] * 500))
            wire.replies(1000)
        yield lambda: wire.ask("EXEC")


@stimulus
def exec_watched_of_100_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        wire.ask("WATCH", "k")
        wire.ask("MULTI")
        for _ in range(100):
            wire.send(pipeline(*[("SET", "k", "v")] * 1000))
            wire.replies(1000)
        yield lambda: wire.ask("EXEC")


@stimulus
def evalsha_ahead_of_100_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        yield lambda: wire.ask("SCRIPT", "EXISTS", *["0" * 40] * 100_000)


# ---- all shards


def _filled(site: PatientSite, count: int) -> None:
    for server in site.shards.primaries:
        server.ask("DEBUG", "POPULATE", count // len(site.shards.primaries), f"p{server.port}", timeout=60.0)


@stimulus
def keys_of_1_000_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    _filled(site, 1_000_000)
    with site.client() as wire:
        yield lambda: wire.ask("KEYS", "*")


@stimulus
def scan_of_1_000_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    _filled(site, 1_000_000)
    with site.client() as wire:
        yield lambda: wire.ask("SCAN", 0, "COUNT", 300_000)


@stimulus
def array_of_5_000_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    """One reply of five million elements of seven bytes."""
    with site.client() as wire:
        for _ in range(100):
            wire.ask("RPUSH", "k", *["1"] * 50_000)

        def act() -> None:
            wire.send(encode.request(("LRANGE", "k", 0, -1)))
            _drop_until(wire, 5_000_000 * 7)

        yield act


@stimulus
def mget_of_100_000_values(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        keys = _keys(100_000)
        wire.ask("MSET", *[word for key in keys for word in (key, "x" * 50)])
        yield lambda: wire.ask("MGET", *keys)


@stimulus
def hgetall_of_1_000_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        for start in range(0, 1_000_000, 10_000):
            wire.ask("HSET", "h", *[word for n in range(start, start + 10_000) for word in (n, n)])
        yield lambda: wire.ask("HGETALL", "h")


@stimulus
def config_get_all(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        yield lambda: wire.ask("CONFIG", "GET", "*")


@stimulus
def slowlog_of_10_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    for server in site.shards.primaries:
        server.ask("CONFIG", "SET", "slowlog-max-len", 10000)
        server.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
    with site.client() as wire:
        for _ in range(30):
            wire.send(pipeline(*[("GET", f"k{number}") for number in range(1000)]))
            wire.replies(1000)
        for server in site.shards.primaries:
            server.ask("CONFIG", "SET", "slowlog-log-slower-than", -1)
        yield lambda: wire.ask("SLOWLOG", "GET", -1)


@stimulus
def info_everything(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        yield lambda: wire.ask("INFO", "EVERYTHING")


@stimulus
def command_and_docs(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        yield _then(
            lambda: wire.ask("COMMAND"), lambda: wire.ask("COMMAND", "DOCS"), lambda: wire.ask("COMMAND", "LIST")
        )


@stimulus
def slotgate_where_of_100_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        yield lambda: wire.ask("SLOTGATE", "WHERE", *_keys(100_000))


@stimulus
def ping_of_16_mb(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client() as wire:
        yield lambda: wire.ask("PING", "x" * 16_000_000)


# ---- who does not read


@stimulus
def reader_behind_2_000_000_replies(site: PatientSite) -> Iterator[Callable[[], object]]:
    """Replies of seven bytes to a client that reads only when all are there."""
    with site.client() as wire, site.client() as other:
        other.ask("SET", "k", "x")

        def act() -> None:
            done = threading.Event()

            def send() -> None:
                with contextlib.suppress(OSError):
                    for _ in range(1000):
                        wire.send(pipeline(*[("GET", "k")] * 2000))
                done.set()

            thread = threading.Thread(target=send)
            thread.start()
            time.sleep(4)
            _drop_until(wire, 2_000_000 * 7)
            thread.join()

        yield act


def _pushes(bcast: bool) -> Callable[[PatientSite], Iterator[Callable[[], object]]]:
    def act(site: PatientSite) -> Iterator[Callable[[], object]]:
        with site.client(3) as wire, site.client() as other:
            wire.ask("CLIENT", "TRACKING", "ON", *(("BCAST",) if bcast else ()))
            keys = _keys(100_000)
            for at in range(0, len(keys), 1000):
                wire.send(pipeline(*[("GET", key) for key in keys[at : at + 1000]]))
                wire.replies(1000)

            def change() -> None:
                for at in range(0, len(keys), 10_000):
                    other.ask("MSET", *[word for key in keys[at : at + 10_000] for word in (key, "v")])
                time.sleep(2)

            yield change

    act.__name__ = f"100,000 invalidations{' (broadcast)' * bcast}"
    return act


stimulus(_pushes(False))
stimulus(_pushes(True))


@stimulus
def tracking_of_10_000_prefixes(site: PatientSite) -> Iterator[Callable[[], object]]:
    with site.client(3) as wire:
        words = [word for number in range(10_000) for word in ("PREFIX", f"p{number:05}:")]
        yield lambda: wire.ask("CLIENT", "TRACKING", "ON", "BCAST", *words)


# ---- lost servers


@stimulus
def lost_with_50_000_in_flight(site: PatientSite) -> Iterator[Callable[[], object]]:
    """All servers hang, then close their connections."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client()) for _ in range(50)]
        for client in clients:
            client.ask("PING")
        for server in site.shards.primaries:
            server.pause()

        def act() -> None:
            for client in clients:
                client.send(pipeline(*[("SET", f"k{number}", "v") for number in range(1000)]))
            time.sleep(0.5)
            for server in site.shards.primaries:
                server.resume()
                server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(2)

        yield act


@stimulus
def expired_50_000(site: PatientSite) -> Iterator[Callable[[], object]]:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client()) for _ in range(50)]
        for server in site.shards.primaries:
            server.pause()
        try:

            def act() -> None:
                for client in clients:
                    client.send(pipeline(*[("SET", f"k{number}", "v") for number in range(1000)]))
                time.sleep(4)

            yield act
        finally:
            for server in site.shards.primaries:
                server.resume()
