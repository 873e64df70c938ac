// JSON Schema, as far as the service's document uses it, in words and lists.

const DEPTH_MAX = 6;

/** Return the schema that a reference leads to, or the schema itself. */
export function resolved(document_, schema) {
  const name = schema.$ref?.split("/").at(-1);
  return name ? document_.components.schemas[name] : schema;
}

/** Say in a few words what a value of a schema is. */
export function kind(document_, schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map((option) => kind(document_, option)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `array of ${kind(document_, schema.items ?? {})}`;
  return schema.type ?? "any JSON";
}

/** Fill a list with the members of a schema's object, whatever array or choice it stands in, and theirs. */
export function fill(list, document_, schema, depth = 0) {
  const shown = new Set();
  for (const object of objects(document_, schema)) {
    // One of a kind and an array of them have the same members.
    const members = JSON.stringify(object.properties);
    if (shown.has(members)) continue;
    shown.add(members);
    const required = new Set(object.required);
    for (const [name, member] of Object.entries(object.properties ?? {})) {
      list.append(...entry(document_, name, member, required.has(name), depth));
    }
  }
}

/** Return the term of a member, and what there is to say of it. */
export function entry(document_, name, schema, required, depth = 0) {
  const term = document.createElement("dt");
  const title = document.createElement("b");
  title.textContent = name;
  term.append(title, " ", span(kind(document_, schema) + bounds(schema)));
  if (required) term.append(" ", span("required", "required"));
  const text = document.createElement("dd");
  text.append(...prose(says(document_, schema)));
  if (depth < DEPTH_MAX) {
    const members = document.createElement("dl");
    members.className = "fields";
    fill(members, document_, schema, depth + 1);
    if (members.childElementCount) text.append(members);
  }
  return [term, text];
}

/** Return what there is to say of a value: its own description, or that of what it may be. */
function says(document_, schema) {
  const options = schema.anyOf ?? schema.oneOf ?? [];
  return [schema, resolved(document_, schema), ...options].find(({ description }) => description)?.description ?? "";
}

/** Return text with what stands between backticks as code. */
export function prose(text) {
  return text.split("`").map((part, place) => {
    if (place % 2 === 0) return document.createTextNode(part);
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
}

/** Return a span with a text. */
function span(text, className = "") {
  const made = document.createElement("span");
  made.textContent = text;
  made.className = className;
  return made;
}

/** Return the objects that a value of a schema may be or hold. */
function objects(document_, schema) {
  const found = resolved(document_, schema);
  if (found.properties) return [found];
  if (found.items) return objects(document_, found.items);
  return (found.anyOf ?? found.oneOf ?? []).flatMap((option) => objects(document_, option));
}

/** Say which numbers, lengths or counts are allowed. */
function bounds({ minimum, maximum, minLength, maxLength, minItems, maxItems }) {
  const [least, most] = [minimum ?? minLength ?? minItems, maximum ?? maxLength ?? maxItems];
  const unit = minLength === undefined && maxLength === undefined ? "" : " characters";
  if (least === undefined && most === undefined) return "";
  if (least === undefined) return `, at most ${most}${unit}`;
  return most === undefined ? `, at least ${least}${unit}` : `, ${least} to ${most}${unit}`;
}
