// ioredis over TLS: node ioredis_tls.js HOST PORT CA_FILE
import fs from "node:fs";
import { Redis } from "ioredis";

(async () => {
  const [host, port, ca] = process.argv.slice(2);
  const tls = { ca: fs.readFileSync(ca), servername: "redis.test" };
  const client = new Redis({ host, port: Number(port), tls, maxRetriesPerRequest: 1 });
  await client.set("io", "1");
  if (await client.get("io") !== "1") throw new Error("wrong value");
  const big = "x".repeat(3000000);
  await client.set("iobig", big);
  if (await client.get("iobig") !== big) throw new Error("wrong large value");
  const sub = client.duplicate();
  const heard = new Promise((resolve) => sub.on("message", (channel, message) => resolve(message)));
  await sub.subscribe("io:news");
  await client.publish("io:news", "hello");
  if (await heard !== "hello") throw new Error("wrong message");
  await Promise.all([sub.quit(), client.quit()]);
  console.log("done");
})().catch((error) => { console.error(error); process.exit(1); });
