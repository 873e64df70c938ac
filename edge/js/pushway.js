/**
 * Pushway's client for browsers and Node: the messages of one user, of topics and of all, as they come, over whatever happens to
 * the connections. It is one file so that it can be copied as one.
 *
 *     const client = new Client({ urls: ["wss://push.example.com/v1/connect"], token: () => fetchToken(), onMessage });
 *     client.start();
 *
 * Theory of operation. Three parts, each with one job:
 *
 *   Connection   one WebSocket: sees that it opens, is welcomed, and still lives
 *   Source       one connection after another; reconnects by the close codes' rule and asks for what was missed
 *   Tab          what this page has had: drops what comes twice, keeps what the application has not handled yet, in bounds
 *
 * A client alone has one of each. With `shared`, every page of the origin has a Tab, and the one that holds the Web Lock
 * also has the Source; the two speak the same few words whether directly or over a BroadcastChannel:
 *
 *   a tab asks    here      which topics it wants, what it has seen and handled, and whether it has room: on start, for a new
 *                           leader, when it wants other topics, and after a gap
 *                 handled   how far it has come since
 *                 left      it ends
 *                 probe     somebody is looking: is all of it alive?
 *   a leader tells lead     there is a new one, whom every tab answers with `here`
 *                 given     the topics that nobody asked for, and where each target is
 *                 answer    to one tab: what it lacked, and the number n that what follows goes on from
 *                 message   numbered n, n + 1 …, so that a tab which misses one knows, and says `here` again
 *                 base      where the order begins, for tabs that have none of it yet
 *                 status, beat
 *
 * Nothing is lost at a hand-over, because the new leader asks the edge for everything above the lowest seq that any tab has,
 * and nothing comes twice, because each tab drops what is not above its own. A tab that says `here` with less than
 * the leader has passed on gets it from the leader's memory of the last messages, or the leader connects anew from there.
 *
 * `seen` is what a page has been given to handle, `handled` what its handler is done with. Within the life of a page `seen`
 * decides, so each message is handled once; `handled` is what is stored and acknowledged, the least of all tabs, so a crash
 * repeats rather than loses.
 *
 * A session hears the topics that any of its tabs wants, and a tab takes those that itself wants; whatever is wanted is asked for
 * anew with each connection. A topic begins where its first `subscribed` says, as the user's own messages with the first welcome,
 * and when nobody wants it any more its place is forgotten: what is still on its way is dropped until the edge has said
 * `unsubscribed`, since it is part of an order that is over. For the same reason an answer of the leader counts only when it
 * was given to what the tab wants now.
 *
 * A session may also be given topics that nobody asked for: `subscribed` comes unasked then, and a topic so given goes to every tab,
 * unless the tab has unsubscribed it itself. It is not asked for with the next connection, which is given it again if it may
 * have it; but that is told where each of them is to go on, and the same of those that the store has a cursor of. When all tabs
 * have unsubscribed it, the session leaves it. When a back end takes it away it is over, and its place is forgotten.
 *
 * Who else hears a topic is asked for by the session when any tab wants to know, with the frame that subscribes; a tab that is new
 * to it has it asked again, so that `members` comes to all who want it. Tabs pass over what comes for others.
 *
 * Of each target that is heard the store has the least that was handled by those who hear it; of others what it had, since
 * whoever heard it may come back, such as a tab that is reloaded while another one leads. Only `unsubscribe` takes it out.
 */

const SUBPROTOCOL = "pushway.v1";
const NO_WEB_SOCKET = "WebSocket: there is none here; Node has one from version 22 on, elsewhere give a constructor";
const NORMAL = 1000;
/** What browsers report when a connection ended without a close frame (RFC 6455, section 7.1.5). */
const ABNORMAL = 1006;
const TOKEN_EXPIRED = 4003;
/** The code of an `error` that says that a newer token cannot be checked just now. */
const UNCHECKED = "unavailable";

/**
 * Longest waits: for `token()`, for the welcome of a new connection, for the answer to a ping, for a pluggable store of cursors,
 * at `close()` for the handler in hand, and for a leader's answer to a tab (it may be in another, busy page).
 */
const TIMEOUTS = { tokenMs: 30_000, welcomeMs: 10_000, pongMs: 5_000, storeMs: 10_000, closeMs: 2_000, answerMs: 2_000 };
/** A session that lived this long was a good one: the pauses begin anew with the shortest. */
const STEADY_MS = 10_000;

/** No edge asks for more than some seconds, or for many answers a second. */
const TOLD_MAX_MS = 600_000;
const HEARTBEAT_MIN_MS = 50;
/** How often progress is stored and acknowledged: after so many messages or so long, whichever comes first. */
const REPORT_MESSAGES = 100;
const REPORT_MS = 1_000;

/** How often a leader may leave `here` unanswered before a tab takes the lead by force. */
const ANSWER_TRIES = 3;
/** How long a dismissed leader keeps its lock, so that the others hear of it before one of them is let in. */
const DISMISSAL_MS = 200;

/** How many messages a leader remembers for tabs that come or lag. */
const RECENT_MESSAGES = 200;
const RECENT_CHARS = 1_048_576;

/** What tells how the connection stands, and so is told to a tab that comes later. */
const OF_CONNECTION = new Set(["connecting", "open", "waiting", "paused", "closed"]);
/** The statuses that tell who else hears a topic. */
const OF_MEMBERS = new Set(["members", "joined", "left"]);

/** Of how many topics that nobody asked for an edge is told where to go on; as many as a session hears. */
const GIVEN_MAX = 128;

/** The defaults of Centrifugo's clients. */
const PAUSES = { minMs: 500, maxMs: 20_000 };
/** What may wait for the handler before the client stops reading: a replay of 100,000 messages must not live in the page. */
const BACKLOG = { messages: 1_000, chars: 4_194_304 };

/** An edge closed with a code that says: do not reconnect. */
export class NotWelcome extends Error {
  constructor(code, reason) {
    super(`the edge closed the connection for good: ${reason || "no reason given"} (${code})`);
    this.name = "NotWelcome";
    this.code = code;
    this.reason = reason;
  }
}

/** Tell whether a close code lets a client come back; the ranges are a promise of the protocol. */
export function mayReconnect(code) {
  return code !== NORMAL && !(code >= 4500 && code <= 4999);
}

/** Return a pause after so many failures in a row, the first being 0: from nothing up to a doubling ceiling (full jitter). */
export function pauseMs(failures, { minMs, maxMs } = PAUSES, random = Math.random) {
  return random() * Math.min(maxMs, minMs * 2 ** failures);
}

/** Cursors that live as long as this object; `{"user:alice": 0}` begins with everything retained for her. */
export function memoryCursors(initial = {}) {
  let kept = { ...initial };
  return {
    load: () => ({ ...kept }),
    save: (cursors) => {
      kept = { ...cursors };
    },
  };
}

/**
 * Cursors in localStorage under `pushway:<name>`. The name says whose they are: give each user one of their own. Where a browser
 * refuses localStorage, or there is none, they are kept in memory: the first `load` fails, so that it is told, and the next ones
 * work.
 */
export function localStorageCursors(name) {
  const key = `pushway:${name}`;
  let memory = null;
  return {
    load: () => {
      if (memory !== null) return memory.load();
      try {
        return parsed(localStorage.getItem(key));
      } catch (cause) {
        memory = memoryCursors();
        throw new Error(`there is no localStorage here, so cursors live as long as the page (${cause})`, { cause });
      }
    },
    save: (cursors) => (memory === null ? localStorage.setItem(key, JSON.stringify(cursors)) : memory.save(cursors)),
  };
}

function parsed(text) {
  try {
    const cursors = Object.entries(JSON.parse(text ?? "{}"));
    return Object.fromEntries(cursors.filter(([, seq]) => isSeq(seq)));
  } catch {
    return {}; // somebody else wrote there; it is no cursor
  }
}

const OWN_PREFIX = "user:";
const TOPIC_PREFIX = "topic:";
const ALL = "all";
/** The rule for names: a frame that breaks it would end the session for good. */
const TOPIC = /^[^\s,{}"\\\p{Cc}\p{Cs}]{1,128}$/u;

/** How `since` names a target: of all users' messages a session gets its own user's only. */
function sinceName(to) {
  return to.startsWith(OWN_PREFIX) ? "user" : to;
}

function isSeq(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

function isTopic(to) {
  return to.startsWith(TOPIC_PREFIX);
}

/** The messages of one user, of topics and of all; see `pushway.d.ts` for the options. */
export class Client {
  #options;
  #tab;
  #channel = null;
  #source = null;
  /** Aborted when this run ends; null while none is on. */
  #run = null;
  /** Aborted when this page no longer waits for, or has, the lead. */
  #campaign = null;
  #loaded = false;
  #suspended = false;

  constructor(options) {
    this.#options = complete(options);
    this.#tab = new Tab(this.#options, {
      ask: (asked) => this.#ask(asked),
      told: (status) => this.#told(status),
      unanswered: () => this.#usurp(),
    });
  }

  /** How this page gets its messages: "alone", "leader" or "follower"; null while not started. */
  get role() {
    if (this.#run === null) return null;
    if (this.#channel === null) return "alone";
    return this.#source === null ? "follower" : "leader";
  }

  /** What waits for the handler now. */
  get backlog() {
    return this.#tab.backlog;
  }

  /** Connect, and stay connected until `close()` or an edge says not to come back. Does nothing while it runs. */
  start() {
    if (this.#run !== null) return;
    if (typeof this.#options.WebSocket !== "function") throw new TypeError(NO_WEB_SOCKET);
    const run = (this.#run = new AbortController());
    this.#suspended = false;
    this.#tab.open();
    this.#watchPage(run.signal);
    this.#begin(run.signal).catch((error) => this.#run === run && this.#fail(error));
  }

  /** End. What was handled is stored and acknowledged first; what still waits comes again after the next `start()`. */
  async close() {
    this.#suspended = false;
    if (this.#run === null) return;
    const run = this.#run;
    await this.#tab.close();
    if (this.#run !== run) return;
    this.#stop();
    this.#tab.status({ type: "closed", code: NORMAL, reason: "close() was called" });
  }

  /** Hear a topic behind its cursor, or else `since`, or from now on; as soon as there is a session, and in each one to come. */
  subscribe(topic, { since, presence = false } = {}) {
    if (since !== undefined && !isSeq(since)) throw new TypeError(`since: ${since} is no seq`);
    this.#tab.subscribe(checkedTopic(topic), since, presence);
  }

  /** Hear it no longer, from this moment on, and forget how far it was handled. */
  unsubscribe(topic) {
    this.#tab.unsubscribe(checkedTopic(topic));
  }

  /** Have the connection checked now, or the next try made now; a browser's own events do so too. */
  probe() {
    if (this.#run !== null) this.#tab.probe();
  }

  /** Yield messages. The one before counts as handled when the next is asked for. One loop at a time. */
  [Symbol.asyncIterator]() {
    if (this.#options.onMessage !== undefined) throw new TypeError("messages go to onMessage: iterate, or give a handler");
    this.start();
    return { next: () => this.#tab.next(), return: () => this.#tab.return() };
  }

  async #begin(signal) {
    const { shared, locks } = this.#options;
    if (shared !== undefined && locks !== null) await this.#share(signal);
    else await this.#lead(signal);
  }

  /**
   * Return what is stored, and have the page begin there if it has not begun. Without, it would begin in the wrong place, so it
   * is tried until it works.
   */
  async #load(signal) {
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        const cursors = new Map(Object.entries(await within(this.#options.timeouts.storeMs, this.#options.cursors.load())));
        if (!this.#loaded) this.#tab.begin(cursors);
        this.#loaded = true;
        return cursors;
      } catch (error) {
        const retryInMs = pauseMs(failures, this.#options.pauses);
        this.#tab.status({ type: "error", code: "cursors", message: `cursors cannot be read: ${error}`, error });
        this.#tab.status({ type: "waiting", retryInMs, code: null, reason: "no cursors" });
        await nap(retryInMs, signal);
      }
    }
    return new Map();
  }

  async #lead(signal) {
    const stored = await this.#load(signal);
    if (signal.aborted) return;
    const source = new Source(this.#options, this.#tab.id, stored, (told) => this.#tell(told));
    this.#source = source;
    const close = () => {
      source.close();
      if (this.#source === source) this.#source = null;
    };
    signal.addEventListener("abort", close, { once: true });
    await source.run().finally(close);
    if (source.dismissed) await nap(DISMISSAL_MS);
  }

  async #share(signal) {
    const { shared, locks } = this.#options;
    await this.#load(signal);
    if (signal.aborted) return;
    // Held for as long as this page is one of the tabs: whoever leads waits for it, and so learns of a crash.
    await new Promise((granted, refused) => {
      const hold = () => (granted(), aborted(signal));
      locks.request(tabLock(shared, this.#tab.id), { signal }, hold).catch(refused);
    });
    if (signal.aborted) return;
    this.#channel = new BroadcastChannel(`pushway:${shared}`);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#tab.here();
    this.#stand(signal, false);
  }

  /** Wait for the lead, or take it; lead while it is ours. */
  #stand(signal, steal) {
    const campaign = (this.#campaign = new AbortController());
    const ends = AbortSignal.any([signal, campaign.signal]);
    const options = steal ? { steal } : { signal: ends };
    this.#options.locks
      .request(leadLock(this.#options.shared), options, () => (ends.aborted ? undefined : this.#lead(ends)))
      .catch((error) => {
        if (ends.aborted) return;
        if (error.name !== "AbortError") return this.#fail(error);
        // Another page took the lead, because this one slept: follow that one.
        campaign.abort();
        this.#tab.here();
        this.#stand(signal, false);
      });
  }

  /** The leader does not answer, though it holds the lock: its page is frozen. One that people look at goes first. */
  #usurp() {
    if (this.#channel === null || this.#source !== null || globalThis.document?.visibilityState === "hidden") return;
    this.#campaign.abort();
    this.#stand(this.#run.signal, true);
  }

  #ask(asked) {
    if (this.#source !== null) this.#source.asked(asked);
    else this.#channel?.postMessage(asked);
  }

  #tell(told) {
    // First to the others: this page's own tab may ask something at once, and the answer must not overtake.
    this.#channel?.postMessage(told);
    this.#tab.told(told);
  }

  #heard(data) {
    if (data.ask !== undefined) this.#source?.asked(data);
    else this.#tab.told(data);
  }

  /** Act on a status, before the application hears of it. */
  #told(status) {
    if (status.type === "closed") this.#stop();
  }

  #fail(error) {
    this.#stop();
    this.#tab.status({ type: "error", code: "failed", message: String(error), error });
    this.#tab.status({ type: "closed", code: null, reason: String(error) });
  }

  #stop() {
    const run = this.#run;
    if (run === null) return;
    this.#tab.leave();
    this.#run = null;
    run.abort();
    this.#source = null;
    this.#channel?.close();
    this.#channel = null;
  }

  #watchPage(signal) {
    const probe = () => this.probe();
    listen(globalThis, "online", probe, signal);
    listen(globalThis.document, "visibilitychange", () => globalThis.document.visibilityState === "visible" && probe(), signal);
    listen(globalThis, "pagehide", () => this.#suspend(), signal);
    listen(globalThis, "pageshow", probe, signal);
  }

  /** The page goes, perhaps to come back from the browser's cache: what it has stays, its place is given up. */
  #suspend() {
    this.#stop();
    this.#suspended = true;
    const resume = () => this.#suspended && this.start();
    globalThis.addEventListener("pageshow", resume, { once: true });
  }
}

/** What one page has had of its messages. It knows nothing of sockets, nor who its leader is. */
class Tab {
  id = randomId();
  #options;
  #ask;
  #told;
  #unanswered;

  #seen = new Map();
  #handled = new Map();
  /** The topics that the page wants, as targets. */
  #topics = new Set();
  /** Those of them whose members it wants to be told. */
  #presence = new Set();
  /** Those whose members it has been told: changes of them mean something. */
  #known = new Set();
  /** Those that it wants no longer, until a leader knows. */
  #dropped = new Set();
  /** Those that it wants from nobody, whoever gives them. */
  #declined = new Set();
  /** Those that the session was given, unasked. */
  #given = new Set();
  /** Counts the changes of what it wants. */
  #wish = 0;
  #reported = 0;
  #reportTimer = null;

  #source = null;
  #n = 0;
  #synced = false;
  #answerTimer = null;
  #tries = 0;
  #said = "";

  #waiting = [];
  #chars = 0;
  #full = false;
  #inHand = null;
  #idle = { promise: Promise.resolve(), resolve: () => {} };
  #isOpen = false;
  #pumping = null;
  #end = null;
  #news = deferred();

  constructor(options, { ask, told, unanswered }) {
    this.#options = options;
    this.#ask = ask;
    this.#told = told;
    this.#unanswered = unanswered;
    for (const topic of [...options.topics, ...options.presence]) this.#topics.add(TOPIC_PREFIX + topic);
    for (const topic of options.presence) this.#presence.add(TOPIC_PREFIX + topic);
  }

  get backlog() {
    return { messages: this.#waiting.length, chars: this.#chars };
  }

  open() {
    this.#isOpen = true;
    this.#end = null;
    this.#said = "";
    this.#wake();
  }

  /** Begin above these cursors. */
  begin(cursors) {
    for (const [to, seq] of cursors) this.#beginAt(to, seq);
  }

  #beginAt(to, seq) {
    this.#seen.set(to, seq);
    this.#handled.set(to, seq);
  }

  subscribe(topic, since, presence) {
    const to = TOPIC_PREFIX + topic;
    const watches = presence && !this.#presence.has(to);
    if (watches) this.#presence.add(to);
    if (this.#topics.has(to)) return watches ? this.#wishOtherwise() : undefined;
    this.#topics.add(to);
    this.#dropped.delete(to);
    this.#declined.delete(to);
    if (since !== undefined && !this.#seen.has(to)) this.#beginAt(to, since);
    this.#wishOtherwise();
  }

  unsubscribe(topic) {
    const to = TOPIC_PREFIX + topic;
    if (!this.#hears(to)) return;
    // A device may subscribe again, and is not to get anew what it has handled.
    if (this.#reportTimer !== null) this.#report();
    this.#topics.delete(to);
    this.#presence.delete(to);
    this.#known.delete(to);
    this.#dropped.add(to);
    this.#declined.add(to);
    this.#seen.delete(to);
    this.#handled.delete(to);
    this.#waiting = this.#waiting.filter(({ frame }) => frame.to !== to);
    this.#chars = this.#waiting.reduce((sum, { size }) => sum + size, 0);
    // What is in hand moves no cursor any more.
    if (this.#inHand?.frame.to === to) this.#inHand = { frame: {} };
    this.#wishOtherwise();
    this.#lookAtRoom();
    // The edge says so as well, but not while another tab wants the topic, nor while there is no session.
    this.status({ type: "unsubscribed", topic });
  }

  #wishOtherwise() {
    this.#wish += 1;
    if (this.#isOpen) this.here();
  }

  #hears(to) {
    return !isTopic(to) || this.#topics.has(to) || (this.#given.has(to) && !this.#declined.has(to));
  }

  /** Return the part of a map that is of targets that this page hears. */
  #heard(seqs) {
    return new Map([...seqs].filter(([to]) => this.#hears(to)));
  }

  /** Take no more, and return when the handler in hand is done, or takes too long. */
  async close() {
    this.#isOpen = false;
    this.#synced = false;
    this.#forget();
    await within(this.#options.timeouts.closeMs, this.#idle.promise).catch(() => {});
  }

  /** Give up this page's place among the tabs. */
  leave() {
    this.#synced = false;
    clearTimeout(this.#answerTimer);
    clearTimeout(this.#reportTimer);
    this.#reportTimer = null;
    this.#ask({ ask: "left", tab: this.id, handled: this.#heard(this.#handled) });
  }

  /** Say what this page wants and has and whether it has room; without room nothing is taken until it has. */
  here() {
    this.#synced = false;
    clearTimeout(this.#answerTimer);
    const room = !this.#full;
    if (room) this.#answerTimer = setTimeout(() => this.#askAgain(), this.#options.timeouts.answerMs);
    const [seen, handled] = [this.#heard(this.#seen), this.#heard(this.#handled)];
    const [topics, presence, dropped] = [this.#topics, this.#presence, this.#dropped];
    const [declined, given] = [this.#declined, this.#given];
    this.#ask({ ask: "here", tab: this.id, wish: this.#wish, topics, presence, dropped, declined, given, seen, handled, room });
  }

  #askAgain() {
    this.#tries += 1;
    if (this.#tries % ANSWER_TRIES === 0) this.#unanswered();
    this.here();
  }

  /** Have the leader look at its connection, and find out whether there is a leader. */
  probe() {
    if (this.#synced) {
      clearTimeout(this.#answerTimer);
      this.#answerTimer = setTimeout(() => this.here(), this.#options.timeouts.answerMs);
    }
    this.#ask({ ask: "probe", tab: this.id });
  }

  /** A leader told something. */
  told(told) {
    if (!this.#isOpen) return;
    if (told.tell === "lead") return this.#follow(told);
    if (told.tell === "answer") return this.#answer(told);
    if (told.source !== this.#source) return this.#strange();
    if (told.tell === "status") return this.#concerns(told.status) ? this.status(told.status) : undefined;
    if (told.tell === "given") return this.#learn(told.given, told.position) && this.#synced ? this.here() : undefined;
    if (!this.#synced) return;
    if (told.tell === "message") this.#message(told);
    else if (told.tell === "base") this.#base(told.position);
    else if (told.tell === "beat") this.#beat(told);
  }

  /** Whether a status is for this page, too. */
  #concerns(status) {
    const to = targetOf(status);
    if (OF_MEMBERS.has(status.type)) {
      if (!this.#presence.has(to)) return false;
      if (status.type !== "members") return this.#known.has(to);
      this.#known.add(to);
    }
    return this.#hears(to);
  }

  /** Somebody else leads: this page slept when that was told, or it is the last word of one who did. */
  #strange() {
    if (this.#synced) this.here();
  }

  #follow({ source }) {
    this.#source = source;
    this.#tries = 0;
    this.here();
  }

  /** Know what is given now; tell whether this page is behind in any of it, and so lacks something. */
  #learn(given, position) {
    for (const to of this.#given) {
      // The edge goes on where it has the device, which may be before what this page has handled.
      if (given.has(to) || this.#topics.has(to) || this.#options.device !== undefined) continue;
      this.#seen.delete(to);
      this.#handled.delete(to);
    }
    const fresh = [...given].filter((to) => !this.#given.has(to));
    this.#given = new Set(given);
    return fresh.some((to) => this.#hears(to) && this.#seen.get(to) < position.get(to));
  }

  #answer({ tab, wish, source, n, frames, given, position, status }) {
    if (tab !== this.id || wish !== this.#wish || this.#full) return;
    if (this.#learn(given, position)) return this.here();
    clearTimeout(this.#answerTimer);
    this.#dropped.clear();
    this.#tries = 0;
    this.#source = source;
    this.#n = n;
    this.#synced = true;
    for (const raw of frames) this.#take(JSON.parse(raw), raw.length);
    this.#base(position);
    if (status !== null && JSON.stringify(status) !== this.#said) this.status(status);
    this.#lookAtRoom();
  }

  #message({ n, size, frame }) {
    if (n !== this.#n + 1) return this.here();
    this.#n = n;
    this.#take(frame, size);
    this.#lookAtRoom();
  }

  #base(position) {
    let begun = false;
    for (const [to, seq] of position) {
      if (this.#seen.has(to) || !this.#hears(to)) continue;
      this.#beginAt(to, seq);
      begun = true;
    }
    if (begun) this.#report();
  }

  #beat({ n }) {
    clearTimeout(this.#answerTimer);
    if (n !== this.#n) this.here();
  }

  /** Tell the application. */
  status(status) {
    // Another tab lacked what this one had before it was lost.
    if (status.type === "lost" && status.until <= (this.#seen.get(status.to) ?? -1)) return;
    if (OF_CONNECTION.has(status.type)) this.#said = JSON.stringify(status);
    // The next connection is to begin where this page is now.
    if (status.type === "waiting" && this.#reportTimer !== null) this.#report();
    this.#told(status);
    if (status.type === "closed") this.#finish(status);
    callSafely(this.#options.onStatus, status);
  }

  #finish({ code, reason }) {
    this.#isOpen = false;
    this.#end = { error: code === NORMAL ? null : new NotWelcome(code, reason) };
    this.#wake();
  }

  #take(frame, size) {
    if (!this.#hears(frame.to)) return;
    if (frame.seq !== undefined) {
      if (frame.seq <= (this.#seen.get(frame.to) ?? -1)) return;
      this.#seen.set(frame.to, frame.seq);
    }
    this.#waiting.push({ frame, size });
    this.#chars += size;
    this.#wake();
  }

  #lookAtRoom() {
    const { messages, chars } = this.#options.backlog;
    const part = this.#full ? 0.5 : 1; // not back and forth around one figure
    const over = this.#waiting.length >= messages * part || this.#chars >= chars * part;
    if (over === this.#full) return;
    this.#full = over;
    if (this.#isOpen) this.here();
  }

  #wake() {
    this.#news.resolve();
    this.#news = deferred();
    if (this.#options.onMessage !== undefined) this.#pumping ??= this.#pump();
  }

  async #pump() {
    // Not within whoever told of the message: a handler's time is its own.
    await null;
    for (let item = this.#next(); item !== undefined; item = this.#next()) {
      try {
        await this.#options.onMessage(item.frame);
      } catch (error) {
        this.#refuse(item, error);
        break;
      }
      this.#settle();
    }
    this.#pumping = null;
  }

  /** A handler that throws has not handled: the message comes again after the next `start()`. */
  #refuse(item, error) {
    this.#release();
    this.#forget();
    const message = `onMessage failed for ${item.frame.id}: ${error}`;
    this.status({ type: "error", code: "handler", message, error });
    this.status({ type: "closed", code: null, reason: message });
  }

  #next() {
    const item = this.#isOpen ? this.#waiting.shift() : undefined;
    if (item === undefined) return undefined;
    this.#inHand = item;
    this.#idle = deferred();
    this.#chars -= item.size;
    this.#lookAtRoom();
    return item;
  }

  #settle() {
    const item = this.#release();
    if (item === null || item.frame.seq === undefined) return;
    this.#handled.set(item.frame.to, item.frame.seq);
    this.#reported += 1;
    if (this.#reported >= REPORT_MESSAGES || !this.#isOpen) this.#report();
    else this.#reportSoon();
  }

  #release() {
    const item = this.#inHand;
    this.#inHand = null;
    this.#idle.resolve();
    return item;
  }

  #reportSoon() {
    this.#reportTimer ??= setTimeout(() => this.#report(), REPORT_MS);
  }

  #report() {
    clearTimeout(this.#reportTimer);
    this.#reportTimer = null;
    this.#reported = 0;
    this.#ask({ ask: "handled", tab: this.id, handled: this.#heard(this.#handled) });
  }

  /** Drop what waits: whatever is not handled and not in hand has not been seen. */
  #forget() {
    this.#waiting = [];
    this.#chars = 0;
    this.#full = false;
    this.#seen = new Map(this.#handled);
    const { to, seq } = this.#inHand?.frame ?? {};
    if (seq !== undefined) this.#seen.set(to, seq);
  }

  // -- the iterator ---------------------------------------------------------------------------------------------------

  async next() {
    this.#settle();
    for (;;) {
      const news = this.#news.promise;
      const item = this.#next();
      if (item !== undefined) return { value: item.frame, done: false };
      if (this.#end !== null) return this.#ended();
      await news;
    }
  }

  #ended() {
    if (this.#end.error !== null) throw this.#end.error;
    return { value: undefined, done: true };
  }

  /** The loop was left: whether it handled the last message it had is not known, so that stays unhandled. */
  async return() {
    this.#release();
    return { value: undefined, done: true };
  }
}

/** One connection after another, for every tab. It knows nothing of handlers. */
class Source {
  #id = randomId();
  #options;
  #own;
  #emit;
  #ends = new AbortController();
  #urls;
  #connection = null;
  #failures = 0;
  #fresh = false;
  #retryAfterMs = null;
  #nap = null;

  /** Target → the highest seq told. */
  #position = new Map();
  /** The topics that this connection has been asked for, or was given, as targets. */
  #asked = new Set();
  /** Those of them that it is told to hear. */
  #heard = new Set();
  /** Those whose members it has been asked for. */
  #watched = new Set();
  /** Those that this or an earlier connection was given unasked. */
  #given = new Set();
  /** Those of them that this connection has left again. */
  #declined = new Set();
  /** Target → where this connection is to go on, should it be given. */
  #offered = new Map();
  /** Topic → how many times the edge is still to say `unsubscribed`. */
  #leaving = new Map();
  #recent;
  #n = 0;
  #status = null;

  /** Whether an edge said not to come back. */
  dismissed = false;

  #tabs = new Map();
  #roomNews = deferred();

  /** Target → cursor, as it is or is to be stored. */
  #stored;
  #saved;
  #saving = false;

  constructor(options, own, stored, emit) {
    this.#options = options;
    this.#own = own;
    this.#stored = stored;
    this.#saved = JSON.stringify(sorted(stored));
    this.#emit = (told) => this.#ends.signal.aborted || emit({ ...told, source: this.#id });
    this.#urls = cycle(options.urls);
    this.#recent = new Recent(options.shared === undefined ? 0 : RECENT_MESSAGES, RECENT_CHARS);
  }

  /** Return when closed, or when an edge says not to come back. */
  async run() {
    this.#emit({ tell: "lead" });
    while (!this.#ends.signal.aborted) {
      await this.#untilRoom();
      const parted = await this.#session(this.#urls());
      if (!this.#ends.signal.aborted) await this.#follow(parted);
    }
  }

  /** End without a word to the tabs: another leader follows, or nobody is there. */
  close() {
    this.#ends.abort();
    this.#connection?.part({ code: NORMAL, reason: "closed" });
    this.#nap?.abort();
    this.#roomNews.resolve();
  }

  // -- connections ----------------------------------------------------------------------------------------------------

  async #session(url) {
    if (this.#ends.signal.aborted) return { again: true };
    this.#say({ type: "connecting", url });
    this.#retryAfterMs = null;
    this.#asked.clear();
    this.#heard.clear();
    this.#watched.clear();
    this.#declined.clear();
    this.#leaving.clear();
    let token;
    try {
      token = await this.#token(this.#fresh);
    } catch (error) {
      this.#say({ type: "error", code: "token", message: `there is no token: ${error}` });
      return { code: null, reason: "no token" };
    }
    if (this.#ends.signal.aborted) return { again: true };
    this.#connection = new Connection(this.#options, url, {
      opened: (connection) => connection.send(this.#hello(token)),
      frame: (raw) => this.#frame(raw, url),
    });
    const parted = await this.#connection.over;
    this.#connection = null;
    return parted;
  }

  async #token(fresh) {
    const token = await within(this.#options.timeouts.tokenMs, this.#options.token({ fresh }));
    if (typeof token !== "string" || token === "") throw new TypeError("token() gave no token");
    return token;
  }

  #hello(token) {
    // The connect frame has no word for presence: such topics are subscribed behind the welcome.
    const presence = this.#presence();
    this.#asked = new Set([...this.#wanted()].filter((to) => !presence.has(to)));
    this.#offered = this.#kept();
    const since = Object.fromEntries([...this.#offered, ...this.#have()].map(([to, seq]) => [sinceName(to), seq]));
    const topics = [...this.#asked].map(topicOf);
    const { device } = this.#options;
    return { type: "connect", token, device, since: someOf(since), topics: someOf(topics) };
  }

  /** Return target → the seq that the edge is to go on behind. */
  #have() {
    // For a device the edge takes `since` for an ack, so it is what was handled, and what only waits for a handler comes again,
    // to be dropped. Where nothing was handled yet, the edge's own cursor of the device holds.
    const have = this.#options.device === undefined ? this.#position : least([...this.#tabs.values()]);
    return new Map([...have].map(([to, seq]) => [to, Math.min(seq, this.#position.get(to) ?? Infinity)]));
  }

  /** Return target → cursor of the topics that only the store knows of: somebody was given them, perhaps. */
  #kept() {
    const kept = [...this.#stored].filter(([to]) => isTopic(to) && !this.#asked.has(to) && !this.#position.has(to));
    return new Map(kept.slice(-GIVEN_MAX));
  }

  /** Do what the end of a connection asks for. */
  async #follow({ again = false, code, reason, lastedMs = 0 }) {
    if (again) return;
    if (code !== null && !mayReconnect(code)) return this.#dismiss(code, reason);
    this.#fresh = code === TOKEN_EXPIRED;
    if (lastedMs >= STEADY_MS) this.#failures = 0;
    const retryInMs = this.#retryAfterMs ?? pauseMs(this.#failures, this.#options.pauses);
    this.#failures += 1;
    this.#say({ type: "waiting", retryInMs, code, reason });
    this.#nap = new AbortController();
    await nap(retryInMs, this.#nap.signal);
    this.#nap = null;
  }

  /** End for every tab. */
  #dismiss(code, reason) {
    this.dismissed = true;
    this.#say({ type: "closed", code, reason });
    this.close();
  }

  #probe() {
    this.#emit({ tell: "beat", n: this.#n });
    this.#connection?.probe();
    this.#nap?.abort();
  }

  // -- frames ---------------------------------------------------------------------------------------------------------

  #frame(raw, url) {
    const frame = decoded(raw);
    if (frame === null) this.#connection.part({ code: ABNORMAL, reason: "the edge sent what is no frame" });
    else if (frame.type === "message") this.#message(frame, raw);
    else if (frame.type === "welcome") this.#welcome(frame, url);
    else if (frame.type === "caught_up") this.#caughtUp(frame);
    else if (frame.type === "subscribed") this.#subscribed(frame);
    else if (frame.type === "unsubscribed") this.#unsubscribed(frame);
    else if (frame.type === "lost" || OF_MEMBERS.has(frame.type)) this.#sayOf(frame);
    else if (frame.type === "error") this.#error(frame);
    else if (frame.type === "bye") this.#retryAfterMs = bounded(Number(frame.retry_after_ms) || 0, 0);
    else if (frame.type === "expiring") this.#expiring(frame);
    else if (frame.type === "extended") this.#askAgain();
  }

  #message(frame, raw) {
    if (!this.#hears(frame.to)) return;
    if (frame.seq !== undefined) {
      this.#connection.sent.set(frame.to, frame.seq);
      if (frame.seq <= (this.#position.get(frame.to) ?? -1)) return;
      this.#position.set(frame.to, frame.seq);
      this.#recent.add(frame.to, frame.seq, raw);
    }
    this.#n += 1;
    this.#emit({ tell: "message", n: this.#n, size: raw.length, frame });
  }

  #welcome({ user, session, node, seq, all, heartbeat }, url) {
    const own = OWN_PREFIX + user;
    const other = [...this.#position.keys()].find((to) => to.startsWith(OWN_PREFIX) && to !== own);
    if (other !== undefined) return this.#dismiss(null, `the token is ${user}'s, the cursors are those of ${other}`);
    this.#fresh = false;
    this.#connection.welcomed(heartbeat * 1_000);
    // With a device, the edge begins at its own cursor of it: the first that comes tells where that is.
    if (this.#options.device === undefined) {
      this.#beginAt(own, seq);
      // Edges that know of no topics do not give it.
      if (all !== undefined) this.#beginAt(ALL, all);
    }
    this.#say({ type: "open", url, user, node, session });
    this.#tune();
  }

  #caughtUp({ to, seq }) {
    if (!this.#hears(to)) return;
    this.#connection.sent.set(to, seq);
    this.#beginAt(to, seq);
    this.#say({ type: "caught_up", to, seq });
    this.#progress();
  }

  #beginAt(to, seq) {
    if (this.#position.has(to)) return;
    this.#goBackTo(to, seq);
    this.#emit({ tell: "base", position: this.#position });
  }

  /** What follows of a target is above this seq. */
  #goBackTo(to, seq) {
    this.#position.set(to, seq);
    this.#recent.begin(to, seq);
  }

  #error(frame) {
    this.#say(frame);
    if (frame.code === UNCHECKED) this.#renewLater(this.#connection);
  }

  #expiring({ in_s }) {
    this.#connection.expiresAt = performance.now() + (Number(in_s) || 0) * 1_000;
    this.#connection.renewals = 0;
    this.#renew(this.#connection);
  }

  async #renew(connection) {
    try {
      connection.send({ type: "token", token: await this.#token(true) });
    } catch (error) {
      this.#say({ type: "error", code: "token", message: `there is no new token: ${error}` });
      this.#renewLater(connection);
    }
  }

  /** Try again, if there is time before the old one expires. */
  async #renewLater(connection) {
    const waitMs = pauseMs(connection.renewals, this.#options.pauses);
    connection.renewals += 1;
    if (performance.now() + waitMs >= connection.expiresAt) return;
    await nap(waitMs, this.#ends.signal);
    if (connection === this.#connection) this.#renew(connection);
  }

  #say(status) {
    if (OF_CONNECTION.has(status.type)) this.#status = status;
    this.#emit({ tell: "status", status });
  }

  /** Tell of a target, if it is heard. */
  #sayOf(status) {
    if (this.#hears(targetOf(status))) this.#say(status);
  }

  // -- topics ---------------------------------------------------------------------------------------------------------

  #wanted() {
    return new Set([...this.#tabs.values()].flatMap(({ topics }) => [...topics]));
  }

  /** The topics whose members a tab wants to be told. */
  #presence() {
    return new Set([...this.#tabs.values()].flatMap(({ presence }) => [...presence]));
  }

  /** Whether what comes of a target is of the order that the tabs are in. */
  #hears(to) {
    return !isTopic(to) || (this.#asked.has(to) && !this.#leaving.has(to));
  }

  /** Whether a tab hears a topic: because it wants it, or because it takes what is given. */
  #takes({ topics, declined }, to) {
    return topics.has(to) || (this.#given.has(to) && !declined.has(to));
  }

  #isTaken(to) {
    return [...this.#tabs.values()].some((tab) => this.#takes(tab, to));
  }

  /** Have the session hear what the tabs want. Before it is open the connect frame stands, which may be on its way. */
  #tune() {
    for (const to of [...this.#position.keys()].filter((to) => isTopic(to) && !this.#isTaken(to))) this.#leave(to);
    if (!this.#connection?.isOpen) return;
    for (const to of this.#asked) if (!this.#isTaken(to)) this.#unsubscribe(to);
    for (const to of this.#wanted()) if (!this.#asked.has(to)) this.#subscribe(to);
    for (const to of this.#declined) if (this.#isTaken(to)) this.#subscribe(to);
    for (const to of this.#presence()) if (!this.#watched.has(to)) this.#subscribe(to);
  }

  /** A newer token may grant what the last one did not. */
  #askAgain() {
    for (const to of this.#wanted()) if (this.#asked.has(to) && !this.#heard.has(to)) this.#subscribe(to);
  }

  #leave(to) {
    this.#position.delete(to);
    this.#recent.end(to);
  }

  #subscribe(to) {
    this.#asked.add(to);
    this.#declined.delete(to);
    const presence = this.#presence().has(to) || undefined;
    if (presence) this.#watched.add(to);
    this.#connection.send({ type: "subscribe", topic: topicOf(to), since: this.#have().get(to), presence });
  }

  #unsubscribe(to) {
    this.#asked.delete(to);
    this.#heard.delete(to);
    this.#watched.delete(to);
    if (this.#given.has(to)) this.#declined.add(to);
    this.#leaving.set(to, (this.#leaving.get(to) ?? 0) + 1);
    this.#connection.send({ type: "unsubscribe", topic: topicOf(to) });
  }

  #subscribed(frame) {
    const to = targetOf(frame);
    if (!this.#asked.has(to) && !this.#leaving.has(to)) this.#give(to);
    if (!this.#hears(to)) return;
    this.#heard.add(to);
    if (this.#options.device === undefined) this.#beginAt(to, frame.seq);
    this.#say(frame);
  }

  /** The session was given a topic that nobody asked for. */
  #give(to) {
    this.#asked.add(to);
    this.#given.add(to);
    if (this.#offered.has(to) && !this.#position.has(to)) this.#goBackTo(to, this.#offered.get(to));
    this.#tellGiven();
    this.#tune();
  }

  #tellGiven() {
    this.#emit({ tell: "given", given: new Set(this.#given), position: new Map(this.#position) });
  }

  #unsubscribed(frame) {
    const to = targetOf(frame);
    const left = (this.#leaving.get(to) ?? 0) - 1;
    if (left > 0) this.#leaving.set(to, left);
    else if (!this.#leaving.delete(to)) this.#takenAway(to, frame);
  }

  /** A back end has ended a topic. Who wants it asks the next session for it. */
  #takenAway(to, frame) {
    if (!this.#asked.has(to)) return;
    this.#heard.delete(to);
    this.#say(frame);
    if (!this.#given.delete(to)) return;
    if (!this.#isTaken(to)) {
      this.#asked.delete(to);
      this.#leave(to);
      this.#stored.delete(to);
    }
    this.#tellGiven();
    this.#progress();
  }

  // -- tabs -----------------------------------------------------------------------------------------------------------

  /** A tab asks. */
  asked(asked) {
    if (this.#ends.signal.aborted) return;
    if (asked.ask === "here") this.#here(asked);
    else if (asked.ask === "handled") this.#handled(asked);
    else if (asked.ask === "left") this.#left(asked);
    else if (asked.ask === "probe") this.#probe();
  }

  #here({ tab, wish, topics, presence, dropped, declined, given, seen, handled, room }) {
    if (!this.#tabs.has(tab)) this.#watch(tab);
    const { topics: before, presence: watchedBefore } = this.#tabs.get(tab) ?? {};
    const sets = { topics: new Set(topics), presence: new Set(presence), declined: new Set(declined) };
    this.#tabs.set(tab, { ...sets, handled: new Map(handled), room });
    // What is asked again is answered again.
    for (const to of presence) if (!watchedBefore?.has(to)) this.#watched.delete(to);
    // Of the leader before, unless it is known.
    for (const to of given) if (!this.#given.has(to)) this.#take(to, seen);
    this.#begin([...topics].filter((to) => !before?.has(to)), seen);
    this.#drop(dropped);
    this.#progress();
    const frames = room ? this.#lackedBy(seen) : [];
    this.#tune();
    if (!room) return this.#pauseWhenAllAreFull();
    this.#roomNews.resolve();
    const place = { given: new Set(this.#given), position: new Map(this.#position) };
    this.#emit({ tell: "answer", tab, wish, n: this.#n, frames, ...place, status: this.#status });
  }

  /** A tab was given a topic under another leader, and is to miss nothing of it. */
  #take(to, seen) {
    this.#given.add(to);
    if (seen.has(to) && !this.#position.has(to)) this.#goBackTo(to, seen.get(to));
  }

  /** Topics that a tab is new to begin where it is, unless another tab hears them; it is told of them all the same. */
  #begin(topics, seen) {
    for (const to of topics) {
      if (seen.has(to) && !this.#position.has(to) && !this.#asked.has(to)) this.#goBackTo(to, seen.get(to));
      if (this.#connection?.isOpen) this.#asked.delete(to); // what is asked again is answered again
    }
  }

  #drop(topics) {
    for (const to of topics) if (!this.#isTaken(to)) this.#stored.delete(to);
  }

  /** Return what a tab lacks of what was told; what is not remembered is asked of the edge again. */
  #lackedBy(seen) {
    const lacks = [...seen].filter(([to, seq]) => seq < (this.#position.get(to) ?? Infinity));
    if (lacks.length === 0) return [];
    const remembered = this.#recent.after(seen, lacks);
    if (remembered !== null) return remembered;
    for (const [to, seq] of lacks) this.#goBackTo(to, seq);
    // Before the connect frame is sent nothing was asked for yet, and it will be asked for from here.
    if (this.#connection?.begun) this.#connection.part({ again: true });
    return [];
  }

  /** Learn of a tab's end, even by a crash: its lock is free then. */
  #watch(tab) {
    const { shared, locks } = this.#options;
    if (shared === undefined || locks === null || tab === this.#own) return;
    const gone = () => this.asked({ ask: "left", tab });
    locks.request(tabLock(shared, tab), { signal: this.#ends.signal }, gone).catch(() => {});
  }

  #handled({ tab, handled }) {
    const known = this.#tabs.get(tab);
    if (known === undefined) return;
    known.handled = new Map(handled);
    this.#progress();
  }

  #left(asked) {
    if (asked.handled !== undefined) this.#handled(asked);
    // The last one's progress stays what it was: there is nobody left to have handled more.
    if (this.#tabs.delete(asked.tab) && this.#tabs.size > 0) {
      this.#progress();
      this.#tune();
    }
    this.#pauseWhenAllAreFull();
  }

  get #allAreFull() {
    return this.#tabs.size > 0 && [...this.#tabs.values()].every(({ room }) => !room);
  }

  #pauseWhenAllAreFull() {
    if (this.#allAreFull) this.#connection?.part({ again: true });
  }

  async #untilRoom() {
    while (this.#allAreFull && !this.#ends.signal.aborted) {
      this.#say({ type: "paused" });
      this.#roomNews = deferred();
      await this.#roomNews.promise;
    }
  }

  // -- progress -------------------------------------------------------------------------------------------------------

  /** Store and acknowledge what every tab has handled. */
  #progress() {
    const tabs = [...this.#tabs.values()];
    // A tab that hears a target and knows no cursor of it may still be at its first message.
    const begun = (to) => tabs.every((tab) => tab.handled.has(to) || (isTopic(to) && !this.#takes(tab, to)));
    // What was reported of one that was taken away meanwhile is over.
    const isHeard = (to) => !isTopic(to) || this.#isTaken(to);
    for (const [to, seq] of least(tabs)) if (isHeard(to) && begun(to)) this.#handledByAll(to, seq);
    this.#save();
  }

  #handledByAll(to, seq) {
    this.#stored.set(to, seq);
    if (this.#options.device !== undefined) this.#connection?.acknowledge(to, seq);
  }

  #save() {
    const cursors = sorted(this.#stored);
    const text = JSON.stringify(cursors);
    if (this.#saving || text === this.#saved) return;
    this.#saved = text;
    try {
      const storing = this.#options.cursors.save(cursors);
      if (typeof storing?.then === "function") this.#saveLater(storing);
    } catch (error) {
      this.#unsaved(error);
    }
  }

  async #saveLater(storing) {
    this.#saving = true;
    try {
      await within(this.#options.timeouts.storeMs, storing);
    } catch (error) {
      this.#unsaved(error);
    }
    this.#saving = false;
    this.#progress();
  }

  #unsaved(error) {
    this.#say({ type: "error", code: "cursors", message: `cursors cannot be stored: ${error}` });
  }
}

/** The last messages told, for tabs that come or lag: whole above `floor`, in order. */
class Recent {
  #messagesMax;
  #charsMax;
  #kept = [];
  #chars = 0;
  #floor = new Map();

  constructor(messagesMax, charsMax) {
    this.#messagesMax = messagesMax;
    this.#charsMax = charsMax;
  }

  /** What is added of a target from now on follows upon this seq. */
  begin(to, seq) {
    this.end(to);
    this.#floor.set(to, seq);
  }

  /** Forget all of a target. */
  end(target) {
    this.#kept = this.#kept.filter(({ to }) => to !== target);
    this.#chars = this.#kept.reduce((sum, { raw }) => sum + raw.length, 0);
    this.#floor.delete(target);
  }

  add(to, seq, raw) {
    this.#kept.push({ to, seq, raw });
    this.#chars += raw.length;
    while (this.#kept.length > this.#messagesMax || this.#chars > this.#charsMax) this.#drop();
  }

  #drop() {
    const { to, seq, raw } = this.#kept.shift();
    this.#chars -= raw.length;
    this.#floor.set(to, seq);
  }

  /** Return the frames that a tab lacks of these targets; null when not all of them are here. */
  after(seen, lacks) {
    if (lacks.some(([to, seq]) => seq < (this.#floor.get(to) ?? Infinity))) return null;
    return this.#kept.filter(({ to, seq }) => seq > (seen.get(to) ?? Infinity)).map(({ raw }) => raw);
  }
}

/** One WebSocket, until it is over. Whatever happens to it after `part` is nobody's business any more. */
class Connection {
  #socket = null;
  #over = deferred();
  #timeouts;
  #frame;
  #deadline = null;
  #quiet = null;
  #pong = null;
  #heardAt = 0;
  #heartbeatMs = 0;
  #welcomedAt = null;
  #acked = new Map();
  /** Target → the last seq that has come on it. */
  sent = new Map();
  /** When its token expires, once the edge has told, and how often a newer one could not be had since. */
  expiresAt = -Infinity;
  renewals = 0;
  /** Whether the connect frame has been sent. */
  begun = false;

  constructor(options, url, { opened, frame }) {
    this.#timeouts = options.timeouts;
    this.#frame = frame;
    this.#deadline = setTimeout(() => this.part({ code: ABNORMAL, reason: "no welcome in time" }), this.#timeouts.welcomeMs);
    try {
      const socket = (this.#socket = new options.WebSocket(url, [SUBPROTOCOL]));
      socket.onopen = () => {
        this.begun = true;
        opened(this);
      };
      socket.onmessage = ({ data }) => this.#heard(data);
      socket.onclose = ({ code, reason }) => this.part({ code, reason: reason || "the connection was cut" });
      socket.onerror = () => {}; // what it was is not told; `close` follows
    } catch (error) {
      this.part({ code: null, reason: String(error) });
    }
  }

  /** Whether it is welcome, and not over. */
  get isOpen() {
    return this.#welcomedAt !== null && this.#socket !== null;
  }

  /** Resolves with {code, reason, lastedMs} of the end, or {again: true} when the client itself wants another one at once. */
  get over() {
    return this.#over.promise;
  }

  send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  /** The edge has answered; it is never silent for longer than `heartbeatMs`, though pages do not see all of it. */
  welcomed(heartbeatMs) {
    clearTimeout(this.#deadline);
    clearTimeout(this.#quiet); // of an edge that welcomes twice
    this.#welcomedAt = performance.now();
    if (!(heartbeatMs > 0)) return;
    this.#heartbeatMs = bounded(heartbeatMs, HEARTBEAT_MIN_MS);
    this.#listen();
  }

  /** After a hand-over more may be handled than has come on this connection; that far goes what is acknowledged on it. */
  acknowledge(to, handled) {
    const seq = Math.min(handled, this.sent.get(to) ?? -1);
    if (seq <= (this.#acked.get(to) ?? -1)) return;
    this.#acked.set(to, seq);
    this.send({ type: "ack", to: to.startsWith(OWN_PREFIX) ? undefined : to, seq });
  }

  /** Ask whether the edge is there; anything it says is an answer. */
  probe() {
    if (this.#welcomedAt === null || this.#pong !== null) return;
    this.send({ type: "ping" });
    this.#pong = setTimeout(() => this.part({ code: ABNORMAL, reason: "a ping was not answered" }), this.#timeouts.pongMs);
  }

  /** End it here and now. The closing handshake of a dead connection would take a minute, and is not waited for. */
  part(end) {
    for (const timer of [this.#deadline, this.#quiet, this.#pong]) clearTimeout(timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(NORMAL);
    }
    const lastedMs = this.#welcomedAt === null ? 0 : performance.now() - this.#welcomedAt;
    this.#over.resolve({ ...end, lastedMs });
  }

  #heard(data) {
    this.#heardAt = performance.now();
    clearTimeout(this.#pong);
    this.#pong = null;
    this.#frame(data);
  }

  #listen() {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs >= this.#heartbeatMs) this.probe();
    const waitMs = silentMs >= this.#heartbeatMs ? this.#heartbeatMs : this.#heartbeatMs - silentMs;
    if (this.#socket !== null) this.#quiet = setTimeout(() => this.#listen(), waitMs);
  }
}

// -- small things -------------------------------------------------------------------------------------------------------

function complete(options) {
  const { urls, token, shared } = options;
  if (!Array.isArray(urls) || urls.length === 0) throw new TypeError("urls: expected at least one address of an edge");
  if (typeof token !== "function") throw new TypeError("token: expected a function that returns a token");
  const locks = options.locks === undefined ? (globalThis.navigator?.locks ?? null) : options.locks;
  const alone = shared !== undefined && locks === null;
  return {
    onStatus: () => {},
    cursors: memoryCursors(),
    WebSocket: globalThis.WebSocket,
    ...options,
    topics: (options.topics ?? []).map(checkedTopic),
    presence: (options.presence ?? []).map(checkedTopic),
    // A socket a tab instead of one for all: as one device they would end each other.
    device: alone ? undefined : options.device,
    pauses: { ...PAUSES, ...options.pauses },
    backlog: { ...BACKLOG, ...options.backlog },
    timeouts: { ...TIMEOUTS, ...options.timeouts },
    locks,
  };
}

function checkedTopic(topic) {
  if (typeof topic !== "string" || !TOPIC.test(topic)) throw new TypeError(`${topic} is no name of a topic`);
  return topic;
}

/** Return the target that a status or frame is of; "" for one of none. */
function targetOf({ to = "", topic }) {
  return topic === undefined ? to : TOPIC_PREFIX + topic;
}

function topicOf(to) {
  return to.slice(TOPIC_PREFIX.length);
}

/** What a frame leaves out when there is nothing in it. */
function someOf(list) {
  return Object.keys(list).length > 0 ? list : undefined;
}

function sorted(map) {
  return Object.fromEntries([...map].sort());
}

const leadLock = (shared) => `pushway:${shared}`;
const tabLock = (shared, tab) => `pushway:${shared}:${tab}`;

/** Frame → whether it has what is used of it. A wrong seq would be kept as a cursor and sent back; others may come in newer edges. */
const FITS = new Map([
  ["welcome", ({ user, seq, all }) => isText(user) && isSeq(seq) && (all === undefined || isSeq(all))],
  ["message", ({ to, seq }) => isText(to) && (seq === undefined || isSeq(seq))],
  ["caught_up", ({ to, seq }) => isText(to) && isSeq(seq)],
  ["lost", ({ to }) => isText(to)],
  ["subscribed", ({ topic, seq }) => isText(topic) && isSeq(seq)],
  ["unsubscribed", ({ topic }) => isText(topic)],
  ["members", ({ topic, users }) => isText(topic) && Array.isArray(users) && users.every(isText)],
  ["joined", ({ topic, user }) => isText(topic) && isText(user)],
  ["left", ({ topic, user }) => isText(topic) && isText(user)],
]);

function isText(value) {
  return typeof value === "string";
}

function decoded(raw) {
  try {
    const frame = JSON.parse(raw);
    const fits = FITS.get(frame.type) ?? (() => isText(frame.type));
    return fits(frame) ? frame : null;
  } catch {
    return null;
  }
}

/** Return target → the least seq that any of the tabs has handled of it. */
function least(tabs) {
  const targets = new Set(tabs.flatMap(({ handled }) => [...handled.keys()]));
  return new Map([...targets].map((to) => [to, Math.min(...tabs.map(({ handled }) => handled.get(to) ?? Infinity))]));
}

/** Return a time that an edge told, fit for a timer: of more than 24 days a browser makes a millisecond. */
function bounded(ms, least) {
  return Math.min(Math.max(least, ms), TOLD_MAX_MS);
}

/** Return a name that nobody else has. `crypto.randomUUID` is missing on pages without HTTPS. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
}

function cycle(urls) {
  let turn = -1;
  return () => urls[(turn = (turn + 1) % urls.length)];
}

function deferred() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}

/** Return after a time, or as soon as the signal is aborted. */
function nap(ms, signal) {
  return new Promise((done) => {
    if (signal?.aborted) return done();
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}

async function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`nothing in ${ms} ms`)), ms)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function aborted(signal) {
  return new Promise((done) => (signal.aborted ? done() : signal.addEventListener("abort", done, { once: true })));
}

function listen(target, event, handler, signal) {
  target?.addEventListener?.(event, handler, { signal });
}

/** A status handler that throws is its page's bug; it must not take the messages with it. */
function callSafely(handler, status) {
  try {
    handler(status);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
