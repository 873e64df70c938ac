// A model of an edge without a network: it keeps one user's messages, and plays the other end of every WebSocket.
// What the real one does is tested in tests/e2e/test_js_client.py; here a test can have any frame and any end at any moment.

import { Client } from "../../edge/js/pushway.js";

export const HEARTBEAT_S = 25;

/** Return when the condition holds; looked at again and again, so that nothing waits for a fixed time. */
export async function until(condition, what = String(condition), withinMs = 8_000) {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

export class FakeEdge {
  /** What the user has been sent so far, in order. */
  messages = [];
  /** The connect frame of every connection. */
  connects = [];
  /** Every other frame of clients. */
  frames = [];
  sockets = new Set();
  /** Device → cursor, as the cluster keeps it. */
  devices = new Map();
  /** Whether frames are taken and answered; a dead connection is one where neither end learns of it. */
  alive = true;
  /** What to do instead of welcoming: a function of the socket, one for each of the next connections. */
  scenes = [];
  heartbeatS = HEARTBEAT_S;

  get head() {
    return this.messages.at(-1)?.seq ?? 0;
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
      const seq = this.head + 10;
      const message = { type: "message", to: "user:alice", seq, id: `m${seq}`, ts: 1, body: { n: seq / 10 }, ...more };
      this.messages.push(message);
      for (const socket of this.sockets) if (socket.live) this.say(socket, message);
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
    socket.live = false;
    this.sockets.delete(socket);
    socket.onclose?.({ code, reason });
  }

  endAll(code, reason) {
    for (const socket of [...this.sockets]) this.end(socket, code, reason);
  }

  /** Welcome a client, and begin where it says; else behind its device's cursor, which for a new device is the head. */
  welcome(socket, { since, device }) {
    const welcome = { type: "welcome", user: "alice", session: "s", node: "edge-1.x", seq: this.head, heartbeat: this.heartbeatS };
    this.say(socket, welcome);
    socket.device = device;
    if (device !== undefined) this.devices.set(device, since?.user ?? this.devices.get(device) ?? this.head);
    const begin = since?.user ?? this.devices.get(device);
    if (begin !== undefined) this.#replay(socket, begin);
    socket.live = true;
  }

  #replay(socket, since) {
    for (const message of this.messages) if (message.seq > since) this.say(socket, message);
    this.say(socket, { type: "caught_up", to: "user:alice", seq: Math.max(this.head, since) });
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
      if (frame.type === "ack") this.devices.set(socket.device, Math.max(frame.seq, this.devices.get(socket.device)));
      if (frame.type === "ping") this.say(socket, { type: "pong" });
      return;
    }
    this.connects.push(frame);
    const scene = this.scenes.shift();
    if (scene !== undefined) scene(socket, frame);
    else this.welcome(socket, frame);
  }
}

/** A page: a client, and what its application was given. */
export class Page {
  numbers = [];
  statuses = [];

  constructor(edge, options = {}) {
    this.client = new Client({
      urls: ["ws://one", "ws://two"],
      token: () => "token",
      WebSocket: edge.WebSocket,
      onMessage: (message) => void this.numbers.push(message.body.n),
      onStatus: (status) => this.statuses.push(status),
      pauses: { minMs: 1, maxMs: 3 },
      ...options,
    });
    this.client.start();
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
