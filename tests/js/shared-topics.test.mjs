// Topics of pages that share a connection: the session hears what any of them wants, each page gets what itself wants.

import assert from "node:assert/strict";

import { memoryCursors } from "../../edge/js/pushway.js";
import { had, until, upTo } from "./edge.mjs";
import { joined, randoms, scenario } from "./origin.mjs";

const NEWS = "topic:news";
const SPORT = "topic:sport";

/** Return a page that is there and hears its topics. */
async function hearing(page) {
  await joined(page);
  await until(() => page.told("subscribed").length > 0, "subscribed");
  return page;
}

function asked(edge, type) {
  return edge.frames.filter((frame) => frame.type === type).map(({ topic }) => topic);
}

scenario("the session hears the topics of all pages, and each page gets its own, and the rest", async (edge, open) => {
  const first = await hearing(open({ topics: ["news"] }));
  const second = await hearing(open({ topics: ["sport"] }));
  for (const to of [NEWS, SPORT, "all", "user:alice"]) edge.publish(2, { to });
  await had(first, NEWS, [1, 2]);
  await had(second, SPORT, [1, 2]);
  for (const page of [first, second]) for (const to of ["all", "user:alice"]) await had(page, to, [1, 2]);
  assert.deepEqual([first.of(SPORT), second.of(NEWS), edge.connects.length], [[], [], 1]);
  assert.deepEqual([first.told("subscribed").length, asked(edge, "subscribe")], [1, ["sport"]]);
});

scenario("a page that is new to a topic begins with what comes then, or where it says, and is told", async (edge, open) => {
  const first = await hearing(open({ topics: ["news"] }));
  const late = await joined(open());
  edge.publish(3, { to: NEWS });
  await had(first, NEWS, upTo(3));
  late.client.subscribe("news");
  await hearing(late);
  const second = await hearing(open({ topics: ["news"] }));
  const third = await joined(open());
  third.client.subscribe("news", { since: 10 });
  await had(third, NEWS, [2, 3]);
  edge.publish(1, { to: NEWS });
  await had(first, NEWS, upTo(4));
  for (const page of [late, second]) await had(page, NEWS, [4]);
  await had(third, NEWS, [2, 3, 4]);
});

scenario("what a page lacks of a topic is asked of the edge again when the leader does not remember it", async (edge, open) => {
  edge.publish(5, { to: NEWS });
  const first = await hearing(open({ topics: ["news"] }));
  const second = await joined(open());
  second.client.subscribe("news", { since: 20 });
  edge.publish(1, { to: NEWS });
  await had(second, NEWS, [3, 4, 5, 6]);
  await had(first, NEWS, [6]);
  assert.equal(edge.connects.at(-1).since[NEWS], 20);
});

for (const how of ["close", "crash"]) {
  scenario(`a page that goes (${how}) takes its wishes along`, async (edge, open) => {
    await hearing(open({ topics: ["news"] }));
    const second = await hearing(open({ topics: ["news", "sport"] }));
    await until(() => asked(edge, "subscribe").includes("sport"));
    if (how === "close") await second.client.close();
    else second.crash();
    await until(() => asked(edge, "unsubscribe").length > 0, "unsubscribe");
    assert.deepEqual(asked(edge, "unsubscribe"), ["sport"]);
  });

  scenario(`when the leader goes (${how}), the next asks for what all others want, from where they are`, async (edge, open) => {
    const first = await hearing(open({ topics: ["news"] }));
    const second = await hearing(open({ topics: ["news"] }));
    const third = await hearing(open({ topics: ["sport"] }));
    for (const to of [NEWS, SPORT]) edge.publish(2, { to });
    await had(second, NEWS, [1, 2]);
    await had(third, SPORT, [1, 2]);
    if (how === "close") await first.client.close();
    else first.crash();
    for (const to of [NEWS, SPORT]) edge.publish(2, { to });
    await had(second, NEWS, upTo(4));
    await had(third, SPORT, upTo(4));
    assert.equal(second.client.role, "leader");
  });
}

scenario("a topic is left when the last page wants it no longer, and only for a page that does not", async (edge, open) => {
  const pages = [await hearing(open({ topics: ["news"] })), await hearing(open({ topics: ["news"] }))];
  pages[0].client.unsubscribe("news");
  edge.publish(1, { to: NEWS });
  await had(pages[1], NEWS, [1]);
  assert.deepEqual([pages[0].of(NEWS), asked(edge, "unsubscribe")], [[], []]);
  pages[1].client.unsubscribe("news");
  await until(() => asked(edge, "unsubscribe").length === 1);
});

scenario("wanted again behind an older place, all of it comes, whatever the others get meanwhile", async (edge, open) => {
  await hearing(open({ topics: ["news"] }));
  const second = await hearing(open({ topics: ["news"] }));
  edge.publish(3, { to: NEWS });
  await had(second, NEWS, upTo(3));
  second.client.unsubscribe("news");
  second.client.subscribe("news", { since: 0 });
  edge.publish(1, { to: NEWS });
  await had(second, NEWS, [1, 2, 3, 1, 2, 3, 4]);
});

scenario("what comes while the leader has not heard of an older place waits for its turn", async (edge, open) => {
  await hearing(open({ topics: ["news"] }));
  const second = await hearing(open({ topics: ["news"] }));
  edge.publish(3, { to: NEWS });
  await had(second, NEWS, upTo(3));
  const held = [];
  second.client.unsubscribe("news");
  second.channel.postMessage = (data) => held.push(data);
  second.client.subscribe("news", { since: 0 });
  await new Promise((done) => setTimeout(done, 10)); // for the answer to what was said before: nothing else tells of it
  edge.publish(1, { to: NEWS });
  await new Promise((done) => setTimeout(done, 10));
  delete second.channel.postMessage;
  for (const data of held) second.channel.postMessage(data);
  await had(second, NEWS, [1, 2, 3, 1, 2, 3, 4]);
});

scenario("the cursor of a page that is away is stored by others that do not want its topic", async (edge, open) => {
  const cursors = memoryCursors();
  const wishes = { cursors, device: undefined };
  const first = await hearing(open({ ...wishes, topics: ["news"] }));
  const second = await joined(open(wishes));
  second.client.subscribe("news");
  second.client.unsubscribe("news");
  edge.publish(2, { to: NEWS });
  await had(first, NEWS, [1, 2]);
  await first.client.close();
  await until(() => second.client.role === "leader");
  edge.publish();
  await had(second, "user:alice", [1]);
  edge.publish(2, { to: NEWS });
  await second.client.close();
  assert.deepEqual(cursors.load(), { "user:alice": 10, all: 0, [NEWS]: 20 });
  const again = await hearing(open({ ...wishes, topics: ["news"] }));
  await had(again, NEWS, [3, 4]);
});

for (const device of [undefined, "browser"]) {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    const name = `pages come, go, sleep and change their minds: what each wants it gets without a gap, once (${device}, seed ${seed})`;
    scenario(name, async (edge, open) => {
      const random = randoms(seed);
      const one = (list) => list[Math.floor(random() * list.length)];
      const topics = () => ["news", "sport"].filter(() => random() < 0.5);
      const come = async () => {
        const wanted = topics();
        const page = await joined(open({ device, topics: wanted, backlog: { messages: one([3, 1_000]) } }));
        return Object.assign(page, { wanted: new Set(wanted) });
      };
      const pages = [await come()];
      const everyone = [...pages];
      const deeds = {
        come: async () => {
          if (pages.length >= 5) return;
          pages.push(await come());
          everyone.push(pages.at(-1));
        },
        close: async () => pages.length > 1 && (await pages.splice(Math.floor(random() * pages.length), 1)[0].client.close()),
        crash: () => pages.length > 1 && pages.splice(Math.floor(random() * pages.length), 1)[0].crash(),
        sleep: () => (one(pages).channel.asleep = true),
        wake: () => pages.forEach((page) => (page.channel.asleep = false)),
        cut: () => edge.endAll(),
        change: () => changeMind(one(pages), one(["news", "sport"])),
        breathe: () => new Promise((done) => setTimeout(done, random() * 10)),
      };
      const publish = () => edge.publish(Math.floor(random() * 3), { to: one([NEWS, SPORT, "all", "user:alice"]) });
      for (let round = 0; round < 80; round += 1) {
        publish();
        await deeds[one(Object.keys(deeds).filter((deed) => deed !== "come" || pages.every(({ channel }) => !channel.asleep)))]();
        publish();
      }
      deeds.wake();
      const waited = (page) => ["all", "user:alice", ...[...page.wanted].map((topic) => `topic:${topic}`)];
      // Who has just asked begins a little later: so there is always one more, until everybody has the last one.
      const isThrough = (page) => waited(page).every((to) => page.of(to).at(-1) === edge.headOf(to) / 10);
      await until(() => {
        if (pages.every(isThrough)) return true;
        if (random() < 0.05) for (const to of [NEWS, SPORT, "all", "user:alice"]) edge.publish(1, { to });
        return false;
      }, "all have the last message");
      for (const page of everyone) for (const to of [NEWS, SPORT, "all", "user:alice"]) assertNoGap(page, to);
    });
  }
}

function changeMind(page, topic) {
  if (page.wanted.delete(topic)) {
    page.client.unsubscribe(topic);
    page.messages.push({ to: `topic:${topic}`, body: { n: null } });
  } else {
    page.wanted.add(topic);
    page.client.subscribe(topic);
  }
}

/** Between two changes of mind, a page has had an unbroken run of each target. */
function assertNoGap(page, to) {
  const numbers = page.of(to);
  for (const [i, n] of numbers.entries()) {
    if (i === 0 || n === null || numbers[i - 1] === null) continue;
    assert.equal(n, numbers[i - 1] + 1, `${to}: ${numbers}`);
  }
}

scenario("a topic that nobody asked for goes to all pages, those that come later too", async (edge, open) => {
  const first = await joined(open());
  const second = await joined(open());
  edge.give("news");
  for (const page of [first, second]) await hearing(page);
  edge.publish(2, { to: NEWS });
  for (const page of [first, second]) await had(page, NEWS, [1, 2]);
  const late = await joined(open());
  edge.publish(1, { to: NEWS });
  for (const page of [first, second]) await had(page, NEWS, upTo(3));
  await until(() => late.of(NEWS).includes(3));
  assert.deepEqual([edge.connects.length, asked(edge, "subscribe"), asked(edge, "unsubscribe")], [1, [], []]);
});

for (const how of ["close", "crash"]) {
  scenario(`the next leader goes on with a given topic where the pages are (${how})`, async (edge, open) => {
    edge.standing.add("news");
    const first = await hearing(open());
    const second = await joined(open());
    edge.publish(2, { to: NEWS });
    await had(second, NEWS, [1, 2]);
    if (how === "close") await first.client.close();
    else first.crash();
    edge.publish(2, { to: NEWS });
    await had(second, NEWS, upTo(4));
    assert.deepEqual([edge.connects.at(-1).since[NEWS], edge.connects.at(-1).topics], [20, undefined]);
  });
}

scenario("each page declines a given topic for itself; the session leaves it when all do, and hears it again for one", async (edge, open) => {
  edge.standing.add("news");
  const pages = [await hearing(open()), await joined(open())];
  pages[0].client.unsubscribe("news");
  edge.publish(1, { to: NEWS });
  await had(pages[1], NEWS, [1]);
  assert.deepEqual([pages[0].of(NEWS), asked(edge, "unsubscribe")], [[], []]);
  pages[1].client.unsubscribe("news");
  await until(() => asked(edge, "unsubscribe").length === 1);
  edge.publish(1, { to: NEWS });
  const late = await joined(open());
  await until(() => asked(edge, "subscribe").length === 1);
  await hearing(late);
  edge.publish(1, { to: NEWS });
  await until(() => late.of(NEWS).includes(3));
  assert.deepEqual(pages.map((page) => page.of(NEWS)), [[], [1]]);
});

scenario("a given topic that is taken away ends in all pages, but for their own wish", async (edge, open) => {
  edge.standing.add("news");
  const first = await hearing(open());
  const second = await joined(open());
  edge.publish(1, { to: NEWS });
  for (const page of [first, second]) await had(page, NEWS, [1]);
  edge.takeAway("news");
  for (const page of [first, second]) await until(() => page.told("unsubscribed").length === 1);
  edge.publish(1, { to: NEWS });
  second.client.subscribe("news");
  await until(() => asked(edge, "subscribe").length === 1);
  edge.publish(1, { to: NEWS });
  await had(second, NEWS, upTo(3)); // the device goes on where it was
  assert.deepEqual(first.of(NEWS), [1]);
});

function members(page) {
  return page.statuses.filter(({ type }) => ["members", "joined", "left"].includes(type)).map(({ users, type, user }) => users ?? [type, user]);
}

scenario("each page that wants to know who else hears a topic is told all, and then what changes; others are not", async (edge, open) => {
  const first = await hearing(open({ presence: ["news"] }));
  await until(() => members(first).length === 1, "members");
  const other = await hearing(open({ topics: ["news"] }));
  edge.come("news", "bob");
  await until(() => members(first).at(-1)[0] === "joined", "joined");
  const second = await hearing(open({ topics: ["news"] }));
  second.client.subscribe("news", { presence: true });
  await until(() => members(second).length === 1, "members, late");
  edge.come("news", "bob", "left");
  for (const page of [first, second]) await until(() => members(page).at(-1)[0] === "left", "left");
  assert.deepEqual(members(second), [["alice", "bob"], ["left", "bob"]]);
  assert.deepEqual(members(other), []);
  assert.equal(edge.connects.length, 1);
});
