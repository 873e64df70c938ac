// A model of an edge without a network: it keeps the messages of one user, of topics and of all, and plays the other end of every
// WebSocket.
// What the real one does is tested in tests/e2e/test_js_client.py; here a test can have any frame and any end at any moment.

import assert from "node:assert/strict";

import { Client } from "../../edge/js/pushway.js";

export const HEARTBEAT_S = 25;
const OWN = "user:alice";

/** Return when the condition holds; looked at again and again, so that nothing waits for a fixed time. */
export async function until(condition, what = String(condition), withinMs = 8_000) {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

/** Return when a page has had these of a target, and see that it has had no others. */
export async function had(page, to, numbers) {
  await until(() => page.of(to).length >= numbers.length, `${numbers} of ${to}`);
  assert.deepEqual(page.of(to), numbers);
}

export class FakeEdge {
  /** What has been sent so far, in the order of each target. */
  messages = [];
  /** The topics that a back end has subscribed the user to. */
  standing = new Set();
  /** Topic → who hears it besides the client's user. */
  members = new Map();
  /** The topics that the token does not grant. */
  forbidden = new Set();
  /** The connect frame of every connection. */
  connects = [];
  /** Every other frame of clients. */
  frames = [];
  sockets = new Set();
  /** Device → cursor of the user's own, and `<device> <target>` → cursor of another target, as the cluster keeps them. */
  devices = new Map();
  /** Whether frames are taken and answered; a dead connection is one where neither end learns of it. */
  alive = true;
  /** What to do instead of welcoming: a function of the socket, one for each of the next connections. */
  scenes = [];
  heartbeatS = HEARTBEAT_S;

  get head() {
    return this.headOf(OWN);
  }

  headOf(to) {
    return this.messages.findLast((message) => message.to === to)?.seq ?? 0;
  }

  /** The WebSocket constructor for a client. */
  get WebSocket() {
    const edge = this;
    return class FakeSocket {
      readyState = 0;
      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        setImmediate(() => edge.#opened(this));
      }
      send(text) {
        setImmediate(() => edge.#heard(this, JSON.parse(text)));
      }
      close(code) {
        this.readyState = 2;
        setImmediate(() => edge.end(this, code));
      }
    };
  }

  publish(count = 1, more = {}) {
    for (let i = 0; i < count; i += 1) {
      const to = more.to ?? OWN;
      const seq = this.headOf(to) + 10;
      const message = { type: "message", to, seq, id: `m${seq}`, ts: 1, body: { n: seq / 10 }, ...more };
      this.messages.push(message);
      for (const socket of this.sockets) if (socket.hears?.has(to)) this.say(socket, message);
    }
  }

  say(socket, frame) {
    if (this.alive && socket.readyState === 1) socket.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  sayAll(frame) {
    for (const socket of this.sockets) this.say(socket, frame);
  }

  /** End a connection: with a close code, or 1006 for a cut. */
  end(socket, code = 1006, reason = "") {
    if (socket.readyState === 3) return;
    socket.readyState = 3;
    socket.hears = undefined;
    this.sockets.delete(socket);
    socket.onclose?.({ code, reason });
  }

  endAll(code, reason) {
    for (const socket of [...this.sockets]) this.end(socket, code, reason);
  }

  /** Welcome a client, and begin where it says; else behind its device's cursors, which for a new device are the heads. */
  welcome(socket, { since = {}, device, topics = [] }, more = { all: this.headOf("all") }) {
    const welcome = { type: "welcome", user: "alice", session: "s", node: "edge-1.x", seq: this.head, heartbeat: this.heartbeatS };
    this.say(socket, { ...welcome, ...more });
    Object.assign(socket, { device, since: { ...since }, hears: new Set(), watches: new Set() });
    this.#begin(socket, OWN, since.user);
    this.#begin(socket, "all", since.all);
    for (const topic of topics) this.#subscribe(socket, { topic });
    setImmediate(() => this.#give(socket));
  }

  /** Subscribe the user to a topic. */
  give(topic) {
    this.standing.add(topic);
    for (const socket of this.sockets) this.#give(socket);
  }

  /** End a topic in all sessions. */
  takeAway(topic) {
    this.standing.delete(topic);
    for (const socket of this.sockets) if (socket.hears?.has(`topic:${topic}`)) this.#unsubscribe(socket, { topic });
  }

  #give(socket) {
    for (const topic of this.standing) if (socket.hears && !socket.hears.has(`topic:${topic}`)) this.#subscribe(socket, { topic });
  }

  #begin(socket, to, since) {
    const cursor = cursorOf(socket, to);
    if (socket.device !== undefined) this.devices.set(cursor, since ?? this.devices.get(cursor) ?? this.headOf(to));
    const begin = since ?? this.devices.get(cursor);
    if (begin !== undefined) this.#replay(socket, to, begin, to !== "all" || since !== undefined);
    socket.hears.add(to);
  }

  #replay(socket, to, since, announce) {
    const missed = this.messages.filter((message) => message.to === to && message.seq > since);
    for (const message of missed) this.say(socket, message);
    if (announce || missed.length > 0) this.say(socket, { type: "caught_up", to, seq: Math.max(this.headOf(to), since) });
  }

  /** Have a user subscribe to a topic elsewhere, or leave it. */
  come(topic, user, type = "joined") {
    const members = this.members.get(topic) ?? new Set();
    this.members.set(topic, members);
    if (type === "joined") members.add(user);
    else members.delete(user);
    for (const socket of this.sockets) if (socket.watches?.has(topic)) this.say(socket, { type, topic, user });
  }

  #subscribe(socket, { topic, since, presence }) {
    if (socket.hears === undefined) return;
    if (this.forbidden.has(topic) && !this.standing.has(topic)) return this.say(socket, { type: "error", code: "forbidden", message: `not granted: ${topic}` });
    const to = `topic:${topic}`;
    this.say(socket, { type: "subscribed", topic, seq: this.headOf(to) });
    if (!socket.hears.has(to)) this.#begin(socket, to, since ?? socket.since[to]);
    delete socket.since[to];
    if (!presence) return;
    socket.watches.add(topic);
    this.say(socket, { type: "members", topic, users: ["alice", ...(this.members.get(topic) ?? [])] });
  }

  #unsubscribe(socket, { topic }) {
    socket.hears?.delete(`topic:${topic}`);
    socket.watches?.delete(topic);
    this.say(socket, { type: "unsubscribed", topic });
  }

  /** An ack of what is not heard is a client's mistake: it is told so. */
  #ack(socket, { to = OWN, seq }) {
    const cursor = cursorOf(socket, to);
    if (!socket.hears?.has(to)) this.say(socket, { type: "error", code: "bad_ack", message: to });
    else this.devices.set(cursor, Math.max(seq, this.devices.get(cursor)));
  }

  #opened(socket) {
    if (socket.readyState !== 0) return;
    socket.readyState = 1;
    this.sockets.add(socket);
    socket.onopen?.();
  }

  #heard(socket, frame) {
    if (!this.alive || socket.readyState > 2) return;
    if (frame.type !== "connect") {
      this.frames.push(frame);
      if (frame.type === "ack") this.#ack(socket, frame);
      if (frame.type === "subscribe") this.#subscribe(socket, frame);
      if (frame.type === "unsubscribe") this.#unsubscribe(socket, frame);
      if (frame.type === "ping") this.say(socket, { type: "pong" });
      return;
    }
    this.connects.push(frame);
    const scene = this.scenes.shift();
    if (scene !== undefined) scene(socket, frame);
    else this.welcome(socket, frame);
  }
}

function cursorOf({ device }, to) {
  return to === OWN ? device : `${device} ${to}`;
}

/** A page: a client, and what its application was given. */
export class Page {
  numbers = [];
  messages = [];
  statuses = [];

  constructor(edge, options = {}) {
    this.client = new Client({
      urls: ["ws://one", "ws://two"],
      token: () => "token",
      WebSocket: edge.WebSocket,
      onMessage: (message) => {
        this.messages.push(message);
        this.numbers.push(message.body.n);
      },
      onStatus: (status) => this.statuses.push(status),
      pauses: { minMs: 1, maxMs: 3 },
      ...options,
    });
    this.client.start();
  }

  /** The numbers of a target's messages. */
  of(to) {
    return this.messages.filter((message) => message.to === to).map(({ body }) => body.n);
  }

  told(type) {
    return this.statuses.filter((status) => status.type === type);
  }

  async opened(times = 1) {
    await until(() => this.told("open").length >= times, "open");
    return this;
  }
}

/** 1, 2 … last. */
export function upTo(last, first = 1) {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
