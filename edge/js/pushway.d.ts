/** Target (`user:<id>`, `all`, `topic:<name>`) → the last seq that was handled. */
export type Cursors = Record<string, number>;

/** Where cursors are kept. `save` gets all of them each time, at most about once a second and when the page goes. */
export interface CursorStore {
  load(): Cursors | Promise<Cursors>;
  save(cursors: Cursors): void | Promise<void>;
}

/** A message as it came: a JSON value in `body`, or a text in `text`. */
export interface Message<Body = unknown> {
  type: "message";
  /** The target it was sent to: `user:<id>`, `topic:<name>` or `all`. */
  to: string;
  /** Its place in the target's order; missing when it is transient. */
  seq?: number;
  /** The producer's, or one made by the cluster. */
  id: string;
  /** When it was appended, Unix ms. */
  ts: number;
  body?: Body;
  text?: string;
}

/** What a client tells about itself, in order. */
export type Status =
  /** An edge is tried. */
  | { type: "connecting"; url: string }
  /** A session is open: from here on nothing is missed. */
  | { type: "open"; url: string; user: string; node: string; session: string }
  /** Everything that was missed has come. */
  | { type: "caught_up"; to: string; seq: number }
  /** A topic is heard, asked for or given by a back end, in each session anew; what has a higher seq comes from here on. */
  | { type: "subscribed"; topic: string; seq: number }
  /** It is not any more: nothing of it comes from here on. */
  | { type: "unsubscribed"; topic: string }
  /** Who has subscribed to a topic that is heard with `presence`; replaces what was known, in each session anew. */
  | { type: "members"; topic: string; users: string[] }
  /** A user has subscribed to it, with the first session; or hears it no more, in any. */
  | { type: "joined"; topic: string; user: string }
  | { type: "left"; topic: string; user: string }
  /** The cursor is older than what is retained: what lay between may be gone. */
  | { type: "lost"; to: string; from: number; until: number }
  /** A connection ended or could not be had. `code` is the close code; null when none was opened. */
  | { type: "waiting"; retryInMs: number; code: number | null; reason: string }
  /** The handler is behind: the connection is let go until half of the backlog is done. Transient messages are missed. */
  | { type: "paused" }
  /** It is over, until the next `start()`: an edge said not to come back, `close()` was called, `onMessage` failed, or the
   * cursors are another user's (null). */
  | { type: "closed"; code: number | null; reason: string }
  /** `code` is the edge's, or one of `token`, `cursors`, `handler`, `failed`; the last two end the client. */
  | { type: "error"; code: string; message: string; error?: unknown };

export interface Options<Body = unknown> {
  /** Addresses of edges, such as `wss://push.example.com/v1/connect`; tried in turn. */
  urls: string[];
  /**
   * Returns a token for each connect, and, before it ends, the one that the connection goes on with. `fresh`: the last one has
   * expired or is about to, so no kept one will do. Throws when there is none. Of pages that share a connection the leader's is asked.
   */
  token: (wish: { fresh: boolean }) => string | Promise<string>;
  /**
   * Names this device to the cluster, which keeps its cursors: what was handled is acknowledged, and where `cursors` has none the
   * client begins behind that. A second session of a device ends the first.
   */
  device?: string;
  /** Topics to hear from the beginning, beside those that a back end or the token gives; see `subscribe`. */
  topics?: string[];
  /** Topics to hear and to be told who else does; see `subscribe`. */
  presence?: string[];
  /**
   * Where cursors are kept; they win over the device's. Default: `memoryCursors()`: behind the device's cursor or, without a
   * device, with what comes from now on.
   */
  cursors?: CursorStore;
  /**
   * Handles a message; the next one comes when the promise has resolved. One that throws ends the client, and gets the message
   * again after the next `start()`. Without it, iterate.
   */
  onMessage?: (message: Message<Body>) => unknown;
  onStatus?: (status: Status) => void;
  /**
   * Pages of one origin that give the same name share one connection: name the user in it. Needs Web Locks (HTTPS or localhost); elsewhere each
   * has its own, without a device.
   */
  shared?: string;
  /** How long to wait between tries: from nothing up to a ceiling that doubles from `minMs` (500) to `maxMs` (20,000). */
  pauses?: { minMs?: number; maxMs?: number };
  /** What may wait for the handler: 1,000 messages, 4,194,304 characters. */
  backlog?: { messages?: number; chars?: number };
  /** Longest waits; see TIMEOUTS in the module. */
  timeouts?: {
    tokenMs?: number;
    welcomeMs?: number;
    pongMs?: number;
    storeMs?: number;
    closeMs?: number;
    answerMs?: number;
  };
  /** A WebSocket constructor, where there is no global one. */
  WebSocket?: new (url: string, protocols: string[]) => unknown;
  /** Web Locks, where they are not `navigator.locks`. */
  locks?: unknown;
}

/** The messages of one user, of topics and of all, over whatever happens to the connections. */
export class Client<Body = unknown> implements AsyncIterable<Message<Body>> {
  constructor(options: Options<Body>);
  /** How this page gets its messages; null while not started. */
  get role(): "alone" | "leader" | "follower" | null;
  /** What waits for the handler now. */
  get backlog(): { messages: number; chars: number };
  /** Connect, and stay connected until `close()` or an edge says not to come back. Does nothing while it runs.
   * Throws where there is no `WebSocket`. */
  start(): void;
  /** End. What was handled is stored and acknowledged first; what still waits comes again after the next `start()`. */
  close(): Promise<void>;
  /**
   * Hear a topic: at once where a session is open, and in each one to come. It begins behind its stored cursor, or `since`, or
   * the device's cursor, or else with what comes from now on. A topic that is wanted already goes on as it is. One that the token
   * does not grant (status `error`, code `forbidden`) stays wanted, and is asked for again with the next connect. With `presence`
   * the statuses `members`, `joined` and `left` tell who else hears it, until it is unsubscribed.
   */
  subscribe(topic: string, options?: { since?: number; presence?: boolean }): void;
  /** Hear it no longer, from this moment on, whoever gives it, and forget its cursor, but for the device's. */
  unsubscribe(topic: string): void;
  /** Have the connection checked now, or the next try made now; a browser's own events do so too. */
  probe(): void;
  /**
   * Start, and yield messages; one counts as handled when the next is asked for. Ends after `close()` or close code 1000;
   * throws `NotWelcome` when an edge said not to come back. One loop at a time.
   */
  [Symbol.asyncIterator](): AsyncIterator<Message<Body>, undefined>;
}

/** An edge closed with a code that says: do not reconnect. */
export class NotWelcome extends Error {
  constructor(code: number | null, reason: string);
  readonly code: number | null;
  readonly reason: string;
}

/** Cursors that live as long as this object; `{"user:alice": 0}` begins with everything retained for her. */
export function memoryCursors(initial?: Cursors): CursorStore;

/**
 * Cursors in localStorage under `pushway:<name>`. The name says whose they are: give each user one of their own. Without
 * localStorage that is told once (status `error`, code `cursors`), and they are kept in memory.
 */
export function localStorageCursors(name: string): CursorStore;

/** Tell whether a close code lets a client come back. */
export function mayReconnect(code: number): boolean;

/** Return a pause after so many failures in a row, the first being 0: from nothing up to a doubling ceiling (full jitter). */
export function pauseMs(failures: number, pauses?: { minMs: number; maxMs: number }, random?: () => number): number;
