// An origin for pages that share a connection. Node's BroadcastChannel and Web Locks play the browser's; "a page crashes" is
// played by locks and a channel that are taken away from it without a word.

import { test } from "node:test";

import { FakeEdge, Page, until } from "./edge.mjs";

let origins = 0;

/** The Web Locks of one origin: as in the specification, as far as the client uses them; a page's share can be cut off. */
class Locks {
  #queues = new Map();

  /** Return what a page calls `navigator.locks`, and how it ends. */
  page() {
    const held = new Set();
    const request = (name, options, callback) => this.#request(held, name, options, callback);
    const crash = () => {
      for (const ticket of held) ticket.drop();
    };
    return { locks: { request }, crash };
  }

  #request(held, name, { signal, steal = false }, callback) {
    const queue = this.#queues.get(name) ?? this.#queues.set(name, []).get(name);
    return new Promise((resolve, reject) => {
      const ticket = { callback, resolve, reject, granted: false };
      ticket.drop = () => {
        held.delete(ticket);
        const place = queue.indexOf(ticket);
        if (place >= 0) queue.splice(place, 1);
        this.#grant(queue);
      };
      held.add(ticket);
      const refuse = () => {
        if (ticket.granted) return;
        ticket.drop();
        reject(new DOMException("aborted", "AbortError"));
      };
      if (signal?.aborted) return refuse();
      signal?.addEventListener("abort", refuse);
      if (!steal) queue.push(ticket);
      else {
        const robbed = queue.shift();
        robbed?.reject(new DOMException("stolen", "AbortError"));
        queue.unshift(ticket);
      }
      this.#grant(queue);
    });
  }

  #grant(queue) {
    const [first] = queue;
    if (first === undefined || first.granted) return;
    first.granted = true;
    setImmediate(async () => {
      const result = await first.callback();
      first.drop();
      first.resolve(result);
    });
  }
}

/** A test with an edge and an origin of its own. */
export function scenario(name, play) {
  test(name, { timeout: 30_000 }, async () => {
    const edge = new FakeEdge();
    const locks = new Locks();
    const shared = `origin-${(origins += 1)}`;
    const pages = [];
    const open = (options = {}) => {
      const mine = locks.page();
      const timeouts = { answerMs: 30, ...options.timeouts };
      const page = new Page(edge, { shared, locks: mine.locks, device: "browser", ...options, timeouts });
      page.crash = () => crash(page, mine, edge);
      pages.push(page);
      return page;
    };
    try {
      await play(edge, open);
    } finally {
      await Promise.all(pages.map((page) => page.client.close()));
      for (const page of pages) page.channel?.close();
    }
  });
}

/** Have a page vanish: its locks are free and its connection is cut, and it says nothing more. */
function crash(page, { crash: free }, edge) {
  page.given = [...page.numbers];
  const leads = page.client.role === "leader";
  page.channel.asleep = true;
  if (leads) edge.endAll();
  free();
  page.client.close(); // of which nobody hears any more
}

// A page that crashed or sleeps neither hears nor speaks: its channel is found as it is made.
const channels = [];
globalThis.BroadcastChannel = class extends globalThis.BroadcastChannel {
  asleep = false;

  constructor(name) {
    super(name);
    channels.push(this);
  }

  set onmessage(hear) {
    this.addEventListener("message", (event) => this.asleep || hear(event));
  }

  postMessage(message) {
    if (!this.asleep) super.postMessage(message);
  }
};

/** Return when a page has its role, and a session is open. */
export async function joined(page) {
  await until(() => page.client.role === "leader" || page.client.role === "follower");
  page.channel ??= channels.at(-1);
  await page.opened();
  return page;
}

/** Numbers from 0 up to 1 that are the same for a seed (mulberry32). */
export function randoms(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
