// Dialogs. One is gone once it is closed.
import { h } from "./dom.js";
import { iconButton } from "./icons.js";

let dialogs = 0;

// dialog opens one with the parts.
export function dialog(title, parts) {
  const id = `dialog-${++dialogs}`;
  const shown = h("dialog", { "aria-labelledby": id, onclose: () => shown.remove() },
    h("header", { class: "row" }, h("h2", { id }, title), iconButton("close", "Close", { onclick: () => shown.close() })), parts);
  document.body.append(shown);
  shown.showModal();
  shown.querySelector("select, input:not([type=checkbox])")?.focus();
  return shown;
}

// form returns a form whose button has the words of the action. Submitting it calls done; what that throws is shown.
export function form(layout, parts, action, done) {
  const wrong = h("p", { class: "bad", role: "alert" });
  return h("form", { class: layout, onsubmit: async (e) => {
    e.preventDefault();
    wrong.textContent = "";
    try {
      await done();
    } catch (fault) {
      wrong.textContent = fault.message;
    }
  } }, parts, h("button", { class: "strong" }, action), wrong);
}
