// The lines that do from a shell what a pane's box does, and how they get into the clipboard.

/** Where the key of the API is under `up`: it is read there, so that it stands neither on a page nor in a shell's history. */
const KEY_LINE = String.raw`key=$(sed -n 's/^api_key = "\(.*\)"/\1/p' .pushway/pushway.toml)`;

const COPIED_MS = 1_500;

/** Return the line that appends a message with redis-cli. */
export function xaddLine({ redis_cli, intake }, fields) {
  const pairs = Object.entries(fields).map(([field, value]) => `${field} ${quoted(field === "body" ? JSON.stringify(value) : value)}`);
  return `${redis_cli} XADD ${quoted(intake)} '*' ${pairs.join(" ")}`;
}

/** Return the lines that post it to the API, in the folder where `up` was started. */
export function curlLines(fields) {
  const address = quoted(`${location.origin}/v1/messages`);
  const headers = `-H "Authorization: Bearer $key" -H 'Content-Type: application/json'`;
  return `${KEY_LINE}\ncurl ${address} ${headers} -d ${quoted(JSON.stringify(fields))}`;
}

/** Quote for a shell, where it is needed. */
function quoted(word) {
  return /^[\w:@%+=,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Have a button copy the line beside it; `say` hears what came of it. */
export function copies(button, say) {
  button.addEventListener("click", async () => {
    const line = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(line.textContent);
    } catch {
      getSelection().selectAllChildren(line);
      return say("The browser does not let the page copy: the line is selected, press Ctrl-C.");
    }
    say("Copied.");
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
  });
}
