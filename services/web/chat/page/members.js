// The dialog of a group: its members, what they are there, and what this user may change.
import { dialog, form } from "./dialog.js";
import { field, h } from "./dom.js";
import { roleOf } from "./groups.js";
import { avatar, nameOf, parseUsers } from "./people.js";

const hour = 3600;

export function members(app, id) {
  const { client: { groups }, me } = app;
  const name = h("input", { name: "rename", required: true, maxlength: 64, autocomplete: "off" });
  const more = h("input", { name: "add", required: true, inputmode: "numeric", autocomplete: "off", placeholder: "1004" });
  const list = h("ul", { class: "people" });
  const adding = form("row", field("Add users by number", more), "Add", async () => {
    for (const user of parseUsers(more.value)) await groups.add(id, user);
    more.value = "";
  });
  const renaming = form("row", field("Name of the group", name), "Rename", () => groups.rename(id, name.value));
  const parting = h("button", { type: "button", class: "quiet bad", onclick: () => app.attempt(async () => {
    await (parting.dataset.owner ? groups.dissolve(id) : groups.leave(id));
    shown.close();
    app.open("");
  }) });
  const shown = dialog("Group", h("div", { class: "column" }, list, adding, renaming, parting));
  const deed = (label, work) => h("button", { type: "button", class: "quiet", onclick: () => app.attempt(work) }, label);

  // person returns the row of a member, with what this user, who is of the role mine, may do about it.
  function person(group, mine, user) {
    const role = roleOf(group, user);
    const muted = (group.muted?.[user] ?? 0) > Date.now() / 1000;
    const above = mine === "owner" ? user !== me : mine === "admin" && role === "member";
    const other = role === "admin" ? "member" : "admin";
    return h("li", { class: "person" }, avatar(user, nameOf(user)),
      h("span", { class: "name" }, nameOf(user) + (user === me ? " (you)" : "")),
      h("span", { class: "soft" }, muted ? `${role}, muted` : role),
      above && h("span", { class: "deeds", role: "group", "aria-label": nameOf(user) },
        mine === "owner" && deed(`Make ${other}`, () => groups.setRole(id, user, other)),
        mine === "owner" && deed("Make owner", () => groups.setRole(id, user, "owner")),
        role === "member" && deed(muted ? "Unmute" : "Mute for an hour", () => groups.mute(id, muted ? 0 : Math.floor(Date.now() / 1000) + hour, user)),
        deed("Remove", () => groups.remove(id, user))));
  }

  function show() {
    const group = app.groups.of(id);
    if (group === null) return shown.close();
    if (!group) return undefined;
    const mine = roleOf(group, me);
    shown.querySelector("h2").textContent = group.name;
    list.replaceChildren(...group.members.map((user) => person(group, mine, user)));
    adding.hidden = renaming.hidden = mine === "member";
    if (document.activeElement !== name) name.value = group.name;
    parting.textContent = mine === "owner" ? "Dissolve the group" : "Leave the group";
    parting.dataset.owner = mine === "owner" ? "yes" : "";
    return undefined;
  }
  shown.addEventListener("close", app.groups.subscribe(show));
  show();
}
