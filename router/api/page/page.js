// Two panes, and where everything is.

import { get } from "./api.js";
import { openPane } from "./pane.js";
import { followWays } from "./ways.js";

const USERS = ["alice", "bob"];
const AGAIN_MS = 2_000;

const main = document.querySelector("main");
const notice = document.querySelector(".notice");
const spoken = document.querySelector(".spoken");

/** Ask where everything is, until it is told. */
async function findPlaces() {
  for (;;) {
    try {
      return await get("/page/places");
    } catch (error) {
      notice.textContent = `${error.message} Trying again …`;
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }
}

function openPanes(places) {
  const ways = followWays();
  const say = (words) => (spoken.textContent = words);
  const panes = USERS.map((user, n) =>
    openPane({
      places,
      ways,
      say,
      user,
      peer: USERS[(n + 1) % USERS.length],
      edge: n % places.edges.length,
      label: `Pane ${n + 1}`,
    }),
  );
  main.replaceChildren(...panes);
}

const places = await findPlaces();
if (places.edges.length > 0) openPanes(places);
else notice.textContent = "The API knows of no edge: the setting edge_urls is empty. Set it, start again, and reload this page.";
