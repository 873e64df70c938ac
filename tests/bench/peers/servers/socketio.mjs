// A Socket.IO server as its manual has it: each connection joins the room of its user, and everything else is the adapter's.
//
//     node socketio.mjs PORT REDIS_URL pubsub|streams ws|uWebSockets.js
//     bun socketio.mjs PORT REDIS_URL pubsub|streams bun

import { createAdapter as pubSubAdapter } from "@socket.io/redis-adapter";
import { createAdapter as streamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, url, kind, engine] = process.argv.slice(2);

const client = createClient({ url });
await client.connect();

async function adapter() {
  if (kind === "streams") return streamsAdapter(client);
  const subscriber = client.duplicate();
  await subscriber.connect();
  return pubSubAdapter(client, subscriber);
}

const io = new Server({ transports: ["websocket"], serveClient: false, adapter: await adapter() });
io.on("connection", (socket) => socket.join(socket.handshake.query.user));

if (engine === "ws") {
  io.listen(Number(port));
} else if (engine === "bun") {
  const { Server: Engine } = await import("@socket.io/bun-engine");
  const sockets = new Engine({ path: "/socket.io/" });
  io.bind(sockets);
  Bun.serve({ hostname: "127.0.0.1", port: Number(port), ...sockets.handler() });
} else {
  const { App } = (await import(engine)).default;
  const app = App();
  io.attachApp(app);
  app.listen(Number(port), () => {});
}
