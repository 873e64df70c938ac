// Two panes, and where everything is.

import { openPane } from "./pane.js";

const USERS = ["alice", "bob"];

const places = await (await fetch("/page/places")).json();
const panes = USERS.map((user, n) => openPane({ places, user, edge: n % places.edges.length, label: `Pane ${n + 1}` }));
document.querySelector("main").append(...panes.map(({ element }) => element));
panes.forEach((pane, n) => pane.writeTo(`user:${USERS[(n + 1) % USERS.length]}`));
