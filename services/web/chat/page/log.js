// The messages of a conversation. Older ones are loaded as the user scrolls up.
import { arrange, keyed } from "./arrange.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { roleOf } from "./groups.js";
import { bubble } from "./message.js";
import { rove } from "./rove.js";
import { day } from "./times.js";
import { groupOf, peerOf, titleOf } from "./title.js";

// near is how many pixels count as at the end, and ahead how many before the beginning older messages are asked for.
const near = 48;
const ahead = 400;
// pause is after how many seconds a message stands apart from the one before it by the same sender.
const pause = 300;

export function log(app, chat, write) {
  const group = groupOf(chat.name);
  const peer = peerOf(chat.name, app.me);
  const rows = h("ol", { class: "messages" });
  const changed = rove(rows);
  const feed = h("div", { class: "feed", role: "log", "aria-label": "Messages" }, rows);
  const loadOlder = () => app.attempt(() => chat.loadOlder());
  const older = h("button", { type: "button", class: "more", onclick: loadOlder }, "Load older messages");
  const empty = h("div", { class: "empty" });
  const below = h("span");
  const newer = h("button", { type: "button", class: "newer strong", hidden: true, onclick: () => toEnd() }, icon("down"), below);
  const pane = h("div", { class: "scroll log", tabindex: "0", role: "region", "aria-label": "History", onscroll: scrolled }, older, empty, feed);
  const node = h("div", { class: "pane" }, pane, newer);

  let atEnd = true;
  let acting; // the key of the message whose actions are shown
  let shown; // the snapshot that is shown
  let places = new Map(); // the items that are shown, by message_id
  let wanted; // the message_id that is looked for in history

  const days = keyed(() => h("li", { class: "day" }), (item, text) => item.replaceChildren(h("span", {}, text)));
  const act = (key) => { acting = acting === key ? undefined : key; show(); };
  const messages = keyed(() => h("li"), (item, message, first, read, open, mayRecall, original) =>
    bubble(item, {
      app, chat, write, message, first, read, open, mayRecall, original,
      act: () => act(keyOf(message)), jump: () => app.attempt(() => jump(message.reply_to)),
    }));

  function scrolled() {
    const wasAtEnd = atEnd;
    atEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < near;
    if (atEnd !== wasAtEnd) {
      offer("Latest messages");
      seen();
    }
    if (pane.scrollTop < ahead && shown?.more && !shown.loading) loadOlder();
  }

  // offer shows what is below, unless that is in sight, as what the button leads to.
  function offer(words) {
    below.textContent = words;
    newer.hidden = atEnd;
  }

  function toEnd() {
    pane.scrollTop = pane.scrollHeight;
    atEnd = true;
    newer.hidden = true;
    seen();
  }

  // jump shows a message, for which it loads history until it is there, and gives it the focus.
  async function jump(id) {
    wanted = id;
    while (!places.has(id) && shown.more && wanted === id) {
      app.say("Looking for the message…");
      await chat.loadOlder();
    }
    if (wanted !== id) return; // the user has gone on
    app.say("");
    const place = places.get(id);
    if (!place) throw new Error("The message is not in the history that you see.");
    place.scrollIntoView({ block: "center" });
    scrolled();
    place.focus({ preventScroll: true });
    place.animate([{ background: "var(--raised)" }, { background: "transparent" }], 2000);
  }

  // seen marks what is here as read, if somebody looks at it.
  function seen() {
    if (!atEnd || document.hidden || !document.hasFocus()) return;
    chat.read();
  }

  function show() {
    const before = shown;
    shown = chat.getSnapshot();
    const known = group ? app.groups.of(group) : undefined;
    const moderates = known ? roleOf(known, app.me) !== "member" : false;
    const read = peer === undefined ? 0 : shown.reads[peer] ?? 0;
    const nodes = [];
    const byID = new Map(shown.messages.map((message) => [message.message_id, message]));
    places = new Map();
    let previous;
    for (const message of shown.messages) {
      const label = message.timestamp ? day(message.timestamp) : undefined;
      const newDay = label && (!previous?.timestamp || day(previous.timestamp) !== label);
      if (newDay) nodes.push(days(`${label} ${message.timestamp}`, label));
      const first = newDay || previous?.from !== message.from || (message.timestamp ?? 0) - (previous?.timestamp ?? 0) > pause;
      const key = keyOf(message);
      const item = messages(key, message, Boolean(first), peer !== app.me && (message.seq ?? Infinity) <= read, acting === key, moderates,
        message.reply_to && byID.get(message.reply_to));
      nodes.push(item);
      places.set(message.message_id, item);
      previous = message;
    }
    const fromEnd = pane.scrollHeight - pane.scrollTop;
    const prepended = before?.messages.length && before.messages[0] !== shown.messages[0];
    feed.setAttribute("aria-busy", String(shown.loading)); // what is loaded is not news
    arrange(rows, nodes);
    changed();
    older.hidden = !shown.more;
    older.disabled = shown.loading;
    older.textContent = shown.loading ? "Loading…" : "Load older messages";
    greet();
    if (atEnd) toEnd();
    else if (prepended) pane.scrollTop = pane.scrollHeight - fromEnd;
    if (!atEnd && before?.loaded && last(shown) !== last(before) && last(shown)?.from !== app.me) offer("New messages");
    if (last(shown)?.state === "pending" && last(before)?.client_msg_id !== last(shown).client_msg_id) toEnd();
  }

  function greet() {
    empty.hidden = shown.messages.length > 0;
    const [head, words] = shown.error ? ["This conversation cannot be loaded", shown.error.message]
      : shown.loaded ? [titleOf(app, chat.name), "No messages yet. Say hello."] : ["", "Loading…"];
    empty.replaceChildren(h("h2", {}, head), h("p", { class: "soft" }, words));
  }

  // The keyboard of a phone, or a window that gets smaller, must not hide the last message.
  const watcher = new ResizeObserver(() => { if (atEnd) pane.scrollTop = pane.scrollHeight; });
  watcher.observe(pane);
  return { node, show, seen, end: () => {
    wanted = undefined;
    watcher.disconnect();
  } };
}

const last = (snapshot) => snapshot?.messages.at(-1);

// keyOf returns what stays the same of a message from when it is written.
const keyOf = (message) => (message.client_msg_id ? `${message.from} ${message.client_msg_id}` : message.message_id);
