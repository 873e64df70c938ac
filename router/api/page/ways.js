// How far each message that was sent from this page has come. Both panes are of one page, and so of one clock.

/** So many messages are followed; of older ones nobody asks any more. */
const FOLLOWED = 400;

/** Return what remembers messages by id, from the key that was pressed to the pane that shows them. */
export function followWays() {
  const ways = new Map();
  return {
    /** Follow a message from now on; `reached(what, ms)` hears how far it is. */
    begin: (id, reached) => {
      ways.set(id, { at: performance.now(), reached });
      if (ways.size > FOLLOWED) ways.delete(ways.keys().next().value);
    },
    /** Say how far it is; returns the ms that took, null when it was not sent from this page. */
    reached: (id, what) => {
      const way = ways.get(id);
      if (way === undefined) return null;
      const tookMs = performance.now() - way.at;
      way.reached(what, tookMs);
      return tookMs;
    },
    forget: (id) => ways.delete(id),
  };
}

/** Return an id that no other message has. `crypto.randomUUID` is missing on pages without HTTPS. */
export function newId() {
  return `page-${Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join("")}`;
}
