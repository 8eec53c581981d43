// The frame of the console: one view at a time, named by the address, asked to refresh while somebody can see it.
import { h } from "./dom.js";
import { connections } from "./connections.js";
import { conversation } from "./conversation.js";
import { pipeline } from "./pipeline.js";
import { poison } from "./poison.js";
import { rules } from "./rules.js";
import { tail } from "./tail.js";

// A view is made anew each time it is shown: from the element it fills and a signal that aborts when it is left. It may return
// a function that refreshes it.
const views = {
  pipeline: ["Pipeline", pipeline], poison: ["Poison queue", poison], connections: ["Connections", connections],
  conversation: ["Conversation", conversation], tail: ["Live tail", tail], rules: ["Handlers and rules", rules],
};
const pause = 2000;

const place = document.getElementById("view");
const state = document.getElementById("state");
let leaving = new AbortController();
let refresh;

export function tell(text, bad) {
  state.textContent = text;
  state.className = bad ? "bad" : "";
}

function show() {
  const name = location.hash.slice(1) in views ? location.hash.slice(1) : "pipeline";
  leaving.abort();
  leaving = new AbortController();
  document.getElementById("views").replaceChildren(...Object.entries(views).map(([key, [title]]) =>
    h("a", { href: "#" + key, "aria-current": key === name && "page" }, title)));
  place.replaceChildren(h("h2", {}, views[name][0]));
  tell("");
  refresh = views[name][1](place, leaving.signal);
  tick();
}

let ticking = false;
async function tick() {
  if (ticking || !refresh || document.hidden) return;
  ticking = true;
  try {
    await refresh();
    tell("as of " + new Date().toLocaleTimeString());
  } catch (fault) {
    if (fault.name !== "AbortError") tell("cannot refresh: " + fault.message, true);
  } finally {
    ticking = false;
  }
}

addEventListener("hashchange", () => { show(); place.focus(); });
document.addEventListener("visibilitychange", tick);
setInterval(tick, pause);
show();
