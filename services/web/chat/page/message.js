// One message.
import { h } from "./dom.js";
import { icon, iconButton } from "./icons.js";
import { avatar, list, nameOf } from "./people.js";
import { clock } from "./times.js";
import { groupOf } from "./title.js";

const kinds = { 2: "Image", 3: "File", 4: "Audio", 5: "Video", 6: "Location" };

// bubble fills the item of a list with a message: first of those that its sender wrote in a row; read by the other side; open if
// what can be done with it is shown, which act changes.
export function bubble(item, it) {
  const { app, chat, message, first, open, act } = it;
  const mine = message.from === app.me;
  const inGroup = groupOf(chat.name) !== undefined;
  item.className = ["message", mine ? "mine" : "theirs", first && "first", message.state, message.recalled && "recalled"].filter(Boolean).join(" ");
  const deeds = actions(it);
  item.replaceChildren(...[
    !mine && inGroup && (first ? avatar(message.from, nameOf(message.from)) : h("span", { class: "avatar none" })),
    h("div", { class: "bubble" },
      h("span", { class: inGroup && first && !mine ? "author" : "hidden" }, mine ? "You: " : nameOf(message.from) + (inGroup && first ? "" : ": ")),
      kinds[message.message_type] && h("span", { class: "kind" }, kinds[message.message_type]),
      h("p", {}, text(message)),
      h("span", { class: "meta" }, message.edited_at && !message.recalled && h("span", {}, "edited"),
        message.timestamp && h("time", { datetime: new Date(message.timestamp * 1000).toISOString() }, clock(message.timestamp)),
        mine && !message.recalled && tick(it))),
    message.state === "failed" && failed(it),
    deeds.length > 0 && iconButton("more", open ? "Hide actions" : "Actions", { class: "plain act", "aria-expanded": String(open), "data-part": "act", onclick: act }),
    open && deeds.length > 0 && h("div", { class: "deeds", role: "group", "aria-label": "Actions" }, deeds),
  ].filter(Boolean));
}

function text(message) {
  if (message.moderated) return `Removed by moderation: ${message.moderated}`;
  return message.recalled ? "Message recalled" : message.content ?? "";
}

function tick({ message, read }) {
  const [name, words] = message.state === "pending" ? ["pending", "waiting to be sent"]
    : message.state === "failed" ? ["close", "not sent"]
    : read ? ["read", "read"] : ["sent", "sent"];
  return h("span", { class: `tick ${name}`, title: words }, icon(name), h("span", { class: "hidden" }, words));
}

function failed({ chat, message }) {
  return h("div", { class: "failure", role: "group", "aria-label": "Not sent" },
    h("span", {}, `Not sent: ${message.error?.message ?? "refused"}`),
    h("button", { type: "button", class: "quiet", onclick: () => chat.retry(message.client_msg_id) }, "Retry"),
    h("button", { type: "button", class: "quiet", onclick: () => chat.discard(message.client_msg_id) }, "Discard"));
}

// actions returns buttons for what this user may do with the message.
function actions({ app, chat, write, message, mayRecall, act }) {
  if (message.recalled || message.seq === undefined) return [];
  const mine = message.from === app.me;
  const button = (words, run) => h("button", { type: "button", class: "quiet", onclick: () => { act(); run(); } }, words);
  const buttons = [];
  if (mine) buttons.push(button("Edit", () => write.edit(message)));
  if (mine || mayRecall) buttons.push(button("Recall", () => { write.focus(); return app.attempt(() => chat.recall(message.message_id)); }));
  if (mine && groupOf(chat.name)) buttons.push(button("Who has read it", () => app.attempt(async () => {
    const readers = (await chat.readers(message.seq)).map(({ user }) => user).filter((user) => user !== app.me);
    app.say(readers.length ? `Read by ${list(readers)}` : "Nobody has read it yet");
  })));
  return buttons;
}
