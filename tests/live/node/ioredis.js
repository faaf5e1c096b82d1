// ioredis against the proxy: node ioredis.js HOST PORT
import assert from "node:assert/strict";
import { Redis } from "ioredis";

const [host, port] = process.argv.slice(2);

function fail(error) {
  console.error(error);
  process.exit(1);
}

async function check(options) {
  const client = new Redis({ host, port: Number(port), ...options });
  client.on("error", fail);
  await client.flushall();
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.set("text", "grüße", "EX", 100), "OK");
  assert.equal(await client.get("text"), "grüße");
  assert.deepEqual(await client.hset("hash", { a: 1, b: 2 }), 2);
  assert.deepEqual(await client.hgetall("hash"), { a: "1", b: "2" });
  const bytes = Buffer.from([0, 255, 13, 10, 42]);
  await client.set("bytes", bytes);
  assert.deepEqual(await client.getBuffer("bytes"), bytes);

  const keys = Array.from({ length: 300 }, (_, number) => `key:${number}`);
  const pipeline = client.pipeline();
  for (const key of keys) pipeline.set(key, key).get(key).incr(key).mget(key, "none", "key:0");
  const results = await pipeline.exec();
  assert.equal(results.length, 4 * keys.length);
  keys.forEach((key, number) => {
    const [set, get, incr, mget] = results.slice(4 * number, 4 * number + 4);
    assert.deepEqual(set, [null, "OK"]);
    assert.deepEqual(get, [null, key]);
    assert.match(incr[0].message, /not an integer/);
    assert.deepEqual(mget, [null, [key, null, "key:0"]]);
  });
  assert.deepEqual(await Promise.all(keys.map((key) => client.get(key))), keys);

  const scanned = new Set();
  for await (const page of client.scanStream({ match: "key:*", count: 50 })) page.forEach((key) => scanned.add(key));
  assert.equal(scanned.size, keys.length);

  client.defineCommand("increase", { numberOfKeys: 1, lua: "return redis.call('incrby', KEYS[1], ARGV[1])" });
  for (let number = 0; number < 20; number++) assert.equal(await client.increase(`n:${number}`, 5), 5);

  await assert.rejects(client.rename("text", "other"), /CROSSSLOT/);
  assert.equal(await client.get("text"), "grüße");
  await client.select(4);
  assert.equal(await client.get("text"), null);
  await client.quit();
}

await check({});
await check({ enableAutoPipelining: true });
console.log("done");
