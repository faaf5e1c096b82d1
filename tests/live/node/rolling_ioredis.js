// ioredis with its defaults: node rolling_ioredis.js HOST PORT CLIENTS; each client asks without end. When the standard
// input is closed, says how many commands were answered, and which failed, as one JSON text.
import { Redis } from "ioredis";

const [host, port, count] = process.argv.slice(2);
let over = false;
let answered = 0;
const failed = [];
process.stdin.resume().on("end", () => (over = true));

async function ask(number) {
  const client = new Redis({ host, port: Number(port) });
  client.on("error", () => {}); // a connect that fails is tried again
  const key = `ioredis:${number}`;
  for (let round = 0; !over; round++) {
    try {
      await client.set(key, round);
      if ((await client.get(key)) !== String(round)) failed.push(`${key}: another value`);
      const pipeline = client.pipeline();
      for (let at = 0; at < 10; at++) pipeline.get(key);
      for (const [error] of await pipeline.exec()) if (error) failed.push(`${key}: ${error.message}`);
      answered += 12;
    } catch (error) {
      failed.push(`${key}: ${error.message}`);
    }
    await new Promise((then) => setTimeout(then, 2 + (number % 7) * 5));
  }
  client.disconnect();
}

console.log("started");
await Promise.all(Array.from({ length: Number(count) }, (_, number) => ask(number)));
console.log(JSON.stringify({ answered, failed: failed.slice(0, 20) }));
