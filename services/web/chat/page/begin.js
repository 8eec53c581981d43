// The dialogs by which a conversation or a group begins.
import { dialog, form } from "./dialog.js";
import { field, h } from "./dom.js";
import { known, nameOf, parseUsers } from "./people.js";

// directName returns the name of the conversation of two users.
const directName = (a, b) => `u:${Math.min(a, b)}:${Math.max(a, b)}`;

export function beginChat(app) {
  const user = h("input", { name: "peer", inputmode: "numeric", pattern: "[1-9][0-9]{0,15}", autocomplete: "off", required: true, list: "known" });
  const shown = dialog("New conversation", form("column", [
    field("Number of the user", user),
    h("datalist", { id: "known" }, known().map((id) => h("option", { value: id }, nameOf(id)))),
  ], "Begin", () => {
    shown.close();
    app.open(directName(app.me, Number(user.value)));
  }));
}

export function beginGroup(app) {
  const name = h("input", { name: "name", autocomplete: "off", required: true, maxlength: 64 });
  const boxes = known().filter((id) => id !== app.me).map((id) => h("input", { type: "checkbox", value: id }));
  const others = h("input", { name: "others", autocomplete: "off", placeholder: "1005, 1006" });
  const shown = dialog("New group", form("column", [
    field("Name", name),
    boxes.length > 0 && h("fieldset", {}, h("legend", {}, "Members"),
      boxes.map((box) => h("label", { class: "box" }, box, nameOf(Number(box.value))))),
    field("Members by number", others),
  ], "Create", async () => {
    const members = [...boxes.filter((box) => box.checked).map((box) => Number(box.value)), ...parseUsers(others.value)];
    const group = await app.client.groups.create({ name: name.value, members });
    shown.close();
    app.open(`g:${group.group_id}`);
  }));
}
