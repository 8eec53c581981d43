// The list of conversations, above it who is signed in and how the connection is.
import { arrange, keyed } from "./arrange.js";
import { beginChat, beginGroup } from "./begin.js";
import { connection } from "./connection.js";
import { h } from "./dom.js";
import { icon, iconButton } from "./icons.js";
import { avatar, nameOf } from "./people.js";
import { isMuted } from "./settings.js";
import { brief } from "./times.js";
import { avatarOf, groupOf, peerOf, titleOf } from "./title.js";

// sidebar fills the place and returns a function that is to be called when another conversation is open.
export function sidebar(place, app) {
  const { client, me } = app;
  const list = h("ul", { class: "conversations" });
  const none = h("div", { class: "empty" }, h("h2", {}, "No conversations yet"), h("p", { class: "soft" }, "Begin one with the buttons above."));
  const more = h("button", { type: "button", class: "more", onclick: () => app.attempt(() => client.inbox.loadMore()) }, "More conversations");
  let opened = false; // hidden conversations are shown
  const others = h("button", { type: "button", class: "more", onclick: () => { opened = !opened; show(); } });
  place.replaceChildren(
    h("header", { class: "bar" }, avatar(me, nameOf(me)),
      h("div", { class: "who" }, h("h1", {}, nameOf(me)), h("span", { class: "soft" }, String(me))),
      iconButton("plus", "New conversation", { onclick: () => beginChat(app) }),
      iconButton("group", "New group", { onclick: () => beginGroup(app) }),
      iconButton("leave", "Sign out", { onclick: app.signOut })),
    connection(app),
    h("nav", { class: "scroll", "aria-label": "List of conversations" }, list, none, others, more));

  const presences = new Map(); // by user
  const follow = (user) => {
    if (!presences.has(user)) {
      const presence = client.presence(user);
      presences.set(user, presence);
      presence.subscribe(show);
    }
    return presences.get(user).getSnapshot().online;
  };

  const row = keyed(
    (name) => h("li", {}, h("a", { href: "#" + name })),
    (item, head, title, online, current, muted, mentioned) => {
      const { conversation: name, last, unread } = head;
      const link = item.firstChild;
      link.classList.toggle("online", online);
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      arrange(link, [avatarOf(app, name),
        h("span", { class: "name" }, title, online && h("span", { class: "hidden" }, ", online"),
          head.pinned && sign("pinned"), muted && sign("muted")),
        last?.timestamp && h("time", { class: "soft" }, brief(last.timestamp)),
        h("span", { class: "preview soft" }, preview(app, name, last)),
        unread > 0 && h("span", { class: muted && !mentioned ? "count quiet" : "count" }, mentioned && "@ ", unread > 998 ? "999+" : String(unread),
          h("span", { class: "hidden" }, mentioned ? " unread, you are mentioned" : " unread")),
      ].filter(Boolean));
    });
  function entry(head) {
    const name = head.conversation;
    const peer = peerOf(name, me);
    return row(name, head, titleOf(app, name), peer !== undefined && peer !== me && follow(peer), app.current() === name,
      isMuted(head), head.unread > 0 && app.mentions.in(head));
  }

  function show() {
    const { conversations, loaded, more: further } = client.inbox.getSnapshot();
    const hidden = conversations.filter((head) => head.hidden);
    const rest = conversations.filter((head) => !head.hidden);
    arrange(list, [...rest.filter((head) => head.pinned), ...rest.filter((head) => !head.pinned), ...(opened ? hidden : [])].map(entry));
    others.hidden = hidden.length === 0;
    others.setAttribute("aria-expanded", String(opened));
    others.textContent = opened ? "Without hidden ones" : `Hidden ones (${hidden.length})`;
    none.hidden = !loaded || conversations.length > 0;
    more.hidden = !further;
    const unread = conversations.filter((head) => !isMuted(head) || app.mentions.in(head)).reduce((sum, head) => sum + head.unread, 0);
    document.title = unread ? `(${unread}) Millrace chat` : "Millrace chat";
  }
  client.inbox.subscribe(show);
  app.groups.subscribe(show);
  app.mentions.subscribe(show);
  show();
  return show;
}

const sign = (name) => h("span", {}, icon(name), h("span", { class: "hidden" }, `, ${name}`));

function preview(app, name, last) {
  if (!last) return "No messages yet";
  if (last.recalled) return "Message recalled";
  const text = (last.content ?? "").slice(0, 200);
  if (last.from === app.me) return "You: " + text;
  return groupOf(name) ? `${nameOf(last.from)}: ${text}` : text;
}
