// Tell a user that their order has left: append one message to Pushway.
import { createClient } from "redis";

const [user, order] = process.argv.slice(2);
if (!order) throw new Error("usage: node append.js USER ORDER");
const client = createClient({ url: process.env.REDIS_URL ?? "redis://127.0.0.1:6390" });
await client.connect();
try {
  const entry = await client.xAdd("push:{0}:in", "*", {
    to: `user:${user}`,
    body: JSON.stringify({ order: Number(order), text: "Your order is on its way 🚚 Schöne Grüße!" }),
    id: `order-${order}-shipped`, // appended again with the same id, it is delivered once
  });
  console.log(entry);
} finally {
  client.destroy();
}
