// node-redis against the proxy: node node_redis.js HOST PORT RESP
import assert from "node:assert/strict";
import { createClient, defineScript, RESP_TYPES } from "redis";

const [host, port, resp] = process.argv.slice(2);
const client = createClient({
  socket: { host, port: Number(port) },
  RESP: Number(resp),
  scripts: {
    increase: defineScript({
      SCRIPT: "return redis.call('incrby', KEYS[1], ARGV[1])",
      NUMBER_OF_KEYS: 1,
      parseCommand(parser, key, by) {
        parser.pushKey(key);
        parser.push(String(by));
      },
      transformReply: undefined,
    }),
  },
});
client.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
await client.connect();

assert.equal(await client.ping(), "PONG");
assert.equal(await client.set("text", "grüße", { EX: 100 }), "OK");
assert.equal(await client.get("text"), "grüße");
assert.equal(await client.ttl("text"), 100);
assert.equal(await client.hSet("hash", { a: "1", b: "2" }), 2);
assert.deepEqual({ ...(await client.hGetAll("hash")) }, { a: "1", b: "2" });
assert.equal(await client.zAdd("zset", [{ score: 1.5, value: "m" }]), 1);
assert.equal(await client.zScore("zset", "m"), 1.5);
assert.deepEqual(await client.sMembers("none"), []);

const bytes = Buffer.from([0, 255, 13, 10, 42]);
await client.set("bytes", bytes);
const raw = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
assert.deepEqual(await raw.get("bytes"), bytes);

// What is asked in one turn goes out as one pipeline.
const keys = Array.from({ length: 500 }, (_, number) => `key:${number}`);
await client.mSet(keys.map((key) => [key, key]));
assert.deepEqual(await client.mGet([...keys, "none"]), [...keys, null]);
const found = await Promise.all(keys.map((key) => client.get(key)));
assert.deepEqual(found, keys);
assert.equal(await client.dbSize(), 504);
assert.equal(await client.del(keys.slice(0, 100)), 100);

const scanned = new Set();
for await (const page of client.scanIterator({ MATCH: "key:*", COUNT: 50 })) page.forEach((key) => scanned.add(key));
assert.equal(scanned.size, 400);

for (let number = 0; number < 20; number++) assert.equal(await client.increase(`n:${number}`, 5), 5);

await assert.rejects(client.rename("text", "other"), /CROSSSLOT/);
await assert.rejects(client.lPush("text", "x"), /WRONGTYPE/);
assert.equal(await client.get("text"), "grüße");

const other = client.duplicate({ database: 4 });
await other.connect();
assert.equal(await other.get("text"), null);
await other.set("only-here", "1");
assert.equal(await other.dbSize(), 1);
await other.close();
assert.match(await client.info("keyspace"), /db4:keys=1,/);
assert.ok((await client.clientList()).length >= 1);
await client.close();
console.log("done");
