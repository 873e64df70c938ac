// One pane: a user, their connection, what they get and what they send.

import { Client, memoryCursors } from "./pushway.js";

/** So many messages are shown; older ones leave. */
const SHOWN = 200;

/** Return a pane with a user who is connecting; `writeTo` says whom the message box is for. */
export function openPane({ places, user, edge, label }) {
  const element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
  element.setAttribute("aria-label", label);
  const find = (selector) => element.querySelector(selector);
  const who = find(".who");
  const sending = find(".sending");
  const { user: name, edge: choice } = who.elements;
  const { to, content } = sending.elements;
  const toggle = find(".who button");
  const complain = (text) => (find(".problem").textContent = text);
  let client = null;
  /** Who is, or is being, connected, and to which edge; null when nobody is. */
  let session = null;
  /** How far the pane's user has come: it outlives connections, so that what comes between two of them is shown too. */
  let progress = { user: null, cursors: null };

  name.value = user;
  choice.append(...places.edges.map((url, n) => new Option(`edge-${n + 1} (${new URL(url).port})`, n)));
  choice.value = edge;

  const connect = async () => {
    const mine = { user: name.value, edge: choice.value };
    session = mine;
    complain("");
    await client?.close();
    if (session !== mine) return;
    if (progress.user !== mine.user) progress = { user: mine.user, cursors: memoryCursors() };
    client = new Client({
      urls: from(places.edges, Number(mine.edge)),
      // Of the session, not of the box: somebody may be typing another name there.
      token: () => tokenOf(mine),
      cursors: progress.cursors,
      onMessage: (message) => show(find(".messages"), message),
      onStatus: (status) => session === mine && onStatus(status),
    });
    client.start();
    toggle.textContent = "Disconnect";
  };

  const tokenOf = async (mine) => {
    const tell = (text) => session === mine && complain(text);
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
    const words = said(status);
    if (words === null) return;
    element.dataset.state = status.type;
    find(".state .words").textContent = words;
    find(".state .node").textContent = status.type === "open" ? status.node : "";
    if (status.type !== "closed") return;
    session = null;
    toggle.textContent = "Connect";
  };

  const writeLines = () => {
    const fields = { to: to.value, ...parsed(content.value || '{"text":"hello"}') };
    const pairs = Object.entries(fields).map(([field, value]) => `${field} ${quoted(field === "body" ? JSON.stringify(value) : value)}`);
    find(".xadd").textContent = `${places.redis_cli} XADD ${quoted(places.intake)} '*' ${pairs.join(" ")}`;
    find(".curl").textContent =
      `curl ${quoted(`${location.origin}/page/send`)} -H 'content-type: application/json' -d ${quoted(JSON.stringify(fields))}`;
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
  sending.addEventListener("input", writeLines);
  sending.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post("/page/send", { to: to.value, ...parsed(content.value) });
      content.value = "";
      complain("");
      writeLines();
    } catch (error) {
      complain(error.message);
    }
  });
  for (const button of element.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));

  connect();
  return { element, writeTo: (target) => ((to.value = target), writeLines()) };
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

function show(list, { text, body, ts, seq }) {
  const item = document.getElementById("message").content.firstElementChild.cloneNode(true);
  item.querySelector(".content").textContent = text ?? (typeof body?.text === "string" ? body.text : JSON.stringify(body));
  item.querySelector("time").textContent = new Date(ts).toLocaleTimeString();
  item.querySelector("time").dateTime = new Date(ts).toISOString();
  item.querySelector(".seq").textContent = seq ?? "transient";
  list.append(item);
  if (list.children.length > SHOWN) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
}

/** Return {body} for what is JSON, {text} for anything else. */
function parsed(content) {
  try {
    return { body: JSON.parse(content) };
  } catch {
    return { text: content };
  }
}

/** Quote for a shell, where it is needed. */
function quoted(word) {
  return /^[\w:@%+=,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

async function post(address, wish) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(wish),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail ?? `${address} answered ${answer.status}`);
  return document;
}

async function copy(button) {
  await navigator.clipboard.writeText(button.previousElementSibling.textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1_500);
}
