// What a pane shows: messages that came, messages that were sent from here, and what happened to the connection.

/** So many entries are shown; older ones leave. */
const SHOWN = 200;

/** Whoever is as near to the end is not reading further up. */
const NEAR_END_PX = 40;

const CLOCK = new Intl.DateTimeFormat([], {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});

/** Return what writes into a pane's log. */
export function openLog(box) {
  const list = box.querySelector("ol");

  /** Make a change and keep the end in sight; somebody who reads further up is left there. */
  const following = (change) => {
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    change();
    if (follows) box.scrollTop = box.scrollHeight;
  };

  const add = (entry) =>
    following(() => {
      list.append(entry);
      if (list.children.length > SHOWN) list.firstElementChild.remove();
    });

  return {
    /** Show a message that came, so many ms after it was sent. */
    came: (message, tookMs) => add(cameEntry(message, tookMs)),
    /** Show a message that is being sent; returns what tells how far it is, and what takes it back. */
    sent: (to, content) => {
      const entry = made("sent", { content: contentOf(content), to });
      add(entry);
      // They wrote it, so they want to see it.
      box.scrollTop = box.scrollHeight;
      return {
        reached: (what, tookMs) => following(() => entry.querySelector(".way").append(stage(what, tookMs))),
        takeBack: () => entry.remove(),
      };
    },
    /** Say what happened to the connection. */
    note: (words) => add(made("note", { words })),
  };
}

function cameEntry(message, tookMs) {
  const entry = made("came", { content: contentOf(message), took: `+${said(tookMs)}`, seq: message.seq ?? "transient" });
  const time = entry.querySelector("time");
  time.textContent = CLOCK.format(message.ts);
  time.dateTime = new Date(message.ts).toISOString();
  return entry;
}

function stage(what, tookMs) {
  const item = document.createElement("li");
  item.textContent = `${what} ${said(tookMs)}`;
  return item;
}

function made(kind, texts) {
  const entry = document.getElementById(kind).content.firstElementChild.cloneNode(true);
  for (const [name, text] of Object.entries(texts)) entry.querySelector(`.${name}`).textContent = text;
  return entry;
}

/** Return a message's text, be it plain or all that its JSON holds; else the JSON. */
function contentOf({ text, body }) {
  return text ?? (typeof body?.text === "string" && Object.keys(body).length === 1 ? body.text : JSON.stringify(body));
}

/** Say a time span: the shorter, the finer. */
function said(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${ms.toFixed(0)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${(ms / 60_000).toFixed(0)} min`;
}
