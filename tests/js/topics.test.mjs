// Topics and `all` in one client: where they begin, what comes after a cut, and what becomes of a topic that is wanted no longer.

import assert from "node:assert/strict";

import { memoryCursors } from "../../edge/js/pushway.js";
import { scenario } from "./alone.mjs";
import { had, until, upTo } from "./edge.mjs";

const NEWS = "topic:news";
const SPORT = "topic:sport";

function subscribed(page, times = 1) {
  return until(() => page.told("subscribed").length >= times, "subscribed");
}

scenario("each target has its own order, and goes on after a cut with nothing missed and nothing twice", async (edge, open) => {
  for (const to of [NEWS, "all"]) edge.publish(2, { to });
  const page = await open({ topics: ["news"] }).opened();
  await subscribed(page);
  edge.publish(2);
  for (const to of [NEWS, "all"]) edge.publish(1, { to });
  await had(page, NEWS, [3]);
  edge.endAll();
  for (const to of [NEWS, "all", "user:alice"]) edge.publish(2, { to });
  await subscribed(page, 2);
  for (const to of [NEWS, "all"]) await had(page, to, [3, 4, 5]);
  await had(page, "user:alice", upTo(4));
  assert.deepEqual(edge.connects.map(({ topics }) => topics), [["news"], ["news"]]);
  assert.deepEqual([edge.connects[0].since, edge.connects[1].since], [undefined, { user: 20, all: 30, [NEWS]: 30 }]);
});

scenario("who never had a message of a topic or all misses none that come after the first answer", async (edge, open) => {
  for (const to of [NEWS, "all"]) edge.publish(4, { to });
  const page = await open({ topics: ["news"] }).opened();
  await subscribed(page);
  edge.endAll();
  for (const to of [NEWS, "all"]) edge.publish(1, { to });
  for (const to of [NEWS, "all"]) await had(page, to, [5]);
});

scenario("an edge that knows of no topics gives no head of all, and is no trouble", async (edge, open) => {
  edge.scenes = [(socket, frame) => edge.welcome(socket, frame, {})];
  const page = await open().opened();
  edge.endAll();
  await page.opened(2);
  edge.publish(1, { to: "all" });
  await had(page, "all", [1]);
  assert.deepEqual(edge.connects[1].since, { user: 0 });
});

scenario("subscribed in an open session it is heard at once; otherwise with the next connect", async (edge, open) => {
  edge.publish(3, { to: SPORT });
  const page = open();
  page.client.subscribe("news");
  await subscribed(page);
  page.client.subscribe("sport", { since: 10 });
  await had(page, SPORT, [2, 3]);
  assert.deepEqual(edge.connects[0].topics, ["news"]);
  assert.deepEqual(edge.frames, [{ type: "subscribe", topic: "sport", since: 10 }]);
  edge.endAll();
  await page.opened(2);
  assert.deepEqual(edge.connects[1].topics, ["news", "sport"]);
  assert.deepEqual(page.told("subscribed").slice(0, 2), [
    { type: "subscribed", topic: "news", seq: 0 },
    { type: "subscribed", topic: "sport", seq: 30 },
  ]);
});

scenario("subscribed between the connect frame and the welcome, a topic is asked for behind the welcome", async (edge, open) => {
  let welcome;
  edge.scenes = [(socket, frame) => (welcome = () => edge.welcome(socket, frame))];
  const page = open({ topics: ["sport"] });
  await until(() => welcome !== undefined);
  page.client.subscribe("news");
  page.client.unsubscribe("sport");
  assert.deepEqual(edge.frames, []);
  welcome();
  await until(() => edge.frames.length === 2);
  assert.deepEqual(edge.frames, [{ type: "unsubscribe", topic: "sport" }, { type: "subscribe", topic: "news" }]);
  edge.publish(1, { to: SPORT });
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [1]);
  assert.deepEqual([page.of(SPORT), page.told("subscribed").map(({ topic }) => topic)], [[], ["news"]]);
});

scenario("an unsubscribed topic is silent at once, whatever is on its way, and begins anew when it is wanted again", async (edge, open) => {
  const cursors = memoryCursors();
  const page = await open({ topics: ["news"], cursors }).opened();
  await subscribed(page);
  edge.publish(2, { to: NEWS });
  await had(page, NEWS, [1, 2]);
  page.client.unsubscribe("news");
  assert.deepEqual(page.told("unsubscribed"), [{ type: "unsubscribed", topic: "news" }]);
  assert.equal(NEWS in cursors.load(), false);
  edge.publish(3, { to: NEWS });
  page.client.subscribe("news");
  edge.publish(3, { to: NEWS });
  await subscribed(page, 2);
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [1, 2, 9]);
  await until(() => page.client.backlog.messages === 0);
  page.client.unsubscribe("news");
  edge.endAll();
  await page.opened(2);
  assert.deepEqual([edge.connects[1].topics, edge.connects[1].since], [undefined, { user: 0, all: 0 }]);
});

scenario("an answer that a cut has swallowed is not waited for", async (edge, open) => {
  const page = await open({ topics: ["news"] }).opened();
  await subscribed(page);
  page.client.unsubscribe("news");
  page.client.subscribe("news");
  edge.endAll();
  await subscribed(page, 2);
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [1]);
});

scenario("what waits or is in hand of an unsubscribed topic moves no cursor", async (edge, open) => {
  const given = [];
  let finish;
  const onMessage = ({ to, body }) => (given.push([to, body.n]), new Promise((done) => (finish = done)));
  const cursors = memoryCursors();
  const page = await open({ onMessage, cursors, topics: ["news"] }).opened();
  await subscribed(page);
  edge.publish(3, { to: NEWS });
  edge.publish(1);
  await until(() => page.client.backlog.messages === 3);
  page.client.unsubscribe("news");
  assert.equal(page.client.backlog.messages, 1);
  page.client.subscribe("news", { since: 0 });
  finish();
  await until(() => given.length === 2);
  const closed = page.client.close();
  finish();
  await closed;
  assert.deepEqual(given, [[NEWS, 1], ["user:alice", 1]]);
  assert.deepEqual(cursors.load(), { "user:alice": 10, all: 0, [NEWS]: 0 });
});

scenario("a topic that is refused is told, and asked for again with the next connect", async (edge, open) => {
  edge.forbidden.add("news");
  const page = await open({ topics: ["news", "sport"] }).opened();
  await subscribed(page);
  assert.equal(page.told("error")[0].code, "forbidden");
  edge.forbidden.clear();
  edge.endAll();
  await subscribed(page, 3);
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [1]);
});

scenario("a topic that is refused is asked for again with a newer token, and no other", async (edge, open) => {
  edge.forbidden.add("news");
  const page = await open({ topics: ["news", "sport"] }).opened();
  await subscribed(page);
  edge.forbidden.clear();
  edge.sayAll({ type: "expiring", in_s: 30 });
  await until(() => edge.frames.length === 1);
  edge.sayAll({ type: "extended", in_s: 3600 });
  await subscribed(page, 2);
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [1]);
  assert.deepEqual(edge.frames, [{ type: "token", token: "token" }, { type: "subscribe", topic: "news" }]);
  assert.equal(edge.connects.length, 1);
});

scenario("a topic that a newer token does not grant is over until one does", async (edge, open) => {
  const page = await open({ topics: ["news"] }).opened();
  await subscribed(page);
  edge.sayAll({ type: "extended", in_s: 3600 });
  edge.takeAway("news");
  edge.sayAll({ type: "extended", in_s: 3600 });
  await subscribed(page, 2);
  assert.equal(page.told("unsubscribed").length, 1);
  assert.deepEqual(edge.frames.map(({ type }) => type), ["subscribe"]);
});

scenario("a device goes on where the edge has it, and acknowledges each target, none before it is heard", async (edge, open) => {
  for (const to of [NEWS, "all"]) edge.publish(3, { to });
  for (const to of [NEWS, "all"]) edge.devices.set(`phone ${to}`, 10);
  edge.devices.set("phone", 0);
  const page = await open({ device: "phone", topics: ["news"] }).opened();
  for (const to of [NEWS, "all"]) await had(page, to, [2, 3]);
  edge.endAll();
  for (const to of [NEWS, "all"]) edge.publish(1, { to });
  for (const to of [NEWS, "all"]) await had(page, to, [2, 3, 4]);
  assert.deepEqual(edge.connects[1].since, { user: 0, all: 30, [NEWS]: 30 });
  page.client.unsubscribe("news");
  await until(() => edge.devices.get(`phone ${NEWS}`) === 40);
  page.client.subscribe("news");
  await subscribed(page, 3);
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [2, 3, 4, 5]);
  await page.client.close();
  await until(() => edge.devices.get("phone all") === 40 && edge.devices.get(`phone ${NEWS}`) === 50, "the last acks");
  assert.deepEqual(page.told("error"), []);
});

scenario("no more is acknowledged on a connection than has come on it", async (edge, open) => {
  const finishes = [];
  const onMessage = () => new Promise((done) => finishes.push(done));
  const page = await open({ device: "phone", topics: ["news"], onMessage }).opened();
  await subscribed(page);
  edge.publish(1, { to: NEWS });
  await until(() => finishes.length === 1);
  let socket;
  edge.scenes = [(fresh) => edge.say((socket = fresh), { type: "welcome", user: "alice", seq: 0, all: 0, heartbeat: 25 })];
  edge.endAll();
  await page.opened(2);
  const acks = edge.frames.length;
  finishes[0]();
  await new Promise((done) => setTimeout(done, 1_100)); // REPORT_MS, and what it reports is nothing
  assert.equal(edge.frames.length, acks);
  socket.hears = new Set([NEWS]);
  socket.device = "phone";
  edge.say(socket, { type: "caught_up", to: NEWS, seq: 10 });
  await until(() => edge.devices.get(`phone ${NEWS}`) === 10);
});

scenario("stored cursors serve topics that are wanted later, too, and stay until they are not", async (edge, open) => {
  for (const to of [NEWS, SPORT]) edge.publish(3, { to });
  const cursors = memoryCursors({ "user:alice": 0, all: 0, [NEWS]: 10, [SPORT]: 20 });
  const page = await open({ cursors, topics: ["news"] }).opened();
  await had(page, NEWS, [2, 3]);
  assert.deepEqual([edge.connects[0].topics, edge.connects[0].since], [["news"], { user: 0, all: 0, [NEWS]: 10, [SPORT]: 20 }]);
  page.client.unsubscribe("news");
  assert.deepEqual(cursors.load(), { "user:alice": 0, all: 0, [SPORT]: 20 });
  page.client.subscribe("sport", { since: 0 });
  await had(page, SPORT, [3]);
});

scenario("a topic goes on behind its cursor after close and start", async (edge, open) => {
  const page = await open({ topics: ["news"] }).opened();
  await subscribed(page);
  edge.publish(2, { to: NEWS });
  await had(page, NEWS, [1, 2]);
  await page.client.close();
  edge.publish(2, { to: NEWS });
  page.client.start();
  await had(page, NEWS, upTo(4));
});

scenario("whatever else there is of a topic counts only while it is wanted", async (edge, open) => {
  const page = await open({ topics: ["news"] }).opened();
  await subscribed(page);
  const tell = () => {
    edge.sayAll({ type: "message", to: NEWS, id: "t", ts: 1, body: { n: "t" } });
    edge.sayAll({ type: "lost", to: NEWS, from: 1, until: 5 });
    edge.sayAll({ type: "caught_up", to: NEWS, seq: 5 });
    edge.sayAll({ type: "subscribed", topic: "news", seq: 5 });
  };
  edge.sayAll({ type: "lost", to: NEWS, from: 1, until: 5 });
  page.client.unsubscribe("news");
  tell();
  edge.publish();
  await had(page, "user:alice", [1]);
  assert.deepEqual([page.of(NEWS), page.told("lost").length], [[], 1]);
  page.client.subscribe("news");
  await subscribed(page, 2);
  assert.deepEqual(page.told("subscribed").map(({ seq }) => seq), [0, 0]);
  edge.endAll();
  await page.opened(2);
  assert.equal(edge.connects[1].since[NEWS], 0);
});

scenario("a topic that nobody asked for is heard, and goes on after a cut with nothing missed and nothing twice", async (edge, open) => {
  edge.forbidden.add("news");
  edge.publish(2, { to: NEWS });
  const page = await open().opened();
  edge.give("news");
  await subscribed(page);
  edge.publish(2, { to: NEWS });
  await had(page, NEWS, [3, 4]);
  edge.endAll();
  edge.publish(2, { to: NEWS });
  await had(page, NEWS, [3, 4, 5, 6]);
  assert.deepEqual(edge.connects.map(({ topics }) => topics), [undefined, undefined]);
  assert.equal(edge.connects[1].since[NEWS], 40);
  assert.deepEqual([page.told("error"), edge.frames], [[], []]);
});

for (const device of [undefined, "phone"]) {
  scenario(`its cursor is stored, and the page that is loaded next goes on there (device: ${device})`, async (edge, open) => {
    edge.standing.add("news");
    const cursors = memoryCursors();
    const page = await open({ cursors, device }).opened();
    await subscribed(page);
    edge.publish(2, { to: NEWS });
    await had(page, NEWS, [1, 2]);
    await page.client.close();
    assert.equal(cursors.load()[NEWS], 20);
    edge.publish(2, { to: NEWS });
    const next = open({ cursors, device });
    await had(next, NEWS, [3, 4]);
    assert.equal(edge.connects[1].since[NEWS], 20);
  });
}

scenario("a topic that is taken away is told and forgotten, and begins anew when it is given again", async (edge, open) => {
  const cursors = memoryCursors();
  const page = await open({ cursors, topics: ["sport"] }).opened();
  edge.give("news");
  await subscribed(page, 2);
  edge.publish(2, { to: NEWS });
  await had(page, NEWS, [1, 2]);
  edge.takeAway("news");
  edge.takeAway("sport");
  await until(() => page.told("unsubscribed").length === 2);
  assert.deepEqual(page.told("unsubscribed").map(({ topic }) => topic), ["news", "sport"]);
  assert.equal(NEWS in cursors.load(), false);
  edge.publish(2, { to: NEWS });
  edge.give("news");
  await subscribed(page, 3);
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [1, 2, 5]);
  edge.endAll();
  await page.opened(2);
  assert.deepEqual(edge.connects[1].topics, ["sport"]);
  assert.deepEqual(edge.frames, []);
});

scenario("a given topic that the page unsubscribes is left, in each session, until the page subscribes it", async (edge, open) => {
  edge.standing.add("news");
  const page = await open().opened();
  await subscribed(page);
  page.client.unsubscribe("news");
  await until(() => edge.frames.length === 1);
  edge.publish(1, { to: NEWS });
  edge.endAll();
  await page.opened(2);
  await until(() => edge.frames.length === 2);
  edge.publish(1, { to: NEWS });
  edge.publish(1);
  await had(page, "user:alice", [1]);
  assert.deepEqual(edge.frames, [{ type: "unsubscribe", topic: "news" }, { type: "unsubscribe", topic: "news" }]);
  assert.deepEqual([page.of(NEWS), page.told("unsubscribed").length], [[], 1]);
  page.client.subscribe("news");
  await subscribed(page, 2);
  edge.publish(1, { to: NEWS });
  await had(page, NEWS, [3]);
});

scenario("names and cursors that an edge would end the session for are refused", async (edge, open) => {
  const { client } = await open().opened();
  for (const name of ["", "two words", "a,b", "{x}", "x".repeat(129), undefined]) {
    assert.throws(() => client.subscribe(name), /no name of a topic/);
    assert.throws(() => client.unsubscribe(name), /no name of a topic/);
  }
  assert.throws(() => client.subscribe("news", { since: -1 }), /no seq/);
});

/** What a page was told of a topic's members, shortly. */
function members(page) {
  return page.statuses.filter(({ type }) => ["members", "joined", "left"].includes(type)).map(({ users, type, user }) => users ?? [type, user]);
}

scenario("who else hears a topic is told, in each session anew, until it is unsubscribed", async (edge, open) => {
  edge.come("news", "bob");
  const page = await open({ topics: ["sport"], presence: ["news"] }).opened();
  await until(() => members(page).length === 1, "members");
  edge.come("news", "carol");
  edge.come("news", "bob", "left");
  edge.endAll();
  await until(() => members(page).length === 4, "members anew");
  assert.deepEqual(members(page), [["alice", "bob"], ["joined", "carol"], ["left", "bob"], ["alice", "carol"]]);
  assert.deepEqual(edge.connects.map(({ topics }) => topics), [["sport"], ["sport"]]);
  page.client.unsubscribe("news");
  page.client.subscribe("news");
  edge.publish(1, { to: "topic:sport" });
  await had(page, SPORT, [1]);
  edge.come("news", "dan");
  page.client.subscribe("sport", { presence: true });
  await until(() => members(page).length === 5, "members of the other");
  assert.deepEqual(members(page).at(-1), ["alice"]);
});

scenario("a topic with presence goes on where it was after a cut", async (edge, open) => {
  const page = await open({ presence: ["news"] }).opened();
  await subscribed(page);
  edge.publish(2, { to: NEWS });
  await had(page, NEWS, [1, 2]);
  edge.endAll();
  edge.publish(2, { to: NEWS });
  await had(page, NEWS, [1, 2, 3, 4]);
});
