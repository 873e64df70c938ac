// A test of pages that share nothing.

import { test } from "node:test";

import { FakeEdge, Page } from "./edge.mjs";

/** A test with an edge of its own, whose pages are closed at the end, or nothing would end. */
export function scenario(name, play) {
  test(name, { timeout: 20_000 }, async () => {
    const edge = new FakeEdge();
    const pages = [];
    const open = (options) => (pages.push(new Page(edge, options)), pages.at(-1));
    try {
      await play(edge, open);
    } finally {
      await Promise.all(pages.map((page) => page.client.close()));
    }
  });
}
