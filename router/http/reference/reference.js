// The page: reads the service's OpenAPI document and shows each operation.

import { entry, fill, prose } from "./schema.js";
import { setUp } from "./trial.js";

const key = document.querySelector(".key input");

/** Return a copy of a template's element. */
function copyOf(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

function show(document_) {
  document.title = `${document_.info.title}: HTTP reference`;
  document.querySelector("h1").textContent = `${document_.info.title} ${document_.info.version}`;
  const source = document.createElement("a");
  source.href = "/v1/openapi.json";
  source.textContent = `OpenAPI ${document_.openapi}`;
  document.querySelector(".about").replaceChildren(...prose(`${document_.info.description} `), source);
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const described = { method: method.toUpperCase(), path, operation };
      document.querySelector("main").append(article(document_, described));
      document.querySelector("nav ul").append(link(described));
    }
  }
  // The browser looked for it before it was there.
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function link({ method, operation }) {
  const [item, anchor] = [document.createElement("li"), document.createElement("a")];
  anchor.href = `#${operation.operationId}`;
  anchor.append(badge(document.createElement("span"), method), operation.summary);
  item.append(anchor);
  return item;
}

function badge(element, method) {
  element.className = "method";
  element.dataset.method = method;
  element.textContent = method;
  return element;
}

function article(document_, { method, path, operation }) {
  const made = copyOf("operation");
  made.id = operation.operationId;
  badge(made.querySelector(".method"), method);
  made.querySelector(".path").textContent = path;
  const summary = made.querySelector(".summary");
  summary.textContent = operation.summary;
  summary.href = `#${operation.operationId}`;
  made.querySelector(".description").append(...prose(operation.description));
  showScope(made.querySelector(".needs"), operation.security?.[0]);
  showParameters(made.querySelector(".takes"), document_, operation.parameters ?? []);
  showBody(made.querySelector(".body"), document_, operation.requestBody);
  const answers = Object.entries(operation.responses).map(([status, answer]) => shown(document_, status, answer));
  made.querySelector(".answers").append(...answers);
  setUp(made.querySelector(".trial"), { method, path, operation, key });
  return made;
}

function showScope(line, security) {
  line.hidden = !security;
  line.querySelector("code").textContent = Object.values(security ?? {}).flat().join(", ");
}

function showParameters(section, document_, parameters) {
  section.hidden = parameters.length === 0;
  for (const { name, in: where, schema, description, required } of parameters) {
    const [term, text] = entry(document_, name, { ...schema, description }, required);
    term.append(` · ${where}`);
    section.querySelector("dl").append(term, text);
  }
}

function showBody(section, document_, body) {
  section.hidden = !body;
  if (!body) return;
  section.querySelector("small").textContent = Object.keys(body.content).join(" or ");
  section.querySelector("p").append(...prose(body.description));
  fill(section.querySelector("dl"), document_, Object.values(body.content)[0].schema);
}

function shown(document_, status, { description, content = {}, headers = {} }) {
  const made = copyOf("answer");
  const number = made.querySelector(".status");
  number.textContent = status;
  number.classList.toggle("problem", status >= 400 && status < 500);
  number.classList.toggle("failure", status >= 500);
  made.querySelector(".says").append(...prose(description));
  const list = made.querySelector("dl");
  for (const [name, header] of Object.entries(headers)) {
    list.append(...entry(document_, name, { ...header.schema, description: header.description }, false));
  }
  const [{ schema, example } = {}] = Object.values(content);
  if (schema) fill(list, document_, schema);
  made.querySelector(".example").hidden = example === undefined;
  made.querySelector(".example code").textContent = JSON.stringify(example, null, 2);
  return made;
}

try {
  const answer = await fetch("/v1/openapi.json");
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.querySelector(".about").textContent = `openapi.json cannot be read: ${error.message}`;
}
