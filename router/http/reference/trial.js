// A request that is made from the page, and the line that makes the same one from a shell.

const COPIED_MS = 1_500;

/** Set up the trial of an operation: inputs for its parameters and body, the line, the button, the answer. */
export function setUp(trial, { method, path, operation, key }) {
  const inputs = (operation.parameters ?? []).map((parameter) => [parameter, input(parameter)]);
  const [mediaType, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const body = content && textarea(mediaType, bodyText(mediaType, content.example));
  trial.querySelector(".inputs").append(...inputs.map(([, field]) => field), ...(body ? [body] : []));

  const request = () => ({
    method,
    url: location.origin + address(path, inputs),
    headers: {
      ...(operation.security?.length ? { authorization: `Bearer ${key.value}` } : {}),
      ...(body ? { "content-type": mediaType } : {}),
      ...Object.fromEntries(given(inputs, "header")),
    },
    body: body?.lastElementChild.value,
  });

  const show = () => (trial.querySelector(".curl").textContent = curl(request()));
  trial.addEventListener("input", show);
  show();
  copies(trial.querySelector(".copy"), trial.querySelector(".curl"));
  trial.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    await send(request(), trial.querySelector("output"));
  });
}

/** Return a labelled field for a parameter. */
function input({ name, required, example }) {
  const label = document.createElement("label");
  const field = document.createElement("input");
  field.required = required;
  field.value = required ? (example ?? "") : "";
  field.placeholder = required ? "" : String(example ?? "");
  field.autocomplete = "off";
  field.spellcheck = false;
  label.append(name, field);
  return label;
}

function textarea(mediaType, text) {
  const label = document.createElement("label");
  label.className = "whole";
  const field = document.createElement("textarea");
  field.value = text;
  field.spellcheck = false;
  label.append(mediaType, field);
  return label;
}

function bodyText(mediaType, example) {
  if (mediaType === "application/x-www-form-urlencoded") return new URLSearchParams(example ?? {}).toString();
  return JSON.stringify(example ?? {}, null, 2);
}

/** Return [name, value] of the parameters of one kind that are filled in. */
function given(inputs, where) {
  return inputs
    .filter(([parameter, field]) => parameter.in === where && field.lastElementChild.value)
    .map(([parameter, field]) => [parameter.name, field.lastElementChild.value]);
}

function address(path, inputs) {
  const filled = given(inputs, "path").reduce((made, [name, value]) => made.replace(`{${name}}`, encodeURIComponent(value)), path);
  const query = new URLSearchParams(given(inputs, "query")).toString();
  return query ? `${filled}?${query}` : filled;
}

/** Return the line for a shell; the key is for its reader to set, so that it stands in no history. */
function curl({ method, url, headers, body }) {
  const words = Object.entries(headers).map(([name, value]) =>
    name === "authorization" ? '-H "Authorization: Bearer $key"' : `-H ${quoted(`${name}: ${value}`)}`);
  const verb = method === "GET" || (method === "POST" && body !== undefined) ? [] : [`-X ${method}`];
  return ["curl", ...verb, quoted(url), ...words, ...(body === undefined ? [] : ["-d", quoted(body)])].join(" ");
}

/** Quote for a shell, where it is needed. */
function quoted(word) {
  return /^[\w:@%+=,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Make a request and show what comes back. */
async function send({ url, ...request }, output) {
  const [outcome, code] = [output.querySelector(".outcome"), output.querySelector("code")];
  output.hidden = false;
  outcome.textContent = "…";
  code.textContent = "";
  const began = performance.now();
  try {
    const answer = await fetch(url, { ...request, credentials: "omit", cache: "no-store" });
    const text = await answer.text();
    const took = Math.round(performance.now() - began);
    outcome.textContent = `${answer.status} ${answer.statusText} · ${answer.headers.get("content-type") ?? "no body"} · ${took} ms`;
    code.textContent = pretty(text);
  } catch (error) {
    outcome.textContent = `No answer: ${error.message}`;
  }
}

function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  return laidOut(text);
}

/** Lay out JSON by its tokens: parsed and written again, a number of many digits would come out as another one. */
function laidOut(text) {
  let depth = 0;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g);
  return tokens.map((token, place) => {
    const empty = (token === "{" || token === "[") && (tokens[place + 1] === "}" || tokens[place + 1] === "]");
    const ended = (token === "}" || token === "]") && (tokens[place - 1] === "{" || tokens[place - 1] === "[");
    if (empty || ended) return token;
    if (token === "{" || token === "[") return `${token}\n${"  ".repeat(++depth)}`;
    if (token === "}" || token === "]") return `\n${"  ".repeat(--depth)}${token}`;
    if (token === ",") return `,\n${"  ".repeat(depth)}`;
    return token === ":" ? ": " : token;
  }).join("");
}

function copies(button, line) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line.textContent);
    } catch {
      // Not allowed here, as on a page without TLS: it is selected, for Ctrl-C.
      return getSelection().selectAllChildren(line);
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
  });
}
