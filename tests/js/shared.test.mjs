// Pages of one origin that share a connection.

import assert from "node:assert/strict";
import { test } from "node:test";

import { memoryCursors } from "../../edge/js/pushway.js";
import { Page, FakeEdge, until, upTo } from "./edge.mjs";
import { joined, randoms, scenario } from "./origin.mjs";

scenario("two pages have one connection, and each gets every message once", async (edge, open) => {
  const first = await joined(open());
  const second = await joined(open());
  edge.publish(3);
  await until(() => first.numbers.length === 3 && second.numbers.length === 3);
  assert.deepEqual([first.numbers, second.numbers], [upTo(3), upTo(3)]);
  assert.equal(edge.connects.length, 1);
  assert.deepEqual([first.client.role, second.client.role], ["leader", "follower"]);
});

scenario("the leader renews the token of the connection that pages share", async (edge, open) => {
  const asked = [];
  const token = (page) => ({ fresh }) => (asked.push([page, fresh]), `of ${page}`);
  await joined(open({ token: token("first") }));
  const second = await joined(open({ token: token("second") }));
  edge.sayAll({ type: "expiring", in_s: 30 });
  const sent = () => edge.frames.filter(({ type }) => type === "token");
  await until(() => sent().length === 1);
  edge.publish();
  await until(() => second.numbers.length === 1);
  assert.deepEqual(asked, [["first", false], ["first", true]]);
  assert.deepEqual(sent(), [{ type: "token", token: "of first" }]);
  assert.equal(edge.connects.length, 1);
});

scenario("a page that comes later begins with what comes then", async (edge, open) => {
  const first = await joined(open());
  edge.publish(3);
  await until(() => first.numbers.length === 3);
  const second = await joined(open());
  edge.publish();
  await until(() => second.numbers.length === 1);
  assert.deepEqual(second.numbers, [4]);
  assert.equal(edge.connects.length, 1);
});

scenario("a page that comes with an older cursor gets what it lacks from the leader's memory", async (edge, open) => {
  const first = await joined(open());
  edge.publish(5);
  await until(() => first.numbers.length === 5);
  const second = await joined(open({ cursors: memoryCursors({ "user:alice": 20 }) }));
  await until(() => second.numbers.length === 3);
  assert.deepEqual(second.numbers, [3, 4, 5]);
  assert.equal(edge.connects.length, 1);
});

scenario("what the leader does not remember is asked of the edge again, and the others drop it", async (edge, open) => {
  edge.publish(5);
  const first = await joined(open());
  const second = await joined(open({ cursors: memoryCursors({ "user:alice": 20 }) }));
  edge.publish();
  await until(() => second.numbers.length === 4 && first.numbers.length === 1);
  assert.deepEqual([first.numbers, second.numbers], [[6], [3, 4, 5, 6]]);
  assert.deepEqual(edge.connects.at(-1).since, { user: 20 });
});

for (const how of ["close", "crash"]) {
  scenario(`when the leader's page ends (${how}), the next goes on where it was`, async (edge, open) => {
    const first = await joined(open());
    const [second, third] = [await joined(open()), await joined(open())];
    edge.publish(3);
    await until(() => second.numbers.length === 3 && third.numbers.length === 3);
    if (how === "close") await first.client.close();
    else first.crash();
    edge.publish(2);
    await until(() => second.numbers.length === 5 && third.numbers.length === 5);
    edge.publish();
    await until(() => second.numbers.length === 6 && third.numbers.length === 6);
    assert.deepEqual([second.numbers, third.numbers], [upTo(6), upTo(6)]);
    assert.deepEqual([second.client.role, third.client.role].sort(), ["follower", "leader"]);
    assert.deepEqual(edge.connects[1].since, { user: 30 });
  });
}

// 136: a page slept through a change of the lead.
for (const seed of [1, 2, 3, 4, 5, 6, 7, 136]) {
  scenario(`pages come, close, crash and sleep while messages flow: each has its own without a gap, once (seed ${seed})`, async (edge, open) => {
    const random = randoms(seed);
    const one = (list) => list[Math.floor(random() * list.length)];
    const pages = [await joined(open())];
    const ended = [];
    const end = async (how) => {
      if (pages.length === 1) return;
      const [page] = pages.splice(Math.floor(random() * pages.length), 1);
      ended.push(page);
      if (how === "crash") page.crash();
      else await page.client.close();
    };
    const deeds = {
      come: async () => pages.length < 6 && pages.push(await joined(open({ backlog: { messages: one([3, 1_000]) } }))),
      close: () => end("close"),
      crash: () => end("crash"),
      sleep: () => (one(pages).channel.asleep = true),
      wake: () => pages.forEach((page) => (page.channel.asleep = false)),
      cut: () => edge.endAll(),
      breathe: () => new Promise((done) => setTimeout(done, random() * 10)),
    };
    for (let round = 0; round < 60; round += 1) {
      edge.publish(Math.floor(random() * 4));
      await deeds[one(Object.keys(deeds).filter((deed) => deed !== "come" || pages.every(({ channel }) => !channel.asleep)))]();
      edge.publish(Math.floor(random() * 4));
    }
    deeds.wake();
    edge.publish();
    const last = edge.head / 10;
    await until(() => pages.every(({ numbers }) => numbers.at(-1) === last), "all have the last message");
    for (const { numbers } of pages) assert.deepEqual(numbers, upTo(last, numbers[0]));
    for (const { given, numbers } of ended) {
      const had = given ?? numbers;
      assert.deepEqual(had, had.length === 0 ? [] : upTo(had.at(-1), had[0]));
    }
  });
}

scenario("what is stored and acknowledged is what every page has handled", async (edge, open) => {
  const cursors = memoryCursors();
  const first = await joined(open({ cursors }));
  let finish;
  const slow = await joined(open({ onMessage: () => new Promise((done) => (finish = done)), timeouts: { closeMs: 5 } }));
  edge.publish(3);
  await until(() => first.numbers.length === 3 && finish !== undefined);
  await until(() => slow.client.backlog.messages === 2);
  assert.equal(cursors.load()["user:alice"] ?? 0, 0);
  finish();
  await until(() => cursors.load()["user:alice"] === 10, "the slow page's progress");
  assert.deepEqual(edge.frames.filter(({ type }) => type === "ack").map(({ seq }) => seq).at(-1), 10);
  slow.crash();
  await until(() => cursors.load()["user:alice"] === 30, "the crashed page holds nobody back");
  await until(() => edge.frames.filter(({ type }) => type === "ack").at(-1).seq === 30, "its ack");
});

scenario("a slow page holds up no other, is bounded, and gets all of it in the end", async (edge, open) => {
  const quick = await joined(open());
  const given = [];
  const slow = await joined(
    open({
      backlog: { messages: 10 },
      onMessage: async ({ body }) => {
        given.push(body.n);
        await new Promise((done) => setTimeout(done, 1));
      },
    }),
  );
  for (let round = 0; round < 30; round += 1) {
    edge.publish(10);
    await until(() => quick.numbers.length === (round + 1) * 10);
    assert.ok(slow.client.backlog.messages <= 210, `${slow.client.backlog.messages} wait`);
  }
  await until(() => given.length === 300);
  assert.deepEqual(given, upTo(300));
  assert.deepEqual(quick.numbers, upTo(300));
});

scenario("an edge that says not to come back says so to every page, and none tries", async (edge, open) => {
  const pages = [await joined(open()), await joined(open()), await joined(open())];
  edge.endAll(4502, "replaced");
  await until(() => pages.every((page) => page.told("closed").length === 1));
  assert.equal(edge.connects.length, 1);
  assert.deepEqual(pages.map(({ client }) => client.role), [null, null, null]);
});

scenario("a handler that fails in the leader's page ends that page only", async (edge, open) => {
  const onMessage = () => {
    throw new Error("poison");
  };
  const first = await joined(open({ onMessage }));
  const second = await joined(open());
  edge.publish();
  await until(() => second.numbers.length === 1 && second.client.role === "leader");
  assert.equal(first.client.role, null);
  edge.publish();
  await until(() => second.numbers.length === 2);
});

scenario("a leader that holds the lock and does not answer loses the lead; awake again it follows", async (edge, open) => {
  const first = await joined(open());
  const second = await joined(open());
  first.channel.asleep = true;
  second.client.probe();
  await until(() => second.client.role === "leader", "the second leads");
  first.channel.asleep = false;
  edge.publish(3);
  await until(() => first.numbers.length === 3 && second.numbers.length === 3);
  assert.equal(first.client.role, "follower");
});

scenario("a page that missed a word of the leader notices, and gets it", async (edge, open) => {
  const first = await joined(open());
  const second = await joined(open());
  second.channel.asleep = true;
  edge.publish(2);
  await until(() => first.numbers.length === 2);
  // Everything posted so far has been thrown away when a message to ourselves has come.
  await new Promise((done) => setTimeout(done, 20));
  second.channel.asleep = false;
  edge.publish();
  await until(() => second.numbers.length === 3);
  assert.deepEqual(second.numbers, [1, 2, 3]);
  assert.equal(edge.connects.length, 1);
});

scenario("looking at a page has the leader's connection checked", async (edge, open) => {
  await joined(open());
  const second = await joined(open());
  second.client.probe();
  await until(() => edge.frames.some(({ type }) => type === "ping"));
});

test("without Web Locks each page has a connection of its own, and no device, as which they would end each other", async () => {
  const edge = new FakeEdge();
  const locks = null;
  const pages = [1, 2].map(() => new Page(edge, { shared: "nobody", locks, device: "browser" }));
  try {
    await Promise.all(pages.map((page) => page.opened()));
    assert.deepEqual(pages.map(({ client }) => client.role), ["alone", "alone"]);
    assert.deepEqual(edge.connects.map(({ device }) => device), [undefined, undefined]);
  } finally {
    await Promise.all(pages.map(({ client }) => client.close()));
  }
});
