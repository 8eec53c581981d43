// The conversation that is open.
import { composer } from "./composer.js";
import { h } from "./dom.js";
import { icon, iconButton } from "./icons.js";
import { log } from "./log.js";
import { members } from "./members.js";
import { list } from "./people.js";
import { headOf, isMuted, settings } from "./settings.js";
import { brief } from "./times.js";
import { avatarOf, groupOf, peerOf, titleOf } from "./title.js";

// conversation fills the place and returns a function that is to be called when it is left.
export function conversation(place, app, name) {
  const chat = app.client.conversation(name);
  const group = groupOf(name);
  const peer = peerOf(name, app.me);
  const presence = peer !== undefined && peer !== app.me ? app.client.presence(peer) : undefined;

  const face = h("span");
  const title = h("h1", { id: "title" });
  const below = h("p", { class: "soft", id: "below" });
  const people = () => (group ? app.groups.of(group)?.members ?? [] : [peer]).filter((user) => user !== app.me);
  const write = composer(app, chat, people);
  const messages = log(app, chat, write);
  place.replaceChildren(
    h("header", { class: "bar" },
      h("a", { class: "plain back", href: "#", "aria-label": "Back to the list", title: "Back to the list" }, icon("back")),
      face, h("div", { class: "who" }, title, below),
      group && iconButton("group", "Members", { onclick: () => members(app, group) }),
      iconButton("settings", "Settings", { onclick: () => settings(app, name) })),
    messages.node, write.node);

  function head() {
    const { typing } = chat.getSnapshot();
    title.replaceChildren(titleOf(app, name), ...(isMuted(headOf(app, name)) ? [icon("muted"), h("span", { class: "hidden" }, ", muted")] : []));
    face.replaceChildren(avatarOf(app, name));
    below.classList.toggle("typing", typing.length > 0);
    below.textContent = typing.length ? (group ? `${list(typing)} ${typing.length > 1 ? "are" : "is"} typing…` : "typing…") : about();
  }

  // about says what there is to know of who is on the other side.
  function about() {
    if (group) {
      const known = app.groups.of(group);
      if (known === null) return "You are no member of this group";
      return known ? (known.members.length > 12 ? `${known.members.length} members` : list(known.members)) : "";
    }
    if (!presence) return "Only you see what you write here";
    const { online, last_seen } = presence.getSnapshot();
    if (online) return "online";
    return last_seen ? `last seen ${brief(last_seen)}` : "offline";
  }

  function show() {
    head();
    messages.show();
  }
  const ends = [chat.subscribe(show), app.groups.subscribe(show), app.client.inbox.subscribe(head), presence?.subscribe(head), messages.end];
  const seen = () => messages.seen();
  addEventListener("focus", seen);
  document.addEventListener("visibilitychange", seen);
  show();
  write.focus();
  return () => {
    for (const end of ends) end?.();
    removeEventListener("focus", seen);
    document.removeEventListener("visibilitychange", seen);
  };
}

