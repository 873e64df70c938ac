// One pane: a user, their connection, what they get and what they send.

import { post } from "./api.js";
import { openLog } from "./log.js";
import { Client, memoryCursors } from "./pushway.js";
import { copies, curlLines, xaddLine } from "./shell.js";
import { newId } from "./ways.js";

/** Return a pane with a user who is connecting, and who writes to a peer unless told otherwise. */
export function openPane({ places, ways, say, user, peer, edge, label }) {
  const element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
  element.setAttribute("aria-label", label);
  const find = (selector) => element.querySelector(selector);
  const who = find(".who");
  const { user: name, edge: choice } = who.elements;
  const toggle = find(".who button");
  const log = openLog(find(".log"));
  const troubles = { connection: "", sending: "" };
  /** Say what is wrong with the connection or with what was sent: neither takes back what is said of the other. */
  const complain = (what, text) => {
    troubles[what] = text;
    find(".problem").textContent = Object.values(troubles).filter(Boolean).join(" ");
  };
  let client = null;
  /** Who is, or is being, connected, and to which edge; null when nobody is. */
  let session = null;
  /** The node of the session that is open; null while none is. */
  let node = null;
  /** How far the pane's user has come: it outlives connections, so that what comes between two of them is shown too. */
  let progress = { user: null, cursors: null };

  name.value = user;
  choice.append(...places.edges.map((url, n) => new Option(`${edgeName(n)} (${new URL(url).port})`, n)));
  choice.value = edge;

  const connect = async () => {
    const mine = { user: name.value, edge: choice.value };
    session = mine;
    complain("connection", "");
    await client?.close();
    if (session !== mine) return;
    if (progress.user !== mine.user) progress = { user: mine.user, cursors: memoryCursors() };
    client = new Client({
      urls: from(places.edges, Number(mine.edge)),
      // Of the session, not of the box: somebody may be typing another name there.
      token: () => tokenOf(mine),
      cursors: progress.cursors,
      onMessage: (message) => log.came(message, ways.reached(message.id, `shown to ${mine.user}`) ?? Math.max(0, Date.now() - message.ts)),
      onStatus: (status) => session === mine && onStatus(status),
    });
    client.start();
    toggle.textContent = "Disconnect";
  };

  const tokenOf = async (mine) => {
    const tell = (text) => session === mine && complain("connection", text);
    try {
      const { token } = await post("/page/token", { user: mine.user });
      tell("");
      return token;
    } catch (error) {
      tell(error.message);
      throw error;
    }
  };

  const isChosen = () => session !== null && session.user === name.value && session.edge === choice.value;

  const onStatus = (status) => {
    if (status.type === "lost") log.note("Something that was sent meanwhile is retained no longer, and cannot be had any more");
    const words = said(status);
    if (words === null) return;
    element.dataset.state = status.type;
    const elsewhere = status.type === "open" && status.url !== places.edges[session.edge];
    find(".state .words").textContent = elsewhere ? `${edgeName(Number(session.edge))} is away; ${words}` : words;
    find(".state .node").textContent = status.type === "open" ? status.node : "";
    noteChange(status);
    if (status.type !== "closed") return;
    session = null;
    toggle.textContent = "Connect";
  };

  /** Keep in the log what came between messages: an edge that went, and the one that took its place. */
  const noteChange = ({ type, user, node: reached, reason }) => {
    if (type === "open") log.note(`${user} is on ${reached}`);
    else if (node !== null) log.note(`${session.user} is no longer on ${node}: ${reason ?? "the page is behind"}`);
    node = type === "open" ? reached : null;
  };

  who.addEventListener("submit", (event) => {
    event.preventDefault();
    if (isChosen()) client?.close();
    else connect();
  });
  choice.addEventListener("change", connect);
  // Not `change`: Enter fires that too, right before `submit`, which would end what it began. And a click on Connect takes the
  // focus from the name first.
  name.addEventListener("blur", () => session !== null && !isChosen() && connect());
  listenToBox(element, { places, ways, log, complain, to: `user:${peer}` });
  for (const button of element.querySelectorAll(".copy")) copies(button, say);

  connect();
  return element;
}

/** Have a pane's box send, and the lines below say the same. */
function listenToBox(element, { places, ways, log, complain, to: first }) {
  const box = element.querySelector(".sending");
  const { to, content } = box.elements;
  to.value = first;

  const writeLines = () => {
    const fields = { to: to.value, ...parsed(content.value || '{"text":"hello"}') };
    element.querySelector(".xadd").textContent = xaddLine(places, fields);
    element.querySelector(".curl").textContent = curlLines(fields);
  };

  /** What was sent last, answered or refused: messages go one after the other, or they could overtake each other on the way. */
  let settled = Promise.resolve();

  const send = (written) => {
    const message = { to: to.value, ...parsed(written), id: newId() };
    const entry = log.sent(message.to, message);
    ways.begin(message.id, entry.reached);
    settled = settled.then(() => append(message, entry, written));
  };

  const append = async (message, entry, written) => {
    const { id } = message;
    try {
      await post("/page/send", message);
      ways.reached(id, "API answered");
      complain("sending", "");
    } catch (error) {
      entry.takeBack();
      ways.forget(id);
      // It is there to be mended, unless somebody is writing the next one already.
      content.value ||= written;
      complain("sending", error.message);
      blame(error.field);
    }
    writeLines();
  };

  const blame = (field) => {
    to.setAttribute("aria-invalid", field === "to");
    content.setAttribute("aria-invalid", field === "body" || field === "text");
  };

  box.addEventListener("input", () => (blame(null), writeLines()));
  box.addEventListener("submit", (event) => {
    event.preventDefault();
    const written = content.value;
    content.value = "";
    send(written);
    content.focus();
  });
  writeLines();
}

/** How `up` names the nth edge, counted from 0. */
function edgeName(n) {
  return `edge-${n + 1}`;
}

/** Return edges in the order to try: the chosen one first; the others are where to go when that one is gone. */
function from(edges, chosen) {
  return [...edges.slice(chosen), ...edges.slice(0, chosen)];
}

/** Say a status in words; null for one that does not change how the connection stands. */
function said({ type, user, retryInMs, code, reason }) {
  if (type === "connecting") return "connecting …";
  if (type === "open") return `connected as ${user} to`;
  if (type === "waiting") return `${reason}${code === null ? "" : ` (${code})`}; next try in ${(retryInMs / 1_000).toFixed(1)} s`;
  if (type === "paused") return "too much at once: reading on soon";
  if (type === "closed") return code === 1000 ? "not connected" : `closed: ${reason}${code === null ? "" : ` (${code})`}`;
  return null;
}

/** Return {body} for what is JSON, {text} for anything else. */
function parsed(content) {
  try {
    return { body: JSON.parse(content) };
  } catch {
    return { text: content };
  }
}
