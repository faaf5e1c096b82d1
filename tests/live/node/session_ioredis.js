// ioredis: node session_ioredis.js HOST PORT; what an application does, and what it got, a JSON text a line.
import { setTimeout as pause } from "node:timers/promises";
import { Redis } from "ioredis";

const [host, port] = process.argv.slice(2);
const say = (what, value) => console.log(JSON.stringify([what, value]));
const failure = (promise) => promise.then(() => "none", (error) => error.message);

function connect() {
  const client = new Redis({ host, port: Number(port) });
  client.on("error", (error) => {
    console.error(error);
    process.exit(1);
  });
  return client;
}

const client = connect();
const other = connect();

// Does the work over the other connection once INFO shows the line.
async function meanwhile(line, work) {
  for (let waited = 0; waited < 2000; waited++) {
    if ((await other.info()).includes(`\r\n${line}\r\n`)) return work();
    await pause(5);
  }
  throw new Error(`INFO never showed ${line}`);
}

say("ping", [await client.ping(), await client.ping("hello"), await client.echo("text")]);
say("strings", [await client.set("text", "x", "EX", 100), await client.get("text"), await client.get("none")]);
say("many", [await client.mset({ a: 1, b: 2, c: 3 }), await client.mget("a", "none", "c"), await client.del("a", "b")]);
say("hash", [await client.hset("hash", { f: "v", g: 2 }), await client.hincrby("hash", "g", 5)]);
say("zset", [await client.zadd("zset", 1.5, "one"), await client.zrange("zset", 0, -1, "WITHSCORES")]);
say("stream", [await client.xadd("stream", "1-1", "f", "v"), await client.xrange("stream", "-", "+")]);

const pipeline = client.pipeline();
for (let number = 0; number < 200; number++) pipeline.set(`key:${number}`, number).incr(`key:${number}`);
const replies = await pipeline.exec();
say("pipeline", [replies.length, replies.slice(-2)]);
const scanned = new Set();
for await (const page of client.scanStream({ match: "key:*", count: 100 })) page.forEach((key) => scanned.add(key));
say("scan", scanned.size);

say("transaction", await client.multi().set("{t}a", "1").incrby("{t}a", 4).get("{t}a").exec());
say("an error inside", await failure(client.multi().set("{t}a", "1").lpush("{t}a").exec()));
say("not pipelined", [
  await client.multi({ pipeline: false }),
  await client.set("{t}a", "2"),
  await client.get("{t}a"),
  await client.exec(),
]);
const guarded = connect();
await guarded.watch("{t}a");
await other.set("{t}a", "10");
say("a watched key changed", await guarded.multi().incr("{t}a").exec());
await guarded.watch("{t}a");
say("a watched key stayed", await guarded.multi().incr("{t}a").exec());
await guarded.quit();

client.defineCommand("increase", { numberOfKeys: 1, lua: "return redis.call('incrby', KEYS[1], ARGV[1])" });
say("scripts", [await client.increase("n", 5), await client.increase("n", 5)]);
say("a script in a transaction", await client.multi().set("{t}n", 1).increase("{t}n", 5).exec());
say("no script", await failure(client.evalsha("f".repeat(40), 1, "n")));
say("an error", await failure(client.lpush("text", "x")));

const worker = connect();
say("blocking, at once", [await client.rpush("{q}1", "one"), await worker.blpop("{q}0", "{q}1", 5)]);
say("blocking, in vain", await worker.brpop("{q}0", 0.05));
const popped = worker.blpop("{q}0", "{q}1", 10);
await meanwhile("blocked_clients:1", () => client.rpush("{q}0", "late"));
say("blocking, served", await popped);
await client.xgroup("CREATE", "stream", "group", "0");
const read = await worker.xreadgroup("GROUP", "group", "me", "COUNT", 1, "BLOCK", 100, "STREAMS", "stream", ">");
say("a consumer group", [read, await client.xack("stream", "group", "1-1")]);
await worker.quit();

const subscriber = connect();
const heard = [];
const last = new Promise((resolve) => {
  subscriber.on("message", (channel, message) => {
    heard.push([channel, message]);
    if (message === "last") resolve();
  });
});
say("subscribing", await subscriber.subscribe("news", "weather"));
for (const message of ["first", "second", "last"]) await client.publish("news", message);
await last;
say("subscribed", heard);
say("as a subscriber", await failure(subscriber.get("text")));
say("unsubscribing", await subscriber.unsubscribe());
const matched = new Promise((resolve) => subscriber.on("pmessage", (...message) => resolve(message)));
await subscriber.psubscribe("n*");
await client.publish("news.it", "text");
say("by pattern", await matched);
await subscriber.punsubscribe();
say("afterwards", [await subscriber.get("text"), await client.publish("news", "nobody"), await client.pubsub("NUMSUB", "news")]);
await subscriber.quit();
say("database", [await client.dbsize(), await client.flushall(), await client.dbsize()]);
await client.quit();
await other.quit();
