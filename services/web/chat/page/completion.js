// Proposes whom a message may mention while the word before the cursor begins with "@".
import { h } from "./dom.js";
import { avatar, nameOf } from "./people.js";

const most = 6;

// completion returns the list of proposals for the field, and what is to be called when the field or a key in it changes.
// candidates returns the users who can be mentioned.
export function completion(input, candidates) {
  const list = h("ul", { id: "people", role: "listbox", "aria-label": "Who is mentioned", hidden: true });
  const told = h("span", { class: "hidden", role: "status" });
  for (const [name, value] of [["autocomplete", "list"], ["haspopup", "listbox"], ["controls", list.id]]) input.setAttribute("aria-" + name, value);
  let found = [];
  let chosen = 0;

  // begun returns what is written after the "@".
  const begun = () => /(?<![\p{L}\p{N}])@([\p{L}\p{N}]*(?: [\p{L}\p{N}]*)?)$/u.exec(input.value.slice(0, input.selectionStart))?.[1].toLowerCase();

  function update() {
    const word = begun();
    found = word === undefined ? [] : candidates().filter((user) =>
      nameOf(user).toLowerCase().startsWith(word) || String(user).startsWith(word)).slice(0, most);
    chosen = 0;
    told.textContent = found.length ? `${found.length} to choose from with the arrow keys` : "";
    show();
  }

  function show() {
    list.hidden = found.length === 0;
    list.replaceChildren(...found.map((user, i) => h("li", {
      id: `person-${i}`, role: "option", "aria-selected": String(i === chosen),
      onpointerdown: (e) => e.preventDefault(), // the field keeps the focus
      onclick: () => take(user),
    }, avatar(user, nameOf(user)), h("span", { class: "name" }, nameOf(user)), h("span", { class: "soft" }, String(user)))));
    if (found.length) input.setAttribute("aria-activedescendant", `person-${chosen}`);
    else input.removeAttribute("aria-activedescendant");
  }

  function take(user) {
    const from = input.selectionStart - begun().length;
    input.setRangeText(nameOf(user) + " ", from, input.selectionStart, "end");
    input.dispatchEvent(new Event("input"));
  }

  function close() {
    found = [];
    told.textContent = "";
    show();
  }

  // key reports whether the key was meant for the list.
  function key(e) {
    if (found.length === 0) return false;
    if (e.key === "ArrowDown") chosen = (chosen + 1) % found.length;
    else if (e.key === "ArrowUp") chosen = (chosen + found.length - 1) % found.length;
    else if (e.key === "Escape") found = [];
    else if ((e.key === "Enter" || e.key === "Tab") && !e.shiftKey) take(found[chosen]);
    else return false;
    e.preventDefault();
    show();
    return true;
  }
  input.addEventListener("blur", close);
  return { nodes: [list, told], update, key, close };
}
