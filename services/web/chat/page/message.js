// One message.
import { h } from "./dom.js";
import { icon, iconButton } from "./icons.js";
import { avatar, list, nameOf } from "./people.js";
import { split } from "./mention.js";
import { kindOf, quote, textOf } from "./quote.js";
import { clock } from "./times.js";
import { groupOf } from "./title.js";

// bubble fills the item of a list with a message: first of those that its sender wrote in a row; read by the other side; open if
// what can be done with it is shown, which act changes; original is what it replies to, if that is here, and jump goes there.
export function bubble(item, it) {
  const { app, chat, message, first, open, act, original, jump } = it;
  const mine = message.from === app.me;
  const inGroup = groupOf(chat.name) !== undefined;
  const called = !mine && !message.recalled && message.mentions?.includes(app.me);
  item.className = ["message", mine ? "mine" : "theirs", first && "first", message.state, message.recalled && "recalled", called && "called"].filter(Boolean).join(" ");
  const deeds = actions(it);
  item.replaceChildren(...[
    !mine && inGroup && (first ? avatar(message.from, nameOf(message.from)) : h("span", { class: "avatar none" })),
    h("div", { class: "bubble" },
      h("span", { class: inGroup && first && !mine ? "author" : "hidden" }, mine ? "You: " : nameOf(message.from) + (inGroup && first ? "" : ": ")),
      called && h("span", { class: "hidden" }, "Mentions you: "),
      message.reply_to && !message.recalled && quote(app, original, jump),
      kindOf(message) && h("span", { class: "kind" }, kindOf(message)),
      h("p", {}, message.recalled || message.moderated ? textOf(message) : marked(textOf(message), message.mentions ?? [], app.me)),
      h("span", { class: "meta" }, message.edited_at && !message.recalled && h("span", {}, "edited"),
        message.timestamp && h("time", { datetime: new Date(message.timestamp * 1000).toISOString() }, clock(message.timestamp)),
        mine && !message.recalled && tick(it))),
    message.state === "failed" && failed(it),
    deeds.length > 0 && iconButton("more", open ? "Hide actions" : "Actions", { class: "plain act", "aria-expanded": String(open), "data-part": "act", onclick: act }),
    open && deeds.length > 0 && h("div", { class: "deeds", role: "group", "aria-label": "Actions" }, deeds),
  ].filter(Boolean));
}

// marked returns the text with the mentions in it marked.
const marked = (text, users, me) => split(text, users).map(({ text: part, user }) =>
  (user ? h("mark", { class: user === me && "me" }, part) : part));

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
  const buttons = [button("Reply", () => write.reply(message))];
  if (mine) buttons.push(button("Edit", () => write.edit(message)));
  if (mine || mayRecall) buttons.push(button("Recall", () => { write.focus(); return app.attempt(() => chat.recall(message.message_id)); }));
  if (mine && groupOf(chat.name)) buttons.push(button("Who has read it", () => app.attempt(async () => {
    const readers = (await chat.readers(message.seq)).map(({ user }) => user).filter((user) => user !== app.me);
    app.say(readers.length ? `Read by ${list(readers)}` : "Nobody has read it yet");
  })));
  return buttons;
}
