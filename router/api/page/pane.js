// One pane: a user, their connection, what they get and what they send.

import { Client } from "./pushway.js";

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
  let client = null;

  name.value = user;
  choice.append(...places.edges.map((url, n) => new Option(`edge-${n + 1} (${new URL(url).port})`, n)));
  choice.value = edge;

  const connect = async () => {
    await client?.close();
    const chosen = Number(choice.value);
    // The chosen one first; the others are where it goes when that one is gone.
    const urls = [...places.edges.slice(chosen), ...places.edges.slice(0, chosen)];
    const token = async () => (await post("/page/token", { user: name.value })).token;
    client = new Client({ urls, token, onMessage: (message) => show(find(".messages"), message), onStatus });
    client.start();
    toggle.textContent = "Disconnect";
  };

  const onStatus = (status) => {
    const words = said(status);
    if (words === null) return;
    element.dataset.state = status.type;
    find(".state .words").textContent = words;
    find(".state .node").textContent = status.type === "open" ? status.node : "";
    if (status.type === "closed") toggle.textContent = "Connect";
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
    if (client !== null && client.role !== null) client.close();
    else connect();
  });
  who.addEventListener("change", connect);
  sending.addEventListener("input", writeLines);
  sending.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post("/page/send", { to: to.value, ...parsed(content.value) });
      content.value = "";
      find(".problem").textContent = "";
      writeLines();
    } catch (error) {
      find(".problem").textContent = error.message;
    }
  });
  for (const button of element.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));

  connect();
  return { element, writeTo: (target) => ((to.value = target), writeLines()) };
}

/** Say a status in words; null for one that does not change how the connection stands. */
function said({ type, retryInMs, code, reason }) {
  if (type === "connecting") return "connecting …";
  if (type === "open") return "connected to";
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
