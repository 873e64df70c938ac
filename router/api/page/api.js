// What the page asks of the API. Whatever goes wrong is an error whose message is for people.

/** Longest wait for an answer. */
const ANSWER_MS = 10_000;

/** The API refused, in the words of its problem document; `field` names what it is about, where the document does. */
export class Refused extends Error {
  constructor(status, { title, detail, field } = {}) {
    super(detail ?? (title ? `${title} (${status})` : `the API answered ${status} without a word`));
    this.name = "Refused";
    this.status = status;
    this.field = field ?? null;
  }
}

export function get(address) {
  return ask(address, {});
}

export function post(address, wish) {
  return ask(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(wish) });
}

async function ask(address, request) {
  const answer = await answered(address, request);
  const document = await answer.json().catch(() => undefined);
  if (!answer.ok) throw new Refused(answer.status, document);
  return document;
}

async function answered(address, request) {
  try {
    return await fetch(address, { ...request, signal: AbortSignal.timeout(ANSWER_MS) });
  } catch (cause) {
    const what = cause.name === "TimeoutError" ? `has not answered in ${ANSWER_MS / 1_000} s` : "cannot be reached";
    throw new Error(`The API ${what}. Is pushway up still running?`, { cause });
  }
}
