// Frames that no edge sends: nothing is thrown, no cursor becomes what is none, and the next good message arrives.

import assert from "node:assert/strict";
import { test } from "node:test";

import { memoryCursors } from "../../edge/js/pushway.js";
import { FakeEdge, Page, until } from "./edge.mjs";

const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 150);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const FRAMES = [
  { type: "welcome", user: "alice", session: "s", node: "n", seq: 5, all: 6, heartbeat: 25 },
  { type: "message", to: "user:alice", seq: 20, id: "m", ts: 1, body: { n: 2 } },
  { type: "message", to: "all", id: "m", ts: 1, text: "hi" },
  { type: "message", to: "topic:news", seq: 30, id: "m", ts: 1, body: { n: 3 } },
  { type: "caught_up", to: "user:alice", seq: 40 },
  { type: "lost", to: "all", from: 1, until: 2 },
  { type: "subscribed", topic: "news", seq: 7 },
  { type: "subscribed", topic: "given", seq: 7 },
  { type: "unsubscribed", topic: "news" },
  { type: "members", topic: "news", users: ["alice", "bob"] },
  { type: "joined", topic: "news", user: "bob" },
  { type: "left", topic: "news", user: "bob" },
  { type: "expiring", in_s: 30 },
  { type: "extended", in_s: 30 },
  { type: "bye", reason: "draining", retry_after_ms: 1 },
  { type: "error", code: "unavailable", message: "m" },
  { type: "pong" },
  { type: "constructor" },
];
const VALUES = [null, true, -1, 0.5, 2 ** 53, 1e308, "", "user:bob", "user:alice", "topic:news", "all", "__proto__", [], [1], {}, { length: 1 }];
const TEXTS = ["", "null", "[]", "1", '"a"', "{", '{"type":null}', '{"type":{}}', '{"__proto__":{"type":"welcome"}}', "[".repeat(2_000)];

/** A small generator of numbers, the same for the same seed (mulberry32). */
function chance(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function mutant(draw) {
  if (draw(6) === 0) return TEXTS[draw(TEXTS.length)];
  const frame = { ...FRAMES[draw(FRAMES.length)] };
  const names = Object.keys(frame).filter((name) => name !== "type");
  for (let changes = draw(3); changes > 0 && names.length > 0; changes -= 1) {
    const name = names[draw(names.length)];
    if (draw(4) === 0) delete frame[name];
    else frame[name] = VALUES[draw(VALUES.length)];
  }
  return JSON.stringify(frame);
}

/** Frames of one session, behind its welcome or in its place. */
function play(edge, frames, instead) {
  edge.scenes.push((socket, connect) => {
    if (!instead) edge.welcome(socket, connect);
    for (const frame of frames) edge.say(socket, frame);
    setImmediate(() => edge.end(socket));
  });
}

function isCursor([to, seq]) {
  return typeof to === "string" && Number.isSafeInteger(seq) && seq >= 0;
}

/** Whether an edge was believed that asks to be left alone for a while. */
function isLong({ retryInMs }) {
  return retryInMs > 1_000;
}

test("frames that no edge sends do no harm that lasts", { timeout: 100_000 }, async () => {
  const draw = chance(SEED);
  const thrown = [];
  const note = (error) => thrown.push(error);
  process.on("uncaughtException", note);
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      const edge = new FakeEdge();
      const frames = Array.from({ length: 1 + draw(4) }, () => mutant(draw));
      play(edge, frames, draw(3) === 0);
      const kept = memoryCursors({});
      const device = draw(2) === 0 ? "phone" : undefined;
      const page = new Page(edge, { topics: ["news"], presence: ["news"], cursors: kept, device, onMessage: () => {} });
      const about = () => `FUZZ_SEED=${SEED}, round ${round}: ${frames.join("  ")} ${thrown.map((error) => error.stack)}`;
      const parted = () => edge.connects.length > 1 || page.told("closed").length > 0 || page.told("waiting").some(isLong);
      await until(() => thrown.length > 0 || parted(), about());
      await page.client.close();
      assert.equal(thrown.length, 0, about());
      const stored = Object.entries(await kept.load());
      const said = edge.connects.flatMap(({ since }) => Object.entries(since ?? {}));
      assert.ok([...stored, ...said].every(isCursor), `${about()} ${JSON.stringify([stored, said])}`);
    }
  } finally {
    process.off("uncaughtException", note);
  }
});
