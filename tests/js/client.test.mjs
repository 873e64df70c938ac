// One client alone: what it does at each end of a connection, and what the application gets.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, NotWelcome, localStorageCursors, mayReconnect, memoryCursors, pauseMs } from "../../edge/js/pushway.js";
import { scenario } from "./alone.mjs";
import { until, upTo } from "./edge.mjs";

test("close codes follow the promise of the ranges, known or not", () => {
  for (const code of [4000, 4003, 4499, 5000, 1001, 1006, 3000]) assert.equal(mayReconnect(code), true, code);
  for (const code of [1000, 4500, 4502, 4777, 4999]) assert.equal(mayReconnect(code), false, code);
});

test("pauses have full jitter below a ceiling that doubles up to its maximum", () => {
  const ceiling = (failures) => pauseMs(failures, { minMs: 500, maxMs: 20_000 }, () => 1);
  assert.deepEqual([0, 1, 2, 5, 6, 5_000].map(ceiling), [500, 1_000, 2_000, 16_000, 20_000, 20_000]);
  assert.equal(pauseMs(4, { minMs: 500, maxMs: 20_000 }, () => 0), 0);
});

test("where there is no WebSocket, that is said at the start, and not tried for ever", () => {
  const client = new Client({ urls: ["ws://one"], token: () => "token", WebSocket: undefined });
  assert.throws(() => client.start(), { name: "TypeError", message: /WebSocket: there is none here/ });
  assert.equal(client.role, null);
});

scenario("messages come in order, the token goes in the first frame", async (edge, open) => {
  const page = await open({ device: "phone", token: async () => "secret" }).opened();
  edge.publish(3);
  await until(() => page.numbers.length === 3);
  assert.deepEqual(page.numbers, [1, 2, 3]);
  assert.deepEqual(edge.connects, [{ type: "connect", token: "secret", device: "phone" }]);
  assert.deepEqual(page.statuses.slice(0, 2).map(({ type }) => type), ["connecting", "open"]);
});

scenario("after a cut the next edge is asked for what was missed, and nothing comes twice", async (edge, open) => {
  const page = await open().opened();
  edge.publish(2);
  edge.endAll();
  edge.publish(3);
  await until(() => page.numbers.length === 5);
  edge.sayAll(edge.messages[1]);
  edge.publish();
  await until(() => page.numbers.length === 6);
  assert.deepEqual(page.numbers, upTo(6));
  assert.deepEqual(edge.connects[1].since, { user: 20, all: 0 });
  assert.deepEqual(page.told("connecting").map(({ url }) => url), ["ws://one", "ws://two"]);
  assert.equal(page.told("waiting")[0].code, 1006);
  assert.deepEqual(page.told("caught_up")[0], { type: "caught_up", to: "user:alice", seq: 50 });
});

scenario("who never had a message misses none that come after the first welcome", async (edge, open) => {
  edge.publish(4);
  const page = await open().opened();
  edge.endAll();
  edge.publish();
  await until(() => page.numbers.length === 1);
  assert.deepEqual(page.numbers, [5]);
  assert.deepEqual(edge.connects[1].since, { user: 40, all: 0 });
});

for (const code of [4500, 4502, 4999]) {
  scenario(`code ${code} ends it for good`, async (edge, open) => {
    const page = await open().opened();
    edge.endAll(code, "because");
    await until(() => page.told("closed").length === 1);
    assert.deepEqual(page.statuses.at(-1), { type: "closed", code, reason: "because" });
    assert.equal(page.client.role, null);
    assert.equal(edge.connects.length, 1);
  });
}

scenario("4003 has a fresh token fetched, and only then", async (edge, open) => {
  const wishes = [];
  edge.scenes = [(socket) => edge.end(socket, 4003, "token expired"), undefined, (socket) => edge.end(socket)];
  const page = await open({ token: async ({ fresh }) => (wishes.push(fresh), fresh ? "new" : "kept") }).opened();
  edge.endAll(4000);
  await page.opened(2);
  assert.deepEqual(wishes, [false, true, false, false]);
  assert.deepEqual(edge.connects.map(({ token }) => token), ["kept", "new", "kept", "kept"]);
});

scenario("an expiring token is renewed on the open connection", async (edge, open) => {
  await open({ token: ({ fresh }) => (fresh ? "new" : "old") }).opened();
  edge.sayAll({ type: "expiring", in_s: 30 });
  await until(() => edge.frames.length === 1);
  assert.deepEqual(edge.frames, [{ type: "token", token: "new" }]);
});

scenario("a newer token is tried again while there is time, whoever had none or could not check it", async (edge, open) => {
  let tries = 0;
  const token = ({ fresh }) => {
    if (fresh && (tries += 1) === 1) throw new Error("no session");
    return `try ${tries}`;
  };
  const page = await open({ token }).opened();
  edge.sayAll({ type: "expiring", in_s: 30 });
  await until(() => edge.frames.length === 1);
  edge.sayAll({ type: "error", code: "unavailable", message: "token" });
  await until(() => edge.frames.length === 2);
  edge.sayAll({ type: "expiring", in_s: 0.001 });
  await until(() => edge.frames.length === 3);
  edge.sayAll({ type: "error", code: "bad_token", message: "token" });
  edge.publish();
  await until(() => page.numbers.length === 1);
  assert.deepEqual(edge.frames.map(({ token }) => token), ["try 2", "try 3", "try 4"]);
  assert.deepEqual(page.told("error").map(({ code }) => code), ["token", "unavailable", "bad_token"]);
  assert.equal(edge.connects.length, 1);
});

scenario("a token that cannot be had is asked for again, and tells why", async (edge, open) => {
  let tries = 0;
  const token = async () => {
    if ((tries += 1) < 3) throw new Error("no session");
    return tries === 3 ? "" : "token";
  };
  const page = await open({ token }).opened();
  assert.match(page.told("error")[0].message, /no session/);
  assert.match(page.told("error")[2].message, /gave no token/);
  assert.equal(page.told("waiting").length, 3);
});

scenario("the pause that an edge names in bye is kept to", async (edge, open) => {
  const page = await open().opened();
  edge.sayAll({ type: "bye", reason: "draining", retry_after_ms: 37 });
  edge.endAll(4000);
  await until(() => page.told("waiting").length === 1);
  assert.equal(page.told("waiting")[0].retryInMs, 37);
  await page.opened(2);
});

scenario("probe ends a pause at once", async (edge, open) => {
  const page = await open().opened();
  edge.sayAll({ type: "bye", reason: "draining", retry_after_ms: 3_600_000 });
  edge.endAll(4000);
  await until(() => page.told("waiting").length === 1);
  page.client.probe();
  await page.opened(2);
});

scenario("silence for longer than the heartbeat is looked into, and a dead connection left", async (edge, open) => {
  edge.heartbeatS = 0.02;
  // The client may be back before the edge is: the frame that the dead edge let fall is missed after `welcomeMs`.
  const page = await open({ timeouts: { pongMs: 500, welcomeMs: 100 } }).opened();
  await until(() => edge.frames.filter(({ type }) => type === "ping").length >= 2);
  assert.equal(page.told("open").length, 1);
  edge.alive = false;
  await until(() => page.told("waiting").length === 1);
  assert.match(page.told("waiting")[0].reason, /ping/);
  edge.alive = true;
  await page.opened(2);
});

scenario("an edge that never welcomes is left", async (edge, open) => {
  edge.scenes = [() => {}];
  const page = await open({ timeouts: { welcomeMs: 20 } }).opened();
  assert.match(page.told("waiting")[0].reason, /welcome/);
});

for (const nonsense of ["{", "[]", "null", '{"type":"message"}']) {
  scenario(`what is no frame (${nonsense}) ends the connection, not the client`, async (edge, open) => {
    const page = await open().opened();
    edge.sayAll(nonsense);
    await page.opened(2);
    edge.sayAll({ type: "something new" });
    edge.publish();
    await until(() => page.numbers.length === 1);
    assert.equal(edge.connects.length, 2);
  });
}

scenario("the cursor follows when the handler is done, not before", async (edge, open) => {
  const cursors = memoryCursors({ "user:alice": 0 });
  let finish;
  const onMessage = () => new Promise((done) => (finish = done));
  edge.publish(2);
  const page = open({ cursors, onMessage });
  await until(() => finish !== undefined);
  const closed = page.client.close();
  assert.deepEqual(cursors.load(), { "user:alice": 0, all: 0 });
  finish();
  await closed;
  assert.deepEqual(cursors.load(), { "user:alice": 10, all: 0 });
});

scenario("a handler that throws ends the client, and its message comes again after the next start", async (edge, open) => {
  const given = [];
  const onMessage = async ({ body }) => {
    given.push(body.n);
    if (given.length === 2) throw new Error("poison");
  };
  const page = await open({ onMessage }).opened();
  edge.publish(3);
  await until(() => page.told("closed").length === 1);
  assert.match(page.told("error")[0].message, /m20: Error: poison/);
  assert.equal(page.told("error")[0].error.message, "poison");
  page.client.start();
  await until(() => given.length === 4);
  assert.deepEqual(given, [1, 2, 2, 3]);
});

scenario("what is not handled at close comes again after the next start, once", async (edge, open) => {
  const given = [];
  let hold = new Promise(() => {});
  const page = await open({ onMessage: ({ body }) => (given.push(body.n), hold), timeouts: { closeMs: 5 } }).opened();
  edge.publish(3);
  await until(() => given.length === 1);
  await page.client.close();
  hold = undefined;
  const again = await open({ onMessage: ({ body }) => (given.push(body.n), hold), cursors: memoryCursors({ "user:alice": 0 }) }).opened();
  await until(() => given.length === 4);
  assert.deepEqual(given, [1, 1, 2, 3]);
  assert.equal(again.client.backlog.messages, 0);
});

scenario("acks are cumulative and few: after 100 messages, after a second, at the end; none without a device", async (edge, open) => {
  const nameless = await open().opened();
  const page = await open({ device: "phone" }).opened();
  edge.publish(250);
  await until(() => page.numbers.length === 250 && nameless.numbers.length === 250);
  await until(() => edge.frames.length === 3);
  assert.deepEqual(edge.frames.map(({ seq }) => seq), [0, 1_000, 2_000]);
  await page.client.close();
  await until(() => edge.frames.length === 4);
  assert.deepEqual(edge.frames.at(-1), { type: "ack", seq: 2_500 });
});

scenario("a device without a cursor leaves it to the edge where to begin", async (edge, open) => {
  edge.publish(3);
  edge.devices.set("phone", 10);
  const page = await open({ device: "phone" }).opened();
  await until(() => page.numbers.length === 2);
  assert.deepEqual(page.numbers, [2, 3]);
  assert.equal(edge.connects[0].since, undefined);
});

scenario("what a device has not handled is not claimed at a reconnect, and still comes once", async (edge, open) => {
  edge.devices.set("phone", 0);
  const given = [];
  let finish;
  const onMessage = ({ body }) => (given.push(body.n), new Promise((done) => (finish = done)));
  edge.publish(3);
  const page = await open({ device: "phone", onMessage, timeouts: { closeMs: 5 } }).opened();
  await until(() => given.length === 1 && page.client.backlog.messages === 2);
  edge.endAll();
  await page.opened(2);
  assert.deepEqual([edge.connects[1].since, edge.devices.get("phone")], [undefined, 0]);
  finish();
  await until(() => given.length === 2);
  edge.endAll();
  await page.opened(3);
  assert.deepEqual(edge.connects[2].since, { user: 10 });
  finish();
  await until(() => given.length === 3);
  assert.deepEqual([given, page.client.backlog.messages], [[1, 2, 3], 0]);
});

scenario("cursors of another user end the client, before anything is passed over", async (edge, open) => {
  const page = open({ cursors: memoryCursors({ "user:bob": 10 }) });
  await until(() => page.told("closed").length === 1);
  assert.match(page.told("closed")[0].reason, /alice's, the cursors are those of user:bob/);
});

scenario("a slow handler costs bounded memory: the client stops reading and comes back for the rest", async (edge, open) => {
  edge.publish(500);
  const given = [];
  const onMessage = async ({ body }) => {
    given.push(body.n);
    await new Promise((done) => setImmediate(done));
    most = Math.max(most, page.client.backlog.messages);
  };
  let most = 0;
  const page = open({ onMessage, cursors: memoryCursors({ "user:alice": 0 }), backlog: { messages: 20 } });
  await until(() => given.length === 500);
  assert.deepEqual(given, upTo(500));
  assert.ok(most <= 20, `${most} messages waited`);
  assert.ok(page.told("paused").length > 0);
});

scenario("long messages are bounded by their length", async (edge, open) => {
  edge.publish(20, { text: "x".repeat(1_000) });
  let finish;
  const onMessage = () => new Promise((done) => (finish = done));
  const page = open({ onMessage, cursors: memoryCursors({ "user:alice": 0 }), backlog: { chars: 5_000 }, timeouts: { closeMs: 5 } });
  await until(() => page.told("paused").length === 1);
  assert.ok(page.client.backlog.chars < 7_000);
  finish();
});

scenario("iterating: a message is handled when the next is asked for; close ends the loop", async (edge, open) => {
  const cursors = memoryCursors();
  const page = open({ onMessage: undefined, cursors });
  const got = [];
  const reading = (async () => {
    for await (const message of page.client) {
      got.push(message.body.n);
      if (got.length === 3) page.client.close();
    }
  })();
  await page.opened();
  edge.publish(3);
  await reading;
  assert.deepEqual(got, [1, 2, 3]);
  assert.deepEqual(cursors.load(), { "user:alice": 30, all: 0 });
});

scenario("iterating: an edge that says not to come back is an error of the loop", async (edge, open) => {
  const page = await open({ onMessage: undefined }).opened();
  const next = page.client[Symbol.asyncIterator]().next();
  edge.endAll(4502, "replaced");
  await assert.rejects(next, (error) => error instanceof NotWelcome && error.code === 4502 && error.reason === "replaced");
});

scenario("a loop that was left goes on where it was", async (edge, open) => {
  const page = await open({ onMessage: undefined }).opened();
  edge.publish(3);
  for await (const message of page.client) if (message.body.n === 2) break;
  const again = page.client[Symbol.asyncIterator]();
  const { value } = await again.next();
  assert.equal(value.body.n, 3);
  await again.return();
});

scenario("transient messages come as they are, and move no cursor", async (edge, open) => {
  const page = await open().opened();
  edge.sayAll({ type: "message", to: "user:alice", id: "t1", ts: 1, body: { n: "t" } });
  edge.publish();
  await until(() => page.numbers.length === 2);
  assert.deepEqual(page.numbers, ["t", 1]);
});

scenario("lost and error frames are told, and the session goes on", async (edge, open) => {
  const page = await open().opened();
  edge.sayAll({ type: "lost", to: "user:alice", from: 1, until: 5 });
  edge.sayAll({ type: "error", code: "not_supported", message: "token: this version does not carry it out" });
  edge.publish();
  await until(() => page.numbers.length === 1);
  assert.deepEqual(page.told("lost"), [{ type: "lost", to: "user:alice", from: 1, until: 5 }]);
  assert.equal(page.told("error")[0].code, "not_supported");
});

scenario("cursors that cannot be read keep the client from beginning in the wrong place", async (edge, open) => {
  let tries = 0;
  const load = async () => {
    if ((tries += 1) < 3) throw new Error("locked");
    return { "user:alice": 10 };
  };
  edge.publish(3);
  const page = await open({ cursors: { load, save() {} } }).opened();
  await until(() => page.numbers.length === 2);
  assert.deepEqual(page.numbers, [2, 3]);
  assert.equal(page.told("error").length, 2);
});

scenario("without localStorage that is told once, and memory does for as long as the page lives", async (edge, open) => {
  const kept = Object.getOwnPropertyDescriptor(globalThis, "localStorage");
  // As browsers do it whose user refuses storage.
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get: () => { throw new Error("refused"); } });
  try {
    const cursors = localStorageCursors("alice");
    const page = await open({ cursors }).opened();
    edge.publish(3);
    await until(() => page.numbers.length === 3);
    edge.endAll();
    edge.publish();
    await until(() => page.numbers.length === 4);
    await page.client.close();
    assert.deepEqual(page.told("error").map(({ code }) => code), ["cursors"]);
    assert.match(page.told("error")[0].message, /no localStorage here.*refused/);
    assert.deepEqual(cursors.load(), { "user:alice": 40, all: 0 });
  } finally {
    delete globalThis.localStorage;
    if (kept !== undefined) Object.defineProperty(globalThis, "localStorage", kept);
  }
});

scenario("cursors that cannot be stored are told, and cost no message", async (edge, open) => {
  const save = async () => Promise.reject(new Error("full"));
  const page = await open({ cursors: { load: () => ({}), save } }).opened();
  edge.publish();
  await until(() => page.numbers.length === 1 && page.told("error").length >= 1);
  assert.match(page.told("error")[0].message, /full/);
});

test("options that cannot work are refused when the client is made", () => {
  assert.throws(() => new Client({ urls: [], token: () => "" }), /urls/);
  assert.throws(() => new Client({ urls: ["ws://x"] }), /token/);
  assert.throws(() => new Client({ urls: ["ws://x"], token: () => "", topics: ["two words"] }), /two words is no name/);
});
