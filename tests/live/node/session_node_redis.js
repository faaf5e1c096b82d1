// node-redis: node session_node_redis.js HOST PORT; what an application does, and what it got, a JSON text a line.
import { setTimeout as pause } from "node:timers/promises";
import { createClient } from "redis";

const [host, port] = process.argv.slice(2);
const say = (what, value) => console.log(JSON.stringify([what, value]));
const failure = (promise) => promise.then(() => "none", (error) => error.message);

async function connect() {
  const client = createClient({ socket: { host, port: Number(port) } });
  client.on("error", (error) => {
    console.error(error);
    process.exit(1);
  });
  await client.connect();
  return client;
}

const client = await connect();
const other = await connect();

// Does the work over the other connection once INFO shows the line.
async function meanwhile(line, work) {
  for (let waited = 0; waited < 2000; waited++) {
    if ((await other.info()).includes(`\r\n${line}\r\n`)) return work();
    await pause(5);
  }
  throw new Error(`INFO never showed ${line}`);
}

say("ping", [await client.ping(), await client.echo("text")]);
say("strings", [await client.set("text", "x", { EX: 100 }), await client.get("text"), await client.get("none")]);
say("many", [await client.mSet({ a: "1", b: "2", c: "3" }), await client.mGet(["a", "none", "c"]), await client.del(["a", "b"])]);
say("hash", [await client.hSet("hash", { f: "v", g: "2" }), await client.hIncrBy("hash", "g", 5)]);
say("zset", [await client.zAdd("zset", [{ score: 1.5, value: "one" }]), await client.zRangeWithScores("zset", 0, -1)]);
say("stream", [await client.xAdd("stream", "1-1", { f: "v" }), await client.xRange("stream", "-", "+")]);

const numbers = Array.from({ length: 200 }, (_, number) => number);
const replies = await Promise.all(
  numbers.flatMap((number) => [client.set(`key:${number}`, String(number)), client.incr(`key:${number}`)]),
);
say("pipeline", [replies.length, replies.slice(-2)]);
const scanned = new Set();
for await (const page of client.scanIterator({ MATCH: "key:*", COUNT: 100 })) page.forEach((key) => scanned.add(key));
say("scan", scanned.size);

say("transaction", await client.multi().set("{t}a", "1").incrBy("{t}a", 4).get("{t}a").exec());
say("an error inside", await failure(client.multi().set("{t}a", "1").lPush("{t}a", "x").exec()));
const guarded = await connect();
await guarded.watch("{t}a");
await other.set("{t}a", "10");
say("a watched key changed", await failure(guarded.multi().incr("{t}a").exec()));
await guarded.watch("{t}a");
say("a watched key stayed", await guarded.multi().incr("{t}a").exec());
await guarded.close();

const script = "return redis.call('incrby', KEYS[1], ARGV[1])";
const sha = await client.scriptLoad(script);
say("scripts", [
  await client.eval(script, { keys: ["n"], arguments: ["5"] }),
  await client.evalSha(sha, { keys: ["n"], arguments: ["5"] }),
  await client.scriptExists([sha, "none"]),
]);
say("no script", await failure(client.evalSha("f".repeat(40), { keys: ["n"], arguments: [] })));
const library = "#!lua name=lib\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)";
say("functions", [await client.functionLoad(library), await client.fCall("twice", { keys: ["n"], arguments: ["21"] })]);
say("an error", await failure(client.lPush("text", "x")));

const worker = await connect();
say("blocking, at once", [await client.rPush("{q}1", "one"), await worker.blPop(["{q}0", "{q}1"], 5)]);
say("blocking, in vain", await worker.brPop("{q}0", 0.05));
const popped = worker.blPop(["{q}0", "{q}1"], 10);
await meanwhile("blocked_clients:1", () => client.rPush("{q}0", "late"));
say("blocking, served", await popped);
await client.xGroupCreate("stream", "group", "0");
const read = await worker.xReadGroup("group", "me", { key: "stream", id: ">" }, { COUNT: 1, BLOCK: 100 });
say("a consumer group", [read, await client.xAck("stream", "group", "1-1")]);
await worker.close();

const subscriber = await connect();
const heard = [];
const last = new Promise((resolve) => {
  const listener = (message, channel) => {
    heard.push([channel, message]);
    if (message === "last") resolve();
  };
  subscriber.subscribe(["news", "weather"], listener);
});
await meanwhile("pubsub_channels:2", async () => {
  for (const message of ["first", "second", "last"]) await client.publish("news", message);
});
await last;
say("subscribed", heard);
await subscriber.unsubscribe();
const matched = new Promise((resolve) => subscriber.pSubscribe("n*", (message, channel) => resolve([channel, message])));
await meanwhile("pubsub_patterns:1", () => client.publish("news.it", "text"));
say("by pattern", await matched);
await subscriber.pUnsubscribe();
say("afterwards", [await subscriber.ping(), await client.publish("news", "nobody"), await client.pubSubNumSub(["news"])]);
await subscriber.close();
say("database", [await client.dbSize(), await client.flushAll(), await client.dbSize()]);
await client.close();
await other.close();
