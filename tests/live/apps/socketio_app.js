// socket.io with its Redis adapter, unmodified: node socketio_app.js HOST PORT
import assert from "node:assert";
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { io } from "socket.io-client";

const [, , host, port] = process.argv;
const redis = () => new Redis({ host, port: Number(port), maxRetriesPerRequest: null });
const event = (emitter, name) => new Promise((resolve) => emitter.once(name, resolve));

async function start(make) {
  const http = createServer();
  const server = new Server(http, { adapter: make(redis(), redis()) });
  server.on("connection", (socket) => socket.join("room"));
  server.on("question", (answer) => answer(42));
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  return [server, http.address().port];
}

async function use(make) {
  const servers = await Promise.all([start(make), start(make), start(make)]);
  await new Promise((resolve) => setTimeout(resolve, 500)); // the adapters tell nobody when they are subscribed
  const clients = servers.map(([, at]) => io(`http://127.0.0.1:${at}`, { transports: ["websocket"] }));
  await Promise.all(clients.map((client) => event(client, "connect")));
  const [[first]] = servers;
  assert.equal((await first.fetchSockets()).length, 3); // asks all servers, which PUBSUB NUMSUB counts
  const heard = clients.map((client) => event(client, "news"));
  first.to("room").emit("news", "something");
  assert.deepEqual(await Promise.all(heard), ["something", "something", "something"]);
  assert.deepEqual(await first.serverSideEmitWithAck("question"), [42, 42]);
  first.disconnectSockets();
  await Promise.all(clients.map((client) => client.disconnected || event(client, "disconnect")));
  clients.forEach((client) => client.close());
}

await use((pub, sub) => createAdapter(pub, sub));
console.log("done");
process.exit(0);
