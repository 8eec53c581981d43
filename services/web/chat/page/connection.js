// How the connection is, and a button to end it: what is written meanwhile waits in the browser.
import { h } from "./dom.js";
import { icon } from "./icons.js";

const words = {
  idle: "Connecting…",
  connecting: "Connecting…",
  connected: "Connected",
  waiting: "No connection: trying again",
  stopped: "Offline",
};

const reasons = {
  replaced: "Open elsewhere",
  disconnected: "Disconnected by the operator",
  refused: "The server refuses this user",
  signed_out: "Signed out",
  unauthenticated: "The server does not accept the token",
};

export function connection({ client }) {
  const state = h("span", { role: "status" });
  const toggle = h("button", { type: "button", class: "quiet", onclick: () => {
    if (client.connection.getSnapshot().state === "stopped") client.connect();
    else client.disconnect();
  } });
  const hint = h("p", { class: "soft", hidden: true }, "What you write waits here, also when you load the page again, and is sent once you are online.");
  const bar = h("div", { class: "connection" }, h("span", { class: "dot", "aria-hidden": "true" }), state, toggle, hint);
  const show = () => {
    const { state: now, reason, complete } = client.connection.getSnapshot();
    bar.dataset.state = now;
    state.textContent = reasons[reason] ?? (complete ? words[now] : "Connected: older messages follow");
    toggle.replaceChildren(icon(now === "stopped" ? "online" : "offline"), now === "stopped" ? "Go online" : "Go offline");
    hint.hidden = now !== "stopped";
  };
  client.connection.subscribe(show);
  show();
  return bar;
}
