// One record of the poison queue.
import { get } from "./api.js";
import { field, h, table } from "./dom.js";
import { tell } from "./main.js";

// look shows one record. Its content is shown when asked for.
export function look(topic, record, run) {
  const content = h("div", {}, h("button", { onclick: async () => {
    try {
      const whole = await get("/v1/poison/" + encodeURIComponent(record.id), { topic });
      content.replaceChildren(
        table("Headers", ["Name", "Value"], Object.entries(whole.headers ?? {}).sort()),
        h("h3", {}, whole.cut ? "The beginning of its value" : "Value"), h("pre", {}, whole.value ?? ""));
    } catch (fault) {
      content.replaceChildren(h("p", { class: "bad" }, fault.message));
    }
  } }, "Show headers and content"));
  const act = (action, body) => async () => {
    try {
      await run(action, { ids: [record.id] }, body());
      dialog.close();
    } catch (fault) {
      tell(fault.message, true);
    }
  };
  const why = h("input", { name: "why" });
  const dialog = h("dialog", { "aria-label": "A record of the poison queue", onclose: () => dialog.remove() },
    h("h2", {}, `${record.handler} could not handle ${record.position}`), h("p", {}, record.reason), content,
    h("p", {}, h("button", { onclick: act("replay", () => ({})) }, "Replay"), " ", field("Why discard it", why), " ",
      h("button", { onclick: act("discard", () => ({ why: why.value })) }, "Discard"), " ",
      h("button", { onclick: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}
