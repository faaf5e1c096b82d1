// ioredis's Cluster against the proxy with present_as = "cluster": node ioredis_cluster.js HOST PORT
import assert from "node:assert/strict";
import { Cluster } from "ioredis";

const [host, port] = process.argv.slice(2);

async function check(options) {
  const client = new Cluster([{ host, port: Number(port) }], options);
  client.on("error", (error) => {
    console.error(error);
    process.exit(1);
  });
  assert.equal(await client.ping(), "PONG");
  assert.deepEqual(client.nodes("master").map((node) => node.options.port), [Number(port)]);
  await client.flushall();
  const keys = Array.from({ length: 200 }, (_, number) => `key:${number}`);
  await Promise.all(keys.map((key) => client.set(key, key)));
  assert.deepEqual(await Promise.all(keys.map((key) => client.get(key))), keys);
  assert.equal(await client.dbsize(), keys.length);

  const pipeline = client.pipeline();
  for (let number = 0; number < 100; number++) pipeline.incr(`{tag}:${number}`);
  assert.deepEqual(await pipeline.exec(), Array(100).fill([null, 1]));

  client.defineCommand("increase", { numberOfKeys: 1, lua: "return redis.call('incrby', KEYS[1], ARGV[1])" });
  for (let number = 0; number < 20; number++) assert.equal(await client.increase(`n:${number}`, 5), 5);
  await client.quit();
}

await check({});
await check({ enableAutoPipelining: true, scaleReads: "all" });
console.log("done");
