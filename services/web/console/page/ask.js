// ask has the user confirm what is about to be done, and resolves to the reason that it gives, an empty text where none is wanted,
// or null if it is not to be done.
import { field, h } from "./dom.js";

export function ask(question, action, wantsReason) {
  const why = h("input", { name: "why", required: true, maxlength: 256 });
  return new Promise((resolve) => {
    let given = null;
    const dialog = h("dialog", { "aria-label": question, onclose: () => { dialog.remove(); resolve(given); } },
      h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); given = wantsReason ? why.value : ""; dialog.close(); } },
        h("p", {}, question), wantsReason && field("Why", why), h("button", {}, action),
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
    document.body.append(dialog);
    dialog.showModal();
  });
}
