// Events as they come.
import { events } from "./api.js";
import { field, h } from "./dom.js";
import { tell } from "./main.js";

const most = 500;

export function tail(place, signal) {
  const user = h("input", { name: "user", inputmode: "numeric" });
  const conversation = h("input", { name: "conversation" });
  const type = h("input", { name: "type", placeholder: "new_message" });
  const contents = h("input", { name: "contents", type: "checkbox" });
  const list = h("ol", { class: "events", "aria-label": "Events, the latest first" });
  const start = h("button", {}, "Follow");
  let running;

  const add = (text) => {
    list.prepend(h("li", {}, text));
    while (list.childElementCount > most) list.lastElementChild.remove();
  };
  async function follow() {
    running?.abort();
    running = new AbortController();
    const ending = AbortSignal.any([running.signal, signal]);
    list.replaceChildren();
    try {
      await events({ user: user.value, conversation: conversation.value, type: type.value, contents: contents.checked ? "true" : "" }, ending, (kind, data) => {
        if (kind === "begun") tell("the tail has begun");
        else if (kind === "skipped") add(`… ${data} records skipped`);
        else if (kind === "fault") add("fault: " + data);
        else add([data.pos, data.event.type, JSON.stringify(data.event.message ?? data.event), data.correlation_id, data.fault].filter(Boolean).join("  "));
      });
      tell("the server has ended the tail", true);
    } catch (fault) {
      if (fault.name !== "AbortError") tell(fault.message, true);
    }
  }
  place.append(
    h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); follow(); } },
      field("User", user), field("Conversation", conversation), field("Type", type),
      h("label", { class: "inline" }, contents, "with contents"), start,
      h("button", { type: "button", onclick: () => { running?.abort(); tell("stopped"); } }, "Stop")),
    list);
}
