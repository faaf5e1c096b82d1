"""redis-py, sync and asyncio, with nothing told but host and port."""

import asyncio

import pytest
import redis
import redis.asyncio

from proxy.devservers.servers import LOOPBACK
from tests.support.fixtures import Serve
from tests.support.site import Site

pytestmark = [pytest.mark.live, pytest.mark.clients]

INCREASE = "return redis.call('incrby', KEYS[1], ARGV[1])"


@pytest.mark.smoke
def test_values_of_every_type(client: redis.Redis) -> None:
    assert client.ping()
    assert client.set("text", "grüße", ex=100)
    assert client.get("text") == "grüße"
    assert client.mset({f"k{number}": number for number in range(50)})
    assert client.mget([f"k{number}" for number in range(51)]) == [*(str(number) for number in range(50)), None]
    assert client.delete(*(f"k{number}" for number in range(50))) == 50
    assert client.hset("hash", mapping={"a": 1, "b": 2}) == 2
    assert client.hgetall("hash") == {"a": "1", "b": "2"}
    assert client.rpush("list", 1, 2, 3) == 3
    assert client.lrange("list", 0, -1) == ["1", "2", "3"]
    assert client.sadd("set", "x", "y") == 2
    assert client.smembers("set") == {"x", "y"}
    assert client.zadd("zset", {"one": 1, "two": 2.5}) == 2
    assert client.zscore("zset", "two") == 2.5
    assert client.xadd("stream", {"f": "v"}, id="1-1") == "1-1"
    assert client.xrange("stream") == [("1-1", {"f": "v"})]
    assert client.pfadd("hll", "a", "b")
    assert client.geoadd("geo", (13.36, 38.11, "Palermo")) == 1
    assert client.ttl("text") == 100
    assert client.type("zset") == "zset"
    assert client.dbsize() == 8


def test_errors_are_the_librarys_own(client: redis.Redis) -> None:
    client.set("text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.lpush("text", "x")
    with pytest.raises(redis.ResponseError, match="refused by the proxy"):
        client.replicaof("no", "one")
    with pytest.raises(redis.ResponseError):
        client.rename("a", "b")
    assert client.get("text") == "x"


@pytest.mark.smoke
def test_pipelines(client: redis.Redis) -> None:
    for _ in range(3):
        pipeline = client.pipeline(transaction=False)
        for number in range(500):
            pipeline.set(f"k{number}", number)
            pipeline.get(f"k{number}")
            pipeline.mget(f"k{number}", f"k{number - 1}", "none")
        found = pipeline.execute()
        assert found[::3] == [True] * 500
        assert found[1::3] == [str(number) for number in range(500)]
        assert found[5::3] == [[str(number), str(number - 1), None] for number in range(1, 500)]
    pipeline = client.pipeline(transaction=False)
    pipeline.set("text", "x")
    pipeline.incr("text")
    pipeline.get("text")
    ok, error, value = pipeline.execute(raise_on_error=False)
    assert ok is True
    assert isinstance(error, redis.ResponseError)
    assert value == "x"


def test_scan_iter(client: redis.Redis) -> None:
    client.mset({f"user:{number}": number for number in range(500)})
    client.hset("hash", "f", "v")
    assert len(list(client.scan_iter())) == len(set(client.scan_iter(count=50))) == 501
    assert set(client.scan_iter("user:1*", count=20)) == {
        f"user:{number}" for number in range(500) if str(number)[0] == "1"
    }
    assert list(client.scan_iter(_type="hash")) == ["hash"]
    assert dict(client.hscan_iter("hash")) == {"f": "v"}


def test_scripts(client: redis.Redis) -> None:
    """``register_script`` sends EVALSHA, and loads the script when it hears NOSCRIPT."""
    increase = client.register_script(INCREASE)
    for number in range(30):
        assert increase(keys=[f"k{number}"], args=[number]) == number
    assert client.eval("return {KEYS[1], ARGV[1]}", 1, "k", "x") == ["k", "x"]
    library = "#!lua name=lib\nredis.register_function('echo', function(keys, args) return args[1] end)"
    assert client.function_load(library) == "lib"
    assert client.fcall("echo", 1, "k1", "hello") == "hello"


def test_what_a_library_asks_about_the_server(site: Site, client: redis.Redis) -> None:
    information = client.info()
    assert information["redis_version"] == site.plain.info("server")["redis_version"]
    assert information["role"] == "master"
    assert client.config_get("maxmemory") == {"maxmemory": "0"}
    assert client.client_setname("me")
    assert client.client_getname() == "me"
    assert {row["name"] for row in client.client_list()} >= {"me"}
    assert client.client_info()["name"] == "me"
    assert isinstance(client.client_id(), int)
    assert client.command_count() > 200
    assert "get" in client.command()
    assert client.memory_usage("none") is None
    assert client.slowlog_len() == 0
    assert client.role()[0] == "master"
    assert isinstance(client.time()[0], int)
    assert client.lastsave()
    assert client.acl_whoami() == "default"


def test_databases_and_pools(site: Site) -> None:
    pool = redis.ConnectionPool(host=LOOPBACK, port=site.proxy.port, db=3, max_connections=10)
    clients = [redis.Redis(connection_pool=pool) for _ in range(10)]
    for number, client in enumerate(clients):
        assert client.set(f"k{number}", number)
    assert clients[0].dbsize() == 10
    pool.disconnect()
    with redis.Redis(host=LOOPBACK, port=site.proxy.port) as other:
        assert other.dbsize() == 0
    with redis.Redis(host=LOOPBACK, port=site.proxy.port, single_connection_client=True, client_name="one") as single:
        assert single.client_getname() in ("one", b"one")


def test_a_url_with_a_password(site: Site, serve: Serve) -> None:
    users = "[[users]]\nname = 'default'\npassword = 'friend'\n[[users]]\nname = 'app'\npassword = 'swordfish'\n"
    proxy = serve("--static", site.shards.static, config=users)
    for credentials in (":friend@", "app:swordfish@"):
        with redis.Redis.from_url(f"redis://{credentials}{proxy.address}/0") as client:
            assert client.set("k", credentials)
    with (
        redis.Redis.from_url(f"redis://app:wrong@{proxy.address}/0") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    with redis.Redis.from_url(f"redis://{proxy.address}/0") as client, pytest.raises(redis.AuthenticationError):
        client.get("k")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_asyncio(site: Site, protocol: int) -> None:
    async with redis.asyncio.Redis(
        host=LOOPBACK, port=site.proxy.port, protocol=protocol, decode_responses=True, max_connections=50
    ) as client:

        async def work(number: int) -> None:
            for turn in range(20):
                key = f"k:{number}:{turn}"
                assert await client.set(key, turn)
                assert await client.get(key) == str(turn)
                assert await client.mget(key, f"none:{number}") == [str(turn), None]
                await client.incr("everybody")

        await asyncio.gather(*(work(number) for number in range(40)))
        assert await client.get("everybody") == "800"
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(300):
                pipeline.get(f"k:{number % 40}:7")
            assert await pipeline.execute() == ["7"] * 300
        found = {key async for key in client.scan_iter("k:*", count=100)}
        assert len(found) == 800
        increase = client.register_script(INCREASE)
        assert [await increase(keys=[f"n{number}"], args=[1]) for number in range(10)] == [1] * 10
